"""Tversky and focal Tversky loss: overlap against weighted false positives and false negatives."""

from collections.abc import Sequence

from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.checking import check_non_negative
from seg_train.losses.regions import AbsentClasses, ClassAreas, RegionLoss

__all__ = ["FocalTverskyLoss", "TverskyLoss"]


class TverskyLoss(RegionLoss):
    """One minus the Tversky index of the probabilities (softmax or sigmoid), averaged over the classes.

    The index of class k is (TP + smooth) / (TP + alpha FP + beta FN + smooth), summed over the valid pixels of the
    batch: with p the probability of class k, TP sums p where the target is k, FN sums 1 - p there, and FP sums p
    elsewhere (Salehi et al. 2017, https://arxiv.org/abs/1706.05721, there for one class and one image).
    `alpha=beta=0.5` is the Dice loss (with twice the `smooth`), `alpha=beta=1` the Jaccard loss.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: over classes, never over pixels or images. `"mean"` (sum of the weighted losses divided by the sum of
            the weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of
            each class, (K,), 0 for classes that do not count.
        alpha: factor of the false positives, >= 0.
        beta: factor of the false negatives, >= 0. If it is above `alpha`, recall counts more than precision. The
            defaults are the best pair in the paper.
        smooth: number of pixels >= 0 added to the numerator and the denominator of each score.
        absent: how classes absent from the batch's target count. `"skip"` leaves them out: without `smooth` their index
            is 0 whatever is predicted, so they would add a constant and take weight from the others. `"count"` treats
            them as any other class; with `smooth` that pushes their probabilities down.
        task: `"multiclass"`; `"binary"`: logits (N, 1, ...) and a target (N, ...) of 0, 1 and `ignore_index`; or
            `"multilabel"`: logits (N, K, ...) and such a target (N, K, ...).

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 0.0,
        absent: AbsentClasses = "skip",
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, smooth, absent, task)
        check_non_negative("alpha", alpha)
        check_non_negative("beta", beta)
        if alpha == beta == 0:
            raise InvalidArgumentError(
                "alpha and beta must not both be 0: the index would be 1 whatever is predicted; start with alpha=0.3, "
                "beta=0.7"
            )
        self.alpha = alpha
        self.beta = beta

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,)."""
        false_positive = areas.predicted - areas.overlap
        false_negative = areas.true - areas.overlap
        total = areas.overlap + self.alpha * false_positive + self.beta * false_negative + self.smooth
        return 1 - (areas.overlap + self.smooth) / total.where(total != 0, 1)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, alpha={self.alpha}, beta={self.beta}"


class FocalTverskyLoss(TverskyLoss):
    """The Tversky loss of each class to the power of 1 / gamma, averaged over the classes.

    From Abraham and Khan 2018 (https://arxiv.org/abs/1810.07842), who sum over the classes (`reduction="sum"`). Their
    alpha is the factor of the false negatives: their alpha = 0.7, beta = 0.3 are the defaults here, under the names of
    `TverskyLoss`. Other code calls the exponent gamma: its 0.75 is 4 / 3 here.

    Args:
        weight: as for `TverskyLoss`; it multiplies the powers.
        ignore_index: as for `TverskyLoss`.
        reduction: as for `TverskyLoss`.
        alpha: factor of the false positives, >= 0.
        beta: factor of the false negatives, >= 0.
        gamma: 1 (the Tversky loss) to 3.
        smooth: as for `TverskyLoss`.
        absent: as for `TverskyLoss`.
        task: as for `TverskyLoss`.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
        smooth: float = 0.0,
        absent: AbsentClasses = "skip",
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, alpha, beta, smooth, absent, task)
        if not 1 <= gamma <= 3:
            raise InvalidArgumentError(
                f"gamma must be between 1 and 3, got {gamma!r}; it is the reciprocal of the exponent, so 4/3 gives 0.75"
            )
        self.gamma = gamma

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,)."""
        losses = super().class_losses(areas)
        # the power has no derivative at 0, and rounding may give values below it
        some = ~(losses <= 0)
        return losses.where(some, 1).pow(1 / self.gamma).where(some, 0)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, gamma={self.gamma}"
