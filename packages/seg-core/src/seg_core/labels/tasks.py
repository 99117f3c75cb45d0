"""What a network answers for each pixel: one of several classes, one object or not, or any number of classes."""

from seg_core.errors import InvalidArgumentError, nearest

__all__ = ["BINARY", "MULTICLASS", "MULTILABEL", "TASKS", "check_task"]

MULTICLASS = "multiclass"
"""One of K classes; K logits, softmax. Masks (H, W) hold class ids 0 to K - 1."""
BINARY = "binary"
"""The object or background; one logit, sigmoid. Masks (H, W) hold 0 (background) and 1 (object)."""
MULTILABEL = "multilabel"
"""Each of K classes or not, which may overlap; K logits, sigmoid. Masks (K, H, W) hold 0 and 1 per class."""

TASKS = (MULTICLASS, BINARY, MULTILABEL)
"""The first is the default."""


def check_task(task: str) -> str:
    """Returns `task` if it is one of `TASKS`.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if task not in TASKS:
        hint = nearest(task, TASKS) if isinstance(task, str) else ""
        raise InvalidArgumentError(f"task must be one of {', '.join(map(repr, TASKS))}, got {task!r}.{hint}")
    return task
