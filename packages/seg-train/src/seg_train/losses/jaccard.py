"""Jaccard loss: one minus the soft intersection over union."""

from torch import Tensor

from seg_train.losses.regions import ClassAreas, RegionLoss

__all__ = ["JaccardLoss"]


class JaccardLoss(RegionLoss):
    """One minus the intersection over union of the probabilities (softmax or sigmoid), averaged over the classes.

    The score of class k is (overlap_k + smooth) / (predicted_k + true_k - overlap_k + smooth), with areas over all
    valid pixels of the batch: predicted_k sums the probability of class k, overlap_k does so where the target is k,
    true_k is the number of pixels with target k ("Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", Rahman and Wang, 2016, there for one class and one image).

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: over classes, never over pixels or images. `"mean"` (sum of the weighted losses divided by the sum of
            the weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of
            each class, (K,), 0 for classes that do not count.
        smooth: number of pixels >= 0 added to the numerator and the denominator of each score.
        absent: how classes absent from the batch's target count. `"skip"` leaves them out: without `smooth` their score
            is 0 whatever is predicted, so they would add a constant and take weight from the others. `"count"` treats
            them as any other class; with `smooth` that pushes their probabilities down.
        task: `"multiclass"`; `"binary"`: logits (N, 1, ...) and a target (N, ...) of 0, 1 and `ignore_index`; or
            `"multilabel"`: logits (N, K, ...) and such a target (N, K, ...).

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,)."""
        union = areas.predicted + areas.true - areas.overlap + self.smooth
        return 1 - (areas.overlap + self.smooth) / union.where(union != 0, 1)
