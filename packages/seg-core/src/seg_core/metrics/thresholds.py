"""The thresholds of the classes of a binary or multilabel task."""

from collections.abc import Sequence

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.argmax import Thresholds, logit_thresholds

__all__ = ["DEFAULT_THRESHOLD", "class_thresholds"]

DEFAULT_THRESHOLD = 0.5


def class_thresholds(thresholds: Thresholds | None, metadata: DatasetMetadata) -> tuple[float, ...] | None:
    """Returns one threshold per class: those given, or 0.5 each; None if the task has none.

    Args:
        thresholds: probability above 0 and below 1, for all classes or one per class; None for the default.
        metadata: the classes and their task.

    Raises:
        InvalidArgumentError: if a threshold is not allowed, or the task is multiclass.
    """
    if metadata.task == MULTICLASS:
        if thresholds is None:
            return None
        raise InvalidArgumentError(
            f"thresholds = {thresholds!r}: a multiclass task has none, since a pixel has the class of the largest "
            f"logit; remove it, or set task of the metadata {metadata.name!r} to 'binary' or 'multilabel' if the "
            "network was trained so"
        )
    given = DEFAULT_THRESHOLD if thresholds is None else thresholds
    logit_thresholds(given, metadata.num_classes)  # checks them
    values = given if isinstance(given, Sequence) else (given,) * metadata.num_classes
    return tuple(map(float, values))
