"""Layers that are faster here than torch's own, with the same parameters and the same results."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["PReLU"]


class PReLU(nn.PReLU):
    """PReLU with a slope per channel: `max(x, 0) + slope * min(x, 0)`, quicker to train on a CPU than `torch.nn.PReLU`.

    torch's CPU kernels for a slope per channel are slow, above all backward: half of a training step of ENet. A few
    vectorised passes over the whole tensor take a third of that. Elsewhere (inference, other devices, compiled or
    exported programs) this is `torch.nn.PReLU`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Maps float (N, C, H, W) to the same shape."""
        if features.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(features)
        slope = self.weight.to(features.dtype).view(-1, 1, 1)
        output: Tensor = _RowwisePReLU.apply(features, slope)
        return output


class _RowwisePReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(features, slope)
        return features.clamp(max=0).mul_(slope).add_(features.relu())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        features, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, features, 0)  # gradient where features > 0, else 0
        below = gradient - above
        slope_gradient = (below * features).sum((0, 2, 3)).view_as(slope)
        return above.add_(below.mul_(slope)), slope_gradient
