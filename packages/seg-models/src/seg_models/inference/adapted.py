"""Calls any network in the way that prediction needs it: images of any size and type in, checked logits out."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from seg_core.model_files.fit import is_compiled
from seg_core.registry import MODELS
from seg_models.inference.outputs import check_num_channels, find_logits
from seg_models.networks.base import SegmentationNetwork

__all__ = ["AnySize", "adapt", "last_resize", "min_size_of"]


_LOWEST = -1e20  # a logit that excludes a class; the sum of as many as an image has pixels is finite


class AnySize(nn.Module):
    """A network that accepts float images of any size and type, and returns logits at their size.

    Small images are padded, images are converted to the type of the weights, and logits of another size are resized.
    The network's mode (train or eval) is not changed.

    Args:
        network: a network of this package, or any other that returns logits, see `find_logits`.
        num_classes: number of channels that it must return; None takes any.
        min_size: minimum height and width of its inputs; None uses the catalog's. Smaller images are padded at the
            right and bottom with zeros, the mean color, and the logits are cropped.
    """

    def __init__(self, network: nn.Module, num_classes: int | None = None, min_size: int | None = None) -> None:
        super().__init__()
        self._network = network
        self._num_classes = num_classes
        self._min_size = min_size_of(network) if min_size is None else min_size

    def logits_before_resize(self, images: Tensor) -> tuple[Tensor, bool]:
        """Returns the logits before the bilinear resize to the size of the images, if the network ends with one.

        Args:
            images: float (N, C, H, W), normalized RGB if C is 3.

        Returns:
            Logits: float32 (N, K, h, w), float64 if the network's are; the size of the images if there is no such
            resize.
            align_corners: of that resize.
        """
        corners = last_resize(self._network)
        if corners is None or self._is_small(images):
            return self._called(images), False
        output = self._network.forward_logits(self._input(images))  # type: ignore[operator]  # a Network
        return self._checked(output, images), corners

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns float32 logits (N, K, H, W) as `"out"`; float64 if the network's are."""
        logits = self._called(images)
        size = images.shape[-2:]
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return {"out": logits}

    def _called(self, images: Tensor) -> Tensor:
        """Returns what the network returns for images, padded if they are small."""
        if not self._is_small(images):
            return self._checked(self._network(self._input(images)), images)
        height, width = images.shape[-2:]
        if note := getattr(self._network, "note_of_padding", ""):  # of an exported file
            warnings.warn(f"the image has {height}x{width} pixels (height x width), {note}", stacklevel=2)
        padded = self._padded(images)
        logits = self._checked(self._network(self._input(padded)), images)
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        mean = getattr(self._network, "mean_color", None)  # of inputs that are not normalized
        if mean is None:
            return F.pad(images, (0, max(0, self._min_size - width), 0, max(0, self._min_size - height)))
        size = (max(height, self._min_size), max(width, self._min_size))
        padded = mean.to(images).expand(*images.shape[:-2], *size).clone()
        padded[..., :height, :width] = images
        return padded

    def _input(self, images: Tensor) -> Tensor:
        """Returns images in the type of the weights; a network of another library may write into them."""
        converted = images.to(_float_dtype(self._network))
        is_own = isinstance(self._network, SegmentationNetwork)
        return converted if is_own or converted is not images else converted.clone()

    def _checked(self, output: object, images: Tensor) -> Tensor:
        logits = find_logits(output, images)
        if self._num_classes is not None:
            check_num_channels(logits, self._num_classes)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        # Minus infinity excludes a class; interpolated, it would become NaN. Reading costs less than writing, but on
        # other devices the answer would have to be waited for.
        if logits.device.type == "cpu" and bool(logits.sum().isfinite()):
            return logits
        return logits.clamp(min=_LOWEST)

    def _is_small(self, images: Tensor) -> bool:
        return min(images.shape[-2:]) < self._min_size


def adapt(model: nn.Module) -> AnySize:
    """Returns an `AnySize` around `model`, or `model` if it is one.

    Warns:
        UserWarning: if its batch norms are in train mode.
    """
    if isinstance(model, AnySize):
        return model
    if getattr(model, "training", False) and any(isinstance(m, _BatchNorm) and m.training for m in model.modules()):
        warnings.warn(
            "the network is in train mode: its batch norms use the statistics of these images, and change; call "
            "model.eval() first",
            stacklevel=3,
        )
    return AnySize(model)


def min_size_of(model: nn.Module) -> int:
    """Returns the minimum height and width in pixels of a model's inputs: the catalog's, or its backbone's if larger.

    It is 1 if neither is known.
    """
    spec = getattr(model, "build_spec", None)
    listed = MODELS.entry(spec.builder) if spec is not None and spec.builder in MODELS else None
    known = (listed, getattr(model, "backbone", None), model)  # an exported file has its own
    return max(side for each in known if isinstance(side := getattr(each, "min_size", 1), int))


def _float_dtype(network: nn.Module) -> torch.dtype | None:
    """Returns the type of the weights; None if they have no floating-point type to convert images to."""
    if not isinstance(network, nn.Module):  # any function of images
        return None
    return next((tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()), None)


def last_resize(model: nn.Module) -> bool | None:
    """Returns `align_corners` of the bilinear resize that `model` ends with, which `forward_logits` leaves out.

    None if it ends with another step, or if `forward_logits` would not run what a call of the model runs.
    """
    resize = getattr(model, "upsampling", {}).get("out")
    if resize is None or resize[0] != "bilinear" or not _is_plain(model):
        return None
    return bool(resize[1])


def _is_plain(model: nn.Module) -> bool:
    """Returns whether calling a model runs its class's `forward`, and that its `forward_logits`, and nothing else."""
    own = vars(model)
    if is_compiled(model) or "forward_logits" in own:
        return False
    # accelerate replaces `forward` to compute in half precision, which evaluations do around `forward_logits` too
    if "forward" in own and getattr(own.get("_original_forward"), "__func__", None) is not type(model).forward:
        return False
    if isinstance(model, SegmentationNetwork) and type(model).forward is not SegmentationNetwork.forward:
        return False
    return not (model._forward_hooks or model._forward_pre_hooks)
