"""The loss over a whole split, independent of batch size and number of processes."""

import math
from collections.abc import Callable, Iterator
from typing import TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from seg_train.losses.combined import CombinedLoss
from seg_train.losses.micro_batches import PixelMean

__all__ = ["SplitLoss"]

_Criterion = Callable[[Tensor, Tensor], Tensor]


class SplitLoss:
    """Collects the loss of images one by one.

    - A loss that is a mean over pixels: the sum over all pixels of the split, divided by the sum of their weights.
    - `CombinedLoss`: the sum of its losses, each by its own rule, times its factor.
    - Any other loss, such as region losses: computed per image, and averaged over the images that have a valid pixel.

    The values of single images are added up exactly (`math.fsum`), so that the result does not depend on batches and
    processes.

    Args:
        criterion: `(logits, target) -> loss`, one number.
        ignore_index: value of pixels that are not counted.
    """

    def __init__(self, criterion: _Criterion, ignore_index: int) -> None:
        self._ignore_index = ignore_index
        self._parts = list(_parts(criterion, 1.0))
        self._values: list[Tensor] = []
        self._own: list[list[float]] = []

    def add(self, logits: Tensor, masks: Tensor) -> None:
        """Computes the loss of each image, without waiting for the device.

        Args:
            logits: float (N, K, H, W).
            masks: any integer type (N, H, W), class ids and `ignore_index`.
        """
        masks = masks.long()  # as in training: torch's own losses take no other type
        exact = torch.float32 if logits.device.type == "mps" else torch.float64
        for image, mask in zip(torch.split(logits, 1), torch.split(masks, 1), strict=True):
            row = []
            valid = (mask != self._ignore_index).any()
            for _, loss in self._parts:
                value = loss(image, mask).to(exact)
                if _is_pixel_mean(loss):
                    weight = loss.denominator(mask).to(exact)
                    row += [value * weight, weight]
                else:
                    row += [value.where(valid, 0), valid.to(value)]
            self._values.append(torch.stack(row))

    @property
    def is_measured(self) -> bool:
        """Whether there were logits to compute the loss from."""
        return bool(self._values or self._own)

    def value(self) -> float:
        """Returns the loss over everything that was added; NaN if no pixel was valid."""
        self._read()
        return self._combine(self._own)

    def value_of_all_processes(self) -> float:
        """Returns the loss over what all processes added; every process must call it."""
        self._read()
        if not (dist.is_available() and dist.is_initialized()):
            return self._combine(self._own)
        gathered: list[list[list[float]]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(gathered, self._own)
        return self._combine([row for rows in gathered for row in rows])

    def _read(self) -> None:
        if self._values:
            self._own += torch.stack(self._values).tolist()
            self._values = []

    def _combine(self, rows: list[list[float]]) -> float:
        total = 0.0
        for number, (factor, _) in enumerate(self._parts):
            weight = math.fsum(row[2 * number + 1] for row in rows)
            total += factor * (_sum(row[2 * number] for row in rows) / weight if weight else math.nan)
        return total


def _sum(values: Iterator[float]) -> float:
    found = list(values)
    # fsum raises if infinities of both signs meet
    return math.fsum(found) if all(map(math.isfinite, found)) else sum(found)


def _parts(criterion: _Criterion, factor: float) -> Iterator[tuple[float, _Criterion]]:
    """Yields factor and loss of each term of a criterion."""
    if isinstance(criterion, CombinedLoss):
        for own, loss in zip(criterion.factors, criterion.losses, strict=True):
            if own:
                yield from _parts(loss, factor * own)
    else:
        yield factor, criterion


def _is_pixel_mean(loss: _Criterion) -> TypeGuard[PixelMean]:
    return isinstance(loss, PixelMean) and getattr(loss, "reduction", "mean") == "mean"
