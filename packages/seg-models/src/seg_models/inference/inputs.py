"""Input images from files, folders, glob patterns, URLs, videos and memory: found, decoded, and read ahead."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from seg_core.errors import (
    CorruptFileError,
    ImageTooLargeError,
    InvalidArgumentError,
    UserError,
    WriteError,
)
from seg_core.files.download import fetch
from seg_core.files.images import MAX_PIXELS, read_header, read_image
from seg_core.transforms.preprocessing import as_rgb_tensor
from seg_models.inference.input_paths import (
    is_folder,
    is_pattern,
    is_url,
    is_video,
    list_image_files,
)
from seg_models.inference.video import read_frames

__all__ = ["InputImage", "Source", "find_inputs", "is_one_image", "load_input", "read_ahead", "read_input_file"]

Source = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""One image, or several: a folder, a glob pattern, a video, a batch."""

# Threads that decode images while the network computes; Pillow decodes without holding the interpreter's lock.
_READERS = 2


@dataclass(frozen=True)
class InputImage:
    """One image that is not decoded yet.

    Attributes:
        name: its path or URL; for a frame of a video, the path and the frame's number; None for an image in memory.
        content: path, URL, PIL image, array, tensor, or a frame of PyAV.
    """

    name: str | None
    content: Any


def is_one_image(source: object) -> bool:
    """Returns whether `source` is one image; if not, it contains several or is not a source of images."""
    if isinstance(source, str | os.PathLike):
        return is_url(source) or not (is_folder(source) or is_video(source) or is_pattern(source))
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim <= 3
    return isinstance(source, Image.Image) or hasattr(source, "to_ndarray")


def find_inputs(source: Source | Iterable[Any]) -> Iterator[InputImage]:
    """Yields the images of `source` in order, without decoding them; folders and glob patterns are sorted by name.

    Args:
        source: as in `Predictor.stream`.

    Raises:
        ImageNotFoundError: if a folder has no images, or no file matches a glob pattern.
        InvalidArgumentError: if it is not a source of images.
        CorruptFileError: if a video cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        if is_one_image(source):
            yield InputImage(os.fspath(source), source)
        elif is_video(source):
            for number, frame in enumerate(read_frames(source)):
                yield InputImage(f"{os.fspath(source)}, frame {number}", frame)
        else:
            for path in list_image_files(source):
                yield from find_inputs(path)
    elif is_one_image(source):
        yield InputImage(getattr(source, "filename", None) or None, source)
    elif isinstance(source, np.ndarray | Tensor):
        for one in source:
            yield InputImage(None, one)
    elif isinstance(source, Iterable):
        for item in source:
            yield from find_inputs(item)
    else:
        raise InvalidArgumentError(
            f"a source of images must be a path, a URL, a PIL image, an array, a tensor, or an iterable of them, got "
            f"{type(source).__name__}"
        )


def read_ahead(
    images: Iterator[InputImage],
    count: int,
    max_pixels: int,
    on_error: Callable[[str | None, UserError], None] | None,
) -> Iterator[tuple[InputImage, Tensor]]:
    """Yields images with their pixels, in order, while threads decode the next ones.

    Args:
        images: as `find_inputs` yields them.
        count: number of images to decode ahead, in addition to one per thread.
        max_pixels: maximum width times height of an image file.
        on_error: called with the name and the error of an image that cannot be read, which is then skipped. If None
            the error is raised.
    """
    waiting: deque[tuple[InputImage, Future[Tensor]]] = deque()
    pool = ThreadPoolExecutor(_READERS)
    try:
        while True:
            while len(waiting) < _READERS + count and (image := next(images, None)) is not None:
                waiting.append((image, pool.submit(load_input, image, max_pixels)))
            if not waiting:
                return
            image, future = waiting.popleft()
            try:
                pixels = future.result()
            except UserError as error:
                if on_error is None:
                    raise
                on_error(image.name, error)
                continue
            yield image, pixels
    finally:
        pool.shutdown(cancel_futures=True)


def load_input(image: InputImage, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Returns an image decoded and upright, uint8 or float32 (3, H, W), RGB.

    Args:
        image: the image.
        max_pixels: maximum width times height of a file.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be downloaded or read, is too large, or has more than 8 bits per channel.
        InvalidArgumentError: if it is in memory and is not an image of 8 bits per channel.
    """
    content = image.content
    try:
        if isinstance(content, str | os.PathLike):
            content = read_input_file(content, max_pixels)
        elif isinstance(content, Image.Image):
            content = read_image(content)
        elif hasattr(content, "to_ndarray"):
            content = content.to_ndarray(format="rgb24")
        pixels = as_rgb_tensor(content)
    except InvalidArgumentError as error:
        if image.name is None or image.name in str(error):
            raise
        raise InvalidArgumentError(f"{image.name}: {error}") from error
    return pixels if pixels.dtype == torch.uint8 else pixels.float()


def read_input_file(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Returns the image of a path or URL, decoded and upright, uint8 (H, W, 3).

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be downloaded or read as an image, or has more than `max_pixels`.
    """
    name = os.fspath(path)
    try:
        if not is_url(path):
            return read_image(path, max_pixels=max_pixels)
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetched = fetch(name, progress=False, folder=Path(folder), argument="the image")
            except WriteError as error:
                raise CorruptFileError(f"{path} cannot be downloaded: {error}") from error
            return read_image(fetched, max_pixels=max_pixels, name=name)
    except ImageTooLargeError as error:
        if is_url(path) or not read_header(path).is_plain:
            raise
        raise ImageTooLargeError(
            f"{error}; or predict it tile by tile: Predictor.predict_to_file, or seg predict with --tile and --format "
            "tiff"
        ) from error
