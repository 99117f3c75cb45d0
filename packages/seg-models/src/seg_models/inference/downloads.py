"""Images and videos at URLs, downloaded for as long as they are read."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seg_core.errors import CorruptFileError, WriteError
from seg_core.files.download import fetch_once
from seg_models.inference.input_paths import is_url, url_suffix

__all__ = ["local_file"]

_MOST = {"image": 1 << 32, "video": 1 << 35}  # bytes: 4 and 32 GiB


@contextlib.contextmanager
def local_file(source: str | os.PathLike[str], noun: str) -> Iterator[Path]:
    """Yields the path of a file; that of a URL is downloaded, and deleted at the end of the `with` block.

    Args:
        source: path or URL.
        noun: `"image"` or `"video"`, for messages.

    Raises:
        CorruptFileError: if it cannot be downloaded.
    """
    if not is_url(source):
        yield Path(source)
        return
    url = os.fspath(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{noun}{url_suffix(url)[:10]}"
        try:
            fetch_once(url, path, noun, _MOST[noun])
        except WriteError as error:  # to the caller, the download is a way to read
            raise CorruptFileError(str(error)) from error
        yield path
