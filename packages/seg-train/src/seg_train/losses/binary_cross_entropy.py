"""Binary cross entropy over pixels, or over pixels and classes.

Differs from `torch.nn.BCEWithLogitsLoss`: it takes integer targets with ignored elements, and the mean is the sum
divided by the valid elements' class weights, as that of cross entropy is, not by the number of elements.
"""

import math
import numbers
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import BINARY, MULTILABEL
from seg_train.losses.checking import check_fraction, checked_task, checked_weight
from seg_train.losses.elements import element_loss, margins_of
from seg_train.losses.weighted import WeightedPixelLoss

__all__ = ["BinaryCrossEntropyLoss"]


class BinaryCrossEntropyLoss(WeightedPixelLoss):
    """Binary cross entropy between logits and targets of 0 and 1: the loss of one object, or of overlapping classes.

    With p the sigmoid of a logit, an element's loss is -log(1 - p) where the target is 0, and -pos_weight log p where
    it is 1.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient, per element. Masks of 0 and 255 must become
            0 and 1 first: with the default nothing but background would be left, which no loss can tell from a batch
            without an object.
        reduction: `"mean"` (sum divided by the sum of the valid elements' weights, which `pos_weight` does not change),
            `"sum"` or `"none"` (0 for ignored elements).
        label_smoothing: fraction s from 0 to 1 of the target that is spread evenly over both answers: 1 becomes
            1 - s / 2, and 0 becomes s / 2, as in cross entropy of two classes.
        pos_weight: factor > 0 of the losses of the elements whose target is 1; one number, or one per class; None for
            1. Above 1, recall counts more than precision; the number of zeros divided by that of ones balances them.
        task: `"binary"` or `"multilabel"`.

    Raises:
        InvalidArgumentError: if an argument is not allowed.

    Example:
        >>> logits, masks = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
        >>> round(float(BinaryCrossEntropyLoss()(logits, masks)), 4)
        0.6931
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        pos_weight: Tensor | Sequence[float] | float | None = None,
        task: str = BINARY,
    ) -> None:
        task = checked_task("BinaryCrossEntropyLoss", task, (BINARY, MULTILABEL), "CrossEntropyLoss")
        super().__init__(weight, ignore_index, reduction, task)
        check_fraction("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        self.register_buffer("pos_weight", _checked_pos_weight(pos_weight), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or the target's shape with `reduction="none"`.

        Args:
            logits: float (N, K, ...), one channel per class; K = 1 for `task="binary"`.
            target: any integer type, 0, 1 and `ignore_index`: (N, ...) or (N, 1, ...) for `task="binary"`, (N, K, ...)
                for `"multilabel"`.

        Raises:
            InvalidArgumentError: if shapes do not match, the target is not of an integer type, or the number of
                weights is not the number of classes.
            LabelOutOfRangeError: if the target contains any other value. On CUDA and in compiled code the loss is NaN
                instead.
        """
        elements = margins_of(logits, target, self.task, self.ignore_index, self.weight)
        # With the margin m, of which -log(sigmoid) is the loss of the answer in the target, that of the other answer is
        # -log(sigmoid(-m)) = -log(sigmoid(m)) + m.
        terms = F.logsigmoid(elements.margins)
        factors, other = self._factors(elements.margins), self.label_smoothing / 2
        if factors is not None:
            # the loss of the answer 1 counts more: that of the target where it is 1, by smoothing also where it is 0
            positive, negative = factors * (1 - other) + other, 1 - other + factors * other
            terms = terms * ((positive - negative) / 2 * elements.signs + (positive + negative) / 2)
        if other > 0:
            shares = other if factors is None else other * ((1 - factors) / 2 * elements.signs + (1 + factors) / 2)
            terms = terms - (elements.margins * shares).where(elements.signs != 0, 0)
        return -element_loss(terms, elements.counts, self.weight, self.reduction, target.shape)

    def _factors(self, logits: Tensor) -> Tensor | None:
        """Returns the factors of the positive elements, broadcastable to the logits."""
        factors = self.pos_weight
        if factors is None:
            return None
        if factors.ndim and len(factors) != logits.shape[1]:
            raise InvalidArgumentError(
                f"pos_weight has {len(factors)} entries but the logits have {logits.shape[1]} channels; give one "
                "number, or one per channel"
            )
        return factors.to(logits).view(-1, *[1] * (logits.ndim - 2))

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        factors = "" if self.pos_weight is None else f", pos_weight={self.pos_weight.tolist()}"
        return f"{super().extra_repr()}, label_smoothing={self.label_smoothing}{factors}"


def _checked_pos_weight(pos_weight: object) -> Tensor | None:
    """Returns the factors as a float tensor, 0-d for one number of all classes."""
    if pos_weight is None:
        return None
    one = pos_weight.item() if isinstance(pos_weight, Tensor) and pos_weight.ndim == 0 else pos_weight
    if not isinstance(one, numbers.Real):
        factors = checked_weight(one, "pos_weight")
        if bool((factors > 0).all()):
            return factors
    elif not isinstance(one, bool) and 0 < float(one) < math.inf:
        return torch.tensor(float(one), dtype=torch.float64)
    raise InvalidArgumentError(
        f"pos_weight must be a finite number above 0, or one per class, got {pos_weight!r}: 1 counts the pixels of the "
        "object as the others, more counts them more"
    )
