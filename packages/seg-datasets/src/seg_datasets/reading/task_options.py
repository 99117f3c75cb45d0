"""Options of `FolderDataset` that only classes of a binary or multilabel task can have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTILABEL

__all__ = ["check_task_options", "tasks_of", "unlike_task"]


def tasks_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Returns what was given of the options that need a task -> this task."""
    masks = options.get("masks")
    given = {
        "threshold": (options.get("threshold") is not None, BINARY),
        "masks_as": (options.get("masks_as") is not None, MULTILABEL),
        "{class} in masks": (isinstance(masks, str) and "{class}" in masks, MULTILABEL),
    }
    return {option: task for option, (is_given, task) in given.items() if is_given}


def unlike_task(option: str, task: str, classes: DatasetMetadata) -> str:
    """Returns the sentence that an option needs another task than that of the classes."""
    what = "the classes are" if classes.name == "custom" else f"{classes.name} is"
    beside = "beside the labels" if task == MULTILABEL else "beside the object as the only label"
    return (
        f"{option} is of a {task} task, and {what} of a {classes.task} task: leave it out, or write "
        f'task = "{task}" {beside}'
    )


def check_task_options(root: Path, classes: DatasetMetadata | None, options: Mapping[str, Any]) -> None:
    """Checks that the classes are known, and of the task that options need.

    Args:
        root: the folder, for the message.
        classes: the classes; None if they are not known.
        options: options of `FolderDataset`.

    Raises:
        InvalidArgumentError: if they are not.
    """
    for option, task in tasks_of(options).items():
        if classes is None:
            labels = 'labels = ["vessel"]' if task == BINARY else 'labels = ["road", "water"]'
            raise InvalidArgumentError(
                f"{option} is of a {task} task, and nothing says which classes there are: write classes.toml into "
                f'{root} with two lines such as {labels} and task = "{task}"'
            )
        if classes.task != task:
            raise InvalidArgumentError(unlike_task(option, task, classes))
