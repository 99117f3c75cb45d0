"""Cross entropy over pixels.

As `torch.nn.CrossEntropyLoss` with three differences: targets of any integer type are taken, logits in half precision
are computed in float32, and a batch without a valid pixel gives a 0 that still has a graph instead of NaN.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError

__all__ = ["CrossEntropyLoss"]

_REDUCTIONS = ("mean", "sum", "none")


class CrossEntropyLoss(nn.Module):
    """Cross entropy between class logits and label maps.

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: `"mean"` (sum divided by the sum of the valid pixels' weights), `"sum"` or `"none"` (0 for ignored
            pixels), as PyTorch defines them.
        label_smoothing: fraction 0 to 1 of the target that is spread evenly over all classes.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise InvalidArgumentError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
        if not 0 <= label_smoothing <= 1:
            raise InvalidArgumentError(f"label_smoothing must lie in 0 to 1, got {label_smoothing!r}")
        self.register_buffer("weight", _checked_weight(weight), persistent=False)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (N, ...) where `reduction="none"`.

        Args:
            logits: float (N, K, ...), one plane per class.
            target: any integer type (N, ...), class ids and `ignore_index`.

        Raises:
            InvalidArgumentError: if the shapes do not belong together, the target is not of integers, or there is not
                one weight per class.
        """
        _check(logits, target, self.weight)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        target = target.long()
        weight = None if self.weight is None else self.weight.to(logits)
        loss = F.cross_entropy(
            logits,
            target,
            weight,
            ignore_index=self.ignore_index,
            reduction="none" if self.reduction == "none" else "sum",
            label_smoothing=self.label_smoothing,
        )
        if self.reduction != "mean":
            return loss
        valid = target != self.ignore_index
        if weight is None:
            total = valid.sum().to(loss.dtype)
        else:
            total = torch.where(valid, weight[target.where(valid, 0)], 0).sum()
        # The sum of no pixels is 0 with a graph; divided by 1 it stays so.
        return loss / total.where(total > 0, 1)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        weight = "" if self.weight is None else f"weight={[round(w, 4) for w in self.weight.tolist()]}, "
        return (
            f"{weight}ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )


def _checked_weight(weight: Tensor | Sequence[float] | None) -> Tensor | None:
    if weight is None:
        return None
    # A copy, so that what the caller does with the argument later does not change the loss.
    values = torch.as_tensor(weight).detach().clone()
    values = values if values.dtype == torch.float64 else values.float()
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise InvalidArgumentError(
            f"weight must hold one finite number of at least 0 per class, got {values.tolist()}; see "
            "seg_train.class_weights"
        )
    return values


def _check(logits: Tensor, target: Tensor, weight: Tensor | None) -> None:
    if logits.ndim < 2 or target.shape != logits.shape[:1] + logits.shape[2:]:
        raise InvalidArgumentError(
            f"logits (N, K, ...) and target (N, ...) must agree, got {tuple(logits.shape)} and {tuple(target.shape)}; "
            "resize the logits to the target first"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InvalidArgumentError(f"target must hold class ids of an integer type, got {target.dtype}")
    if weight is not None and len(weight) != logits.shape[1]:
        raise InvalidArgumentError(
            f"weight has {len(weight)} entries but the logits have {logits.shape[1]} classes; give one per class"
        )
