"""Jaccard loss: one minus the soft intersection over union."""

from torch import Tensor

from seg_train.losses.regions import ClassAreas, RegionLoss

__all__ = ["JaccardLoss"]


class JaccardLoss(RegionLoss):
    """One minus the intersection over union of the softmax probabilities, averaged over the classes.

    The score of class k is (overlap_k + smooth) / (predicted_k + true_k - overlap_k + smooth), from sums over all valid
    pixels of the batch: overlap_k of its probability where the target is k, predicted_k of its probability, true_k the
    number of pixels with target k (Rahman and Wang 2016, "Optimizing Intersection-Over-Union in Deep Neural Networks
    for Image Segmentation", there for one class and one image).

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: over classes, never over pixels or images. `"mean"` (sum of the weighted losses divided by the sum of
            the weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of
            each class, (K,), 0 for those that do not count.
        smooth: number of at least 0, in pixels, added to both parts of the fraction.
        absent: what becomes of classes that the target of the batch does not have. `"skip"` leaves them out: without
            `smooth` their score is 0 whatever is predicted, so they would add a constant and take weight from the
            others. `"count"` takes them as any other class; with `smooth` that pushes their probabilities down.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,)."""
        union = areas.predicted + areas.true - areas.overlap + self.smooth
        return 1 - (areas.overlap + self.smooth) / union.where(union != 0, 1)
