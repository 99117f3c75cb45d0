"""The thresholds of binary and multilabel tasks: of a new network, of a model file, tuned on a split."""

from collections.abc import Sequence

from torch import nn

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.argmax import Thresholds, logit_thresholds
from seg_core.model_files.fit import unwrap

__all__ = ["thresholds_for", "thresholds_of", "tuning_problem"]

_DEFAULT = 0.5


def thresholds_of(metadata: DatasetMetadata, thresholds: Thresholds = _DEFAULT) -> tuple[float, ...] | None:
    """Returns the thresholds of the classes, one per class; None for a multiclass task.

    Raises:
        InvalidArgumentError: if they are not numbers above 0 and below 1, one or one per class.
    """
    if metadata.task == MULTICLASS:
        return None
    logit_thresholds(thresholds, metadata.num_classes)
    given = thresholds if isinstance(thresholds, Sequence) else (thresholds,) * metadata.num_classes
    return tuple(map(float, given))


def thresholds_for(
    model: nn.Module, metadata: DatasetMetadata, given: Thresholds | None = None
) -> tuple[float, ...] | None:
    """Returns the thresholds to evaluate a network with: the given ones, those of its file, or 0.5; None for multiclass.

    Raises:
        InvalidArgumentError: if thresholds are given for a multiclass task, or are not allowed.
    """
    if given is not None and metadata.task == MULTICLASS:
        raise InvalidArgumentError(
            f"thresholds are for binary and multilabel tasks, but {metadata.name} has one class per pixel; leave "
            "thresholds out"
        )
    if given is None:
        info = getattr(unwrap(model), "model_info", None)
        stored = getattr(info, "thresholds", None)
        given = _DEFAULT if stored is None or len(stored) != metadata.num_classes else tuple(stored)
    return thresholds_of(metadata, given)


def tuning_problem(metadata: DatasetMetadata) -> str:
    """Returns why thresholds cannot be tuned for a multiclass task."""
    return (
        f'evaluation.tune_threshold = true: {metadata.name} has the task "multiclass", whose pixels get the class of '
        "the largest logit, without a threshold; remove the key"
    )
