"""The thresholds that a network of a binary or multilabel task is evaluated with."""

from torch import nn

from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.argmax import Thresholds
from seg_core.metrics.thresholds import class_thresholds
from seg_core.model_files.fit import unwrap

__all__ = ["other_task", "thresholds_for", "tuning_problem"]


def thresholds_for(
    model: nn.Module, metadata: DatasetMetadata, given: Thresholds | None = None
) -> tuple[float, ...] | None:
    """Returns the thresholds of an evaluation: the given ones, those of the model file, or 0.5; None for multiclass.

    Raises:
        InvalidArgumentError: if thresholds are given for a multiclass task, or are not allowed.
    """
    info = getattr(unwrap(model), "model_info", None)
    if given is None and info is not None and info.metadata.task == metadata.task:
        stored: tuple[float, ...] | None = info.thresholds
        # of other classes they say nothing
        given = stored if stored is not None and len(stored) == metadata.num_classes else None
    return class_thresholds(given, metadata)


def other_task(model: nn.Module, metadata: DatasetMetadata) -> str | None:
    """Returns how the task of a network's file differs from that of a dataset, or None if it does not or has none."""
    info = getattr(unwrap(model), "model_info", None)
    if info is None or info.metadata.task == metadata.task:
        return None
    return (
        f'the network was trained for the task "{info.metadata.task}" ({info.metadata.name}), but the dataset '
        f'{metadata.name} has the task "{metadata.task}"'
    )


def tuning_problem(metadata: DatasetMetadata) -> str:
    """Returns why thresholds cannot be tuned for a multiclass task."""
    return (
        f'evaluation.tune_threshold = true: {metadata.name} has the task "multiclass", whose pixels get the class of '
        "the largest logit, without a threshold; remove the key"
    )
