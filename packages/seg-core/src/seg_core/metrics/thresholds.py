"""The thresholds of the classes of a binary or multilabel task."""

from collections.abc import Sequence

from seg_core.errors import InvalidArgumentError, UsageError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.argmax import Thresholds, logit_thresholds

__all__ = ["DEFAULT_THRESHOLD", "class_thresholds", "thresholds_of_option"]

DEFAULT_THRESHOLD = 0.5

_LABELS_SHOWN = 5


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


def thresholds_of_option(given: float | Sequence[float], metadata: DatasetMetadata) -> tuple[float, ...]:
    """Returns one threshold per class for the value of `--threshold`: one number, or a list with one per class.

    Args:
        given: as the command line has it.
        metadata: the classes and their task.

    Raises:
        UsageError: if the value is not allowed, or the task is multiclass.
    """
    count, values = metadata.num_classes, list(given) if isinstance(given, Sequence) else [given]
    option = f"--threshold {','.join(f'{value:g}' for value in values)}"
    if metadata.task == MULTICLASS:
        raise UsageError(
            f'{option}: {metadata.name} has the task "multiclass", where a pixel has the class of the largest logit, '
            "without a threshold; remove it"
        )
    advice = "give one number, such as 0.5"
    if count > 1:
        more = ", ..." if count > _LABELS_SHOWN else ""
        names = ", ".join(metadata.labels[:_LABELS_SHOWN])
        advice += f", or {count} with commas between them, one for each of {names}{more}"
    if wrong := [value for value in values if not 0 < value < 1]:
        raise UsageError(f"{option}: {wrong[0]:g} is not a probability above 0 and below 1; {advice}")
    if len(values) not in (1, count):
        classes = "1 class" if count == 1 else f"{count} classes"
        raise UsageError(f"{option} has {len(values)} numbers, but {metadata.name} has {classes}; {advice}")
    return tuple(values) if len(values) == count else (values[0],) * count
