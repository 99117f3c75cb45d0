"""Files that declare many more pixels than their bytes can hold, as sparse ones do: reading them would not end."""

import os
from collections.abc import Iterable
from pathlib import Path

from seg_core.errors import ImageTooLargeError
from seg_core.files.opening import counted_pixels

__all__ = ["check_filled"]

_RATIO = 1024  # pixels per byte; deflate packs 1030 equal bytes into one


def check_filled(paths: Iterable[Path], size: tuple[int, int], max_pixels: int) -> None:
    """Checks an image that is read part by part, and has no limit otherwise.

    Args:
        paths: its files; a folder for an array of zarr. A `.vrt` file is not checked: its pixels are in other files.
        size: height and width in pixels.
        max_pixels: width times height that any file may have.

    Raises:
        ImageTooLargeError: if it has more than `max_pixels` and 1024 pixels per byte.
    """
    pixels = counted_pixels(size[1], size[0])
    if pixels <= max_pixels:
        return
    for path in paths:
        if path.suffix.lower() == ".vrt":
            continue
        stored = _stored_bytes(path, pixels // _RATIO + 1)
        if stored * _RATIO < pixels:
            raise ImageTooLargeError(
                f"image {path} has {size[1]}x{size[0]} = {size[0] * size[1]} pixels (width x height), in {stored} "
                "bytes, so it is nearly empty; if the file is what you expect, raise the limit: "
                f"max_pixels={pixels} of the Predictor, --max-pixels {pixels} of seg predict"
            )


def _stored_bytes(path: Path, enough: int) -> int:
    """Returns the size of a file, or of the files in a folder, which are counted up to `enough`."""
    if not path.is_dir():
        return path.stat().st_size
    count = 0
    for folder, _, names in os.walk(path):
        for name in names:
            count += (Path(folder) / name).stat().st_size
            if count >= enough:
                return count
    return count
