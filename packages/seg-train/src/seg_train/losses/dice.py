"""Dice loss: one minus the overlap of the predicted and the true area, relative to their sum."""

from collections.abc import Sequence

from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.regions import AbsentClasses, ClassAreas, RegionLoss

__all__ = ["DiceLoss"]


class DiceLoss(RegionLoss):
    """One minus the Dice score of the probabilities (softmax or, see `task`, sigmoid), averaged over the classes.

    The score of class k is (2 overlap_k + smooth) / (predicted_k + true_k + smooth), with areas summed over all valid
    pixels of the batch: predicted_k sums the probability of class k, overlap_k does so where the target is k, true_k is
    the number of pixels with target k. These are plain sums, as in Dice's 2 |A and B| / (|A| + |B|); V-Net (Milletari
    et al. 2016, https://arxiv.org/abs/1606.04797) sums squared probabilities in predicted_k (`squared`).

    `generalized` gives the single score of all classes of Sudre et al. 2017 (https://arxiv.org/abs/1707.03237):
    sum_k v_k (2 overlap_k + smooth) / sum_k v_k (predicted_k + true_k + smooth) with v_k = 1 / true_k^2, so that small
    classes count as much as large ones. `weight` multiplies v_k.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: over classes, never over pixels or images. `"mean"` (sum of the weighted losses divided by the sum of
            the weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of
            each class, (K,), 0 for classes that do not count. The generalized loss is one number and has no `"none"`.
        smooth: number of pixels >= 0 added to the numerator and the denominator of each score.
        absent: how classes absent from the batch's target count. `"skip"` leaves them out: without `smooth` their score
            is 0 whatever is predicted, so they would add a constant and take weight from the others. `"count"` treats
            them as any other class; with `smooth` that pushes their probabilities down. In the generalized loss, where
            their v_k would be infinite, it is 0, or with `"count"` the largest of the others, as in the authors' code.
        squared: whether predicted_k sums squared probabilities.
        generalized: whether all classes have one score, weighted by their areas.
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
        smooth: float = 0.0,
        absent: AbsentClasses = "skip",
        squared: bool = False,
        generalized: bool = False,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, smooth, absent, task)
        if generalized and reduction == "none":
            raise InvalidArgumentError(
                "reduction must be mean or sum with generalized=True, got 'none'; the generalized loss is one number"
            )
        self.squared = squared
        self.generalized = generalized

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, see `RegionLoss.forward`."""
        if not self.generalized:
            return super().forward(logits, target)
        areas, counted = self.areas(logits, target)
        present = areas.true > 0
        factors = areas.true.where(present, 1).pow(-2).where(present, 0)
        if self.absent == "count":
            factors = factors.where(present | ~counted, factors.max())
        if self.weight is not None:
            factors = factors * self.weight.to(factors)
        common = (factors * (2 * areas.overlap + self.smooth)).sum()
        total = (factors * (areas.predicted + areas.true + self.smooth)).sum()
        some = total != 0
        return (1 - common / total.where(some, 1)) * some

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,)."""
        total = areas.predicted + areas.true + self.smooth
        return 1 - (2 * areas.overlap + self.smooth) / total.where(total != 0, 1)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, squared={self.squared}, generalized={self.generalized}"
