"""Writing images for display, in the format of the suffix."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.files.atomic import atomic_path

__all__ = ["check_format", "save_image", "write_image"]

# pixels of a side; of JPEG as its library has it (the format itself ends at 65535)
_MAX_SIDES = {"JPEG": 65500, "MPO": 65500, "WEBP": 16383, "GIF": 65535}
_ICONS = ("ICO", "ICNS")  # which Pillow writes smaller than the image


def check_format(path: str | os.PathLike[str], shape: tuple[int, ...]) -> str:
    """Returns Pillow's name of the format of a path's suffix.

    Args:
        path: path of an image to be written.
        shape: its (H, W) or (H, W, C).

    Raises:
        InvalidArgumentError: if Pillow writes no format with that suffix, or none of this size.
    """
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE or kind in _ICONS:
        raise InvalidArgumentError(f"path must end in .png, .jpg or another image format, got {os.fspath(path)!r}")
    most = _MAX_SIDES.get(kind)
    if most is not None and max(shape[:2]) > most:
        raise InvalidArgumentError(
            f"{_cannot_hold(path, shape)}: {kind} has at most {most} pixels a side; choose .png or .tif"
        )
    return kind


def write_image(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
    """Writes an image atomically, in the format of the suffix of `path`.

    Args:
        path: path of the file.
        image: uint8 (H, W, 3), RGB, or (H, W).

    Raises:
        InvalidArgumentError: if Pillow writes no format with that suffix, or the format cannot hold the image.
        WriteError: if it cannot be written.
    """
    kind = check_format(path, image.shape)
    content = io.BytesIO()
    try:
        # in memory first: Pillow raises the same errors for a format's limits and for a full disk
        Image.fromarray(image).save(content, kind, quality=92)  # lossless formats ignore the quality
    except MemoryError:
        raise
    except Exception as error:  # each format has its own
        raise InvalidArgumentError(f"{_cannot_hold(path, image.shape)}: {error}; choose .png or .tif") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def save_image(path: str | os.PathLike[str], image: Image.Image, **options: Any) -> None:
    """Writes an image of PIL atomically, in the format of the suffix of `path`.

    It is encoded in memory: for most formats Pillow writes to the file itself, and takes no notice of a full disk.

    Args:
        path: path of the file.
        image: the image.
        options: as of `PIL.Image.Image.save`.

    Raises:
        WriteError: if it cannot be written; no part of it is left.
    """
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[Path(path).suffix.lower()], **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _cannot_hold(path: str | os.PathLike[str], shape: tuple[int, ...]) -> str:
    return f"{os.fspath(path)} cannot hold an image of {shape[1]}x{shape[0]} pixels (width x height)"
