"""Names of the scores, as results, configs and model files use them."""

from seg_core.labels.tasks import MULTICLASS

__all__ = [
    "ALL_SCORE_NAMES",
    "AVERAGE_PRECISION",
    "PER_CLASS",
    "SCORE_NAMES",
    "SCORE_TITLES",
    "per_class_names",
    "row_names",
    "score_names",
]

SCORE_NAMES = ("miou", "acc", "macc", "fwiou", "dice")
"""Scores of a confusion matrix, one number each, in the order of tables."""

PER_CLASS = ("iou_per_class", "acc_per_class", "dice_per_class")
"""Scores of a confusion matrix with one number per class."""

AVERAGE_PRECISION = "ap"
"""Mean average precision of a binary or multilabel task, if scores were stored."""

_OF_PLANES = ("miou", "acc", "dice", "precision", "recall", "specificity")

SCORE_TITLES = {
    "miou": "mIoU",
    "acc": "pixel accuracy",
    "macc": "mean accuracy",
    "fwiou": "fwIoU",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    AVERAGE_PRECISION: "average precision",
    "loss": "loss",
}
"""Display names of the scores and the loss in tables."""


def score_names(task: str) -> tuple[str, ...]:
    """Returns the names of the scores of a task with one number each, in the order of tables."""
    return SCORE_NAMES if task == MULTICLASS else _OF_PLANES


def row_names(task: str) -> tuple[str, ...]:
    """Returns `score_names(task)`, and the average precision of a task that has it."""
    return SCORE_NAMES if task == MULTICLASS else (*_OF_PLANES, AVERAGE_PRECISION)


ALL_SCORE_NAMES = tuple(dict.fromkeys((*SCORE_NAMES, *_OF_PLANES, AVERAGE_PRECISION)))
"""Names of the scores of all tasks with one number each."""


def per_class_names(task: str) -> tuple[str, ...]:
    """Returns the names of the scores of a task with one number per class."""
    if task == MULTICLASS:
        return PER_CLASS
    return ("iou_per_class", *(f"{name}_per_class" for name in _OF_PLANES[2:]))
