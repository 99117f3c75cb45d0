"""Losses of a batch that is computed in parts: by several processes, or one after the other where memory is short.

The mean over all pixels of a batch is not the mean of the means of its parts: these have different numbers of valid
pixels, or sums of class weights. A loss that is a mean over pixels therefore says what it divides by, as
`denominator(target)`; once that is summed over all parts, each part's loss is multiplied by its share of it, and the
parts add up to the loss of the whole batch, as do their gradients.

Losses without that method are averaged over the parts: those of regions, whose areas are those of one part; and those
that choose or weigh pixels by the predictions or the targets of one part (`OhemCrossEntropyLoss`, `BoundaryLoss`,
`DetailLoss`, `BoundaryAwareLoss`). Losses that are sums are added up.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["PixelMean", "SharedLoss", "denominators", "share_of", "shared_value"]


@runtime_checkable
class PixelMean(Protocol):
    """A loss that is a mean over pixels."""

    def denominator(self, target: Tensor) -> Tensor:
        """Returns what the sum of the pixels' losses is divided by, 0-d; 0 where the loss is a sum."""


@runtime_checkable
class SharedLoss(Protocol):
    """A loss made of others; its `forward` takes `shares`, as many as its `denominators` are."""

    def denominators(self, target: Tensor) -> Tensor:
        """Returns what the means within the loss are divided by, float (n,)."""


def denominators(loss: nn.Module, target: Tensor) -> Tensor:
    """Returns what `loss` divides by: float64 (n,) (float32 where the device has no more), n = 1 for a plain loss.

    Args:
        loss: of logits and label maps.
        target: any integer type (N, ...), class ids and the ignored value.
    """
    dtype = torch.float32 if target.device.type == "mps" else torch.float64
    if isinstance(loss, SharedLoss):
        return loss.denominators(target)
    if isinstance(loss, PixelMean):
        return loss.denominator(target).to(dtype).view(1)
    # every part counts the same, but a sum has nothing that it is divided by
    return torch.full((1,), 0 if getattr(loss, "reduction", "mean") == "sum" else 1, dtype=dtype, device=target.device)


def share_of(own: Tensor, total: Tensor) -> Tensor:
    """Returns the shares of a part: 1 where nothing is divided, in sums and where no pixel is valid.

    Args:
        own: denominators of the part, float (n,).
        total: their sums over all parts, float (n,).
    """
    return torch.where(total > 0, own / total.where(total > 0, 1), 1)


def shared_value(loss: nn.Module, shares: Tensor | None, *arguments: Tensor) -> Tensor:
    """Returns `loss(*arguments)`, or what it adds to the loss of the whole batch.

    Args:
        loss: of logits and label maps.
        shares: as many as `denominators` has for `loss`; None where the arguments are the whole batch.
        arguments: of the loss.
    """
    options: dict[str, Any] = {}
    if shares is not None and isinstance(loss, SharedLoss):
        options["shares"] = shares
    value: Tensor = loss(*arguments, **options)
    return value if shares is None or options else value * shares[0].to(value.dtype)
