"""Checks of the arguments that all datasets share."""

import os
from collections.abc import Sequence
from pathlib import Path

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, nearest

__all__ = ["MISSING", "check_choice", "check_missing", "check_root", "check_split"]

MISSING = ("error", "skip")
"""How to handle an image or mask without its partner: raise an error, or leave it out with a warning."""


def check_root(root: str | os.PathLike[str], dataset: str) -> Path:
    """Returns `root` as a path, `~` expanded.

    Raises:
        InvalidArgumentError: if it is not a path.
        DatasetNotFoundError: if there is no such folder.
    """
    if not isinstance(root, str | os.PathLike):
        raise InvalidArgumentError(
            f"{dataset}: root must be the path of a folder, got {root!r}; `seg datasets show {dataset}` prints the "
            "expected layout"
        )
    path = Path(root).expanduser()
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise DatasetNotFoundError(
            f"{dataset}: root {path} {what} (current folder: {Path.cwd()}); `seg datasets show {dataset}` prints the "
            "expected layout"
        )
    return path


def check_choice(name: str, value: object, allowed: Sequence[str], note: str = "") -> None:
    """Checks that an argument has one of the allowed values.

    Args:
        name: name of the argument.
        value: its value.
        allowed: the allowed values.
        note: a sentence for the end of the message.

    Raises:
        InvalidArgumentError: if the value is none of them.
    """
    if isinstance(value, str) and value in allowed:
        return
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    shown = " or ".join(map(repr, allowed))
    raise InvalidArgumentError(f"{name} must be {shown}, got {value!r}.{hint}{note and ' '}{note}")


def check_split(split: str, allowed: Sequence[str], dataset: str) -> str:
    """Returns `split` if it is one of `allowed`.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if split not in allowed:
        hint = nearest(split, allowed) if isinstance(split, str) else ""
        raise InvalidArgumentError(f"{dataset} has no split {split!r}.{hint} Allowed: {', '.join(allowed)}")
    return split


def check_missing(missing: str) -> str:
    """Returns `missing` if it is allowed.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if missing not in MISSING:
        raise InvalidArgumentError(
            f"missing must be 'error' or 'skip' (leave files without a partner out, with a warning), got {missing!r}"
        )
    return missing
