"""Names of the scores, as results, configs and model files use them."""

__all__ = ["PER_CLASS", "SCORE_NAMES", "SCORE_TITLES"]

SCORE_NAMES = ("miou", "acc", "macc", "fwiou", "dice")
"""Scores of a confusion matrix, one number each, in the order of tables."""

PER_CLASS = ("iou_per_class", "acc_per_class", "dice_per_class")
"""Scores of a confusion matrix with one number per class."""

SCORE_TITLES = {
    "miou": "mIoU",
    "acc": "pixel accuracy",
    "macc": "mean accuracy",
    "fwiou": "fwIoU",
    "dice": "Dice",
    "loss": "loss",
}
"""Display names of the scores and the loss in tables."""
