"""Prediction of whole pictures in one pass."""

import torch
from torch import Tensor, nn

__all__ = ["predict_whole"]


def predict_whole(model: nn.Module, images: Tensor) -> Tensor:
    """Returns the logits of whole images, in one pass and without gradients.

    Args:
        model: a network as the builders make it, in eval mode.
        images: float (N, C, H, W), normalised RGB where C is 3, on the model's device.

    Returns:
        float (N, K, H, W), logits.
    """
    with torch.inference_mode():
        logits: Tensor = model(images)["out"]
    return logits
