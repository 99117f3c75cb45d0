"""The loss of a batch from its micro-batches, which several processes or accumulated steps compute.

The mean over all pixels of a batch is not the mean of its micro-batches' means, because these differ in the number of
valid pixels or the sum of class weights. So a loss that is a mean over pixels returns its divisor as
`denominator(target)`. The divisors are summed over all micro-batches, and the loss of each is multiplied by its share
of that sum. Then losses and gradients of the micro-batches add up to those of the whole batch.

Losses without that method are averaged over micro-batches: region losses, whose areas are those of one micro-batch, and
losses that select or weight pixels by the predictions or targets of one micro-batch (`OhemCrossEntropyLoss`,
`BoundaryLoss`, `DetailLoss`, `BoundaryAwareLoss`). Losses with reduction `"sum"` are summed.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_core.own_code import naming

__all__ = ["CompositeLoss", "PixelMean", "denominators", "micro_batch_loss", "share_of"]


@runtime_checkable
class PixelMean(Protocol):
    """A loss that is a mean over pixels."""

    def denominator(self, target: Tensor) -> Tensor:
        """Returns the divisor of the mean, 0-d; 0 if the loss is a sum."""


@runtime_checkable
class CompositeLoss(Protocol):
    """A loss composed of other losses; its `forward` takes `shares`, one for each of its `denominators`."""

    def denominators(self, target: Tensor) -> Tensor:
        """Returns the divisors of all means within the loss, float (n,)."""


def denominators(loss: nn.Module, target: Tensor) -> Tensor:
    """Returns the divisors of `loss`: float64 (n,), float32 on devices without float64; n = 1 unless it is composite.

    Args:
        loss: of logits and label maps.
        target: any integer type (N, ...), class ids and the ignored value; of other tasks see their losses.
    """
    dtype = torch.float32 if target.device.type == "mps" else torch.float64
    if isinstance(loss, CompositeLoss):
        return loss.denominators(target)
    if isinstance(loss, PixelMean):
        return loss.denominator(target).to(dtype).view(1)
    # every micro-batch counts the same; a sum has no divisor
    return torch.full((1,), 0 if getattr(loss, "reduction", "mean") == "sum" else 1, dtype=dtype, device=target.device)


def share_of(own: Tensor, total: Tensor) -> Tensor:
    """Returns the shares of a micro-batch: 1 where the total is 0, as for sums and without valid pixels.

    Args:
        own: denominators of the micro-batch, float (n,).
        total: their sums over all micro-batches, float (n,).
    """
    return torch.where(total > 0, own / total.where(total > 0, 1), 1)


def micro_batch_loss(loss: nn.Module, shares: Tensor | None, *arguments: Tensor) -> Tensor:
    """Returns the contribution of a micro-batch to the loss of the whole batch.

    Args:
        loss: of logits and label maps.
        shares: one for each of the loss's `denominators`; None if the arguments are the whole batch.
        *arguments: of the loss.

    Raises:
        InvalidArgumentError: if it returns no tensor.
    """
    options: dict[str, Any] = {}
    if shares is not None and isinstance(loss, CompositeLoss):
        options["shares"] = shares
    name = f"{type(loss).__module__}.{type(loss).__qualname__}"
    with naming("criterion", name):
        value: Tensor = loss(*arguments, **options)
    if not isinstance(value, Tensor):
        raise InvalidArgumentError(
            f"criterion: the loss {name} must return a tensor with one number, got {type(value).__name__}"
        )
    return value if shares is None or options else value * shares[0].to(value.dtype)
