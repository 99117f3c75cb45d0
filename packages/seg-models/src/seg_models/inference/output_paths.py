"""Checks of the files that predictions are written to."""

import os
import re
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_models.inference.input_paths import is_url

__all__ = ["check_not_source", "file_and_page"]

_FRAME = re.compile(r"(.+), (?:frame|page) (\d+)", re.DOTALL)  # as `find_inputs` names them


def file_and_page(source: str) -> tuple[str, int]:
    """Returns the file of an image, and the number of the image in it: of `"scan.tif, page 2"` the file and 2.

    Args:
        source: path of an image, or name of a frame or a page of a file; a path that exists is no such name.
    """
    found = None if os.path.exists(source) else _FRAME.fullmatch(source)  # noqa: PTH110 - for names no file can have
    return (source, 0) if found is None else (found[1], int(found[2]))


def check_not_source(path: str | os.PathLike[str], source: Any) -> None:
    """Raises InvalidArgumentError if a result would replace the image that it was predicted from.

    Args:
        path: file of the result; also another spelling of the image's path, or a link to it.
        source: path or URL of the image, name of a frame or a page of a file, a memory-mapped array or a view of one,
            or anything else in memory.
    """
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else _file_behind(source)
    if isinstance(name, str):
        name, _ = file_and_page(name)
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


def _file_behind(source: Any) -> Any:
    """Returns the file that an array in memory is mapped from, itself or through views; None if there is none."""
    while source is not None:
        name = getattr(source, "filename", None)
        if name is not None:
            return name
        source = getattr(source, "base", None)
    return None
