"""JSON that every reader accepts: NaN and infinities are written as null; `seg_core.parsing` reads it."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from seg_core.files.atomic import write_text

__all__ = ["finite", "to_json", "write_json"]


def finite(value: Any) -> Any:
    """Returns a copy of nested mappings and lists with None in place of each float that is NaN or infinite.

    >>> finite({"iou": [0.5, float("nan")], "steps": 3})
    {'iou': [0.5, None], 'steps': 3}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def to_json(value: Any, **options: Any) -> str:
    """Returns a value as JSON.

    Args:
        value: nested mappings, lists, tuples, strings and numbers.
        **options: of `json.dumps`, such as `indent=2`.
    """
    return json.dumps(finite(value), allow_nan=False, **options)


def write_json(path: str | os.PathLike[str], value: Any, **options: Any) -> None:
    """Writes a value as a JSON file with an indent of two spaces, atomically.

    Args:
        path: path of the file.
        value: as for `to_json`.
        **options: of `json.dumps`, such as `sort_keys=True`.

    Raises:
        WriteError: if it cannot be written.
    """
    write_text(path, to_json(value, indent=2, **options) + "\n")
