"""Pictures from wherever people keep them: files, folders, patterns, addresses, videos, and memory."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seg_core.download import fetch
from seg_core.errors import CorruptFileError, InvalidArgumentError, WriteError
from seg_core.preprocessing import as_rgb_tensor
from seg_models.inference.sources import (
    PictureNotFoundError,
    is_folder,
    is_pattern,
    is_url,
    is_video,
    list_pictures,
)
from seg_models.inference.video import read_frames

__all__ = ["Picture", "Source", "find_pictures", "is_one_picture", "load_picture", "read_picture"]

Source = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""One picture, or something that holds several: a folder, a pattern, a video, a batch."""


@dataclass(frozen=True)
class Picture:
    """One picture that is not decoded yet.

    Attributes:
        name: its path or address; of a video, with the number of the frame; None for a picture in memory.
        content: path, address, PIL picture, array, tensor, or a frame of PyAV.
    """

    name: str | None
    content: Any


def is_one_picture(source: object) -> bool:
    """Returns whether `source` is one picture; else it holds several, or none."""
    if isinstance(source, str | os.PathLike):
        return is_url(source) or not (is_folder(source) or is_video(source) or is_pattern(source))
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim <= 3
    return isinstance(source, Image.Image) or hasattr(source, "to_ndarray")


def find_pictures(source: Source | Iterable[Any]) -> Iterator[Picture]:
    """Yields the pictures of `source`, in its order, without decoding them; those of folders and patterns by name.

    Args:
        source: as in `Predictor.stream`.

    Raises:
        PictureNotFoundError: if a folder or a pattern has none.
        InvalidArgumentError: if it is nothing that holds pictures.
        CorruptFileError: if a video cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        if is_one_picture(source):
            yield Picture(os.fspath(source), source)
        elif is_video(source):
            for number, frame in enumerate(read_frames(source)):
                yield Picture(f"{os.fspath(source)}, frame {number}", frame)
        else:
            for path in list_pictures(source):
                yield from find_pictures(path)
    elif is_one_picture(source):
        yield Picture(getattr(source, "filename", None) or None, source)
    elif isinstance(source, np.ndarray | Tensor):
        for one in source:
            yield Picture(None, one)
    elif isinstance(source, Iterable):
        for item in source:
            yield from find_pictures(item)
    else:
        raise InvalidArgumentError(
            f"a source of pictures must be a path, an address, a PIL picture, an array, a tensor, or an iterable of "
            f"them, got {type(source).__name__}"
        )


def load_picture(picture: Picture) -> Tensor:
    """Returns a picture decoded and upright, uint8 or float32 (3, H, W), RGB.

    Raises:
        PictureNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be fetched or read.
        InvalidArgumentError: if it is no picture of 8 bits.
    """
    content = picture.content
    try:
        if isinstance(content, str | os.PathLike):
            content = read_picture(content)
        elif isinstance(content, Image.Image):
            content = ImageOps.exif_transpose(content)
        elif hasattr(content, "to_ndarray"):
            content = content.to_ndarray(format="rgb24")
        pixels = as_rgb_tensor(content)
    except InvalidArgumentError as error:
        if picture.name is None:
            raise
        raise InvalidArgumentError(f"{picture.name}: {error}") from error
    return pixels if pixels.dtype == torch.uint8 else pixels.float()


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Returns a picture file, or that of an address, decoded and upright.

    Raises:
        PictureNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be fetched or read as a picture.
    """
    if is_url(path):
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetched = fetch(os.fspath(path), progress=False, folder=Path(folder), argument="the picture")
            except WriteError as error:
                raise CorruptFileError(f"{path} cannot be fetched: {error}") from error
            return _decode(fetched, os.fspath(path))
    if not Path(path).is_file():
        raise PictureNotFoundError(f"there is no picture {os.fspath(path)}; check the path")
    return _decode(Path(path), os.fspath(path))


def _decode(path: Path, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow's warning asks whether a large picture is an attack; what is far larger it refuses
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError as error:
        raise CorruptFileError(
            f"{name} is too large to be decoded at once ({error}); predict it window by window: "
            "Predictor.predict_to_file, or seg predict with --tile and --format tiff"
        ) from error
    # Pillow raises SyntaxError for some damaged PNGs and plain errors of the decoders for other files
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = "it is empty" if not path.stat().st_size else str(error).replace(str(path), path.name)
        raise CorruptFileError(f"{name} cannot be read as a picture: {reason}; replace it or leave it out") from error
