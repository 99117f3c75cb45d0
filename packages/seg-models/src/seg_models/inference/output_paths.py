"""Checks of the files that predictions are written to."""

import os
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_models.inference.input_paths import is_url

__all__ = ["check_not_source"]


def check_not_source(path: str | os.PathLike[str], source: Any) -> None:
    """Raises InvalidArgumentError if a result would replace the image that it was predicted from.

    Args:
        path: file of the result; also another spelling of the image's path, or a link to it.
        source: path or URL of the image, a memory-mapped array, or anything else in memory.
    """
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "filename", None)
    if not isinstance(name, str | os.PathLike) or is_url(name):
        return
    try:
        is_same = Path(path).samefile(name)
    except (OSError, ValueError):  # one of them does not exist
        return
    if is_same:
        raise InvalidArgumentError(
            f"{os.fspath(path)} is the image that is predicted ({os.fspath(name)}) and would be replaced by the "
            "result; choose another file"
        )
