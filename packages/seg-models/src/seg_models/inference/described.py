"""Images of described channels: read from files, marked where they hold no data, shown as RGB.

Three 8-bit channels of red, green and blue need none of this: `reading` reads them from every kind of file that shows
colors. A file of other channels is read by `seg_core.read_channels`, which refuses one that does not fit.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files.channel_files import read_channels
from seg_core.files.channel_values import warn_of_values
from seg_core.labels.channels import ImageChannels
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import is_url

__all__ = ["bands_error", "in_memory", "is_stack", "mark_nodata", "read_described"]

_NPY = b"\x93NUMPY"


def is_stack(source: object) -> bool:
    """Returns whether `source` is a tuple of paths: one image of several files, whose bands are stacked."""
    return isinstance(source, tuple) and bool(source) and all(isinstance(item, str | os.PathLike) for item in source)


def in_memory(channels: ImageChannels) -> ImageChannels:
    """Returns the description of images in memory, which have no bands or pages to choose from."""
    return replace(channels, bands=(), pages=False)


def bands_error(bands: Iterable[int | str], called: str = "") -> InvalidArgumentError:
    """Returns the error of an image in memory for which `bands` were chosen.

    Args:
        bands: the argument of the Predictor.
        called: name of the image; empty if it has none.
    """
    return InvalidArgumentError(
        f"{called or 'the image'} is in memory, and bands={list(bands)} choose from the bands of files; order its "
        "channels as those of the model yourself (array[:, :, [3, 2, 1, 0]] reverses four), and use a Predictor "
        "without bands"
    )


def read_described(
    source: Any, name: str, channels: ImageChannels, max_pixels: int, *, allow_vrt: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Returns the image of a path, a URL, the contents of a file, or a tuple of paths and URLs.

    Args:
        source: the image.
        name: its name in messages.
        channels: the channels of the images.
        max_pixels: largest width times height.
        allow_vrt: whether a `.vrt` file may be read.

    Returns:
        As `read_channels`.

    Raises:
        UserError: as `read_channels`, or if a file cannot be downloaded.
    """
    parts = source if isinstance(source, tuple) else (source,)
    names = [os.fspath(part) if isinstance(part, str | os.PathLike) else name for part in parts]
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(_as_path(part)) for part in parts]
        try:
            files = paths if len(paths) > 1 else paths[0]
            found = read_channels(files, channels, max_pixels=max_pixels, allow_vrt=allow_vrt)
            warn_of_values(found[0], channels, names[0])
            return found
        except UserError as error:
            text = str(error)
            for path, called in zip(paths, names, strict=True):
                text = text.replace(os.fspath(path), called)
            if "bands = [" in text or "channels.bands" in text:
                text += "; for this prediction: Predictor(bands=[...]), --bands of seg predict"
            if text == str(error):
                raise
            raise type(error)(text) from error


@contextlib.contextmanager
def _as_path(source: str | os.PathLike[str] | bytes) -> Iterator[str | os.PathLike[str]]:
    if isinstance(source, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("image.npy" if source.startswith(_NPY) else "image")
            path.write_bytes(source)
            yield path
    elif is_url(source):
        with local_file(source, "image") as path:
            yield path
    else:
        yield source


def mark_nodata(image: Any, channels: ImageChannels) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """Returns an image in memory with the low end of the range where it has no data, and where it has data.

    Pixels without data are those whose channels all have `channels.nodata` (of which one is NaN, if that is NaN), and
    those that are masked in all channels.

    Args:
        image: array (H, W) or (H, W, C), masked or not; tensor (C, H, W); anything else is returned unchanged.
        channels: the channels of the images.

    Returns:
        The image, a copy if it was changed, and bool (H, W); None if all pixels hold data.
    """
    if isinstance(image, Tensor):
        if image.ndim != 3 or channels.nodata is None:
            return image, None
        missing = _without_data(image.detach().cpu().movedim(0, -1).numpy(), channels.nodata)
        if not missing.any():
            return image, None
        lows = torch.tensor(channels.lows_in(image.dtype)).to(image)
        where = torch.from_numpy(missing).to(image.device)
        return torch.where(where, lows[:, None, None], image), ~missing
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        return image, None
    values = np.ma.getdata(image)
    stacked = values if image.ndim == 3 else values[:, :, None]
    missing = np.zeros(stacked.shape[:2], np.bool_)
    if channels.nodata is not None:
        missing |= _without_data(stacked, channels.nodata)
    if isinstance(image, np.ma.MaskedArray):  # as rasterio reads with masked=True
        masked = np.asarray(np.ma.getmaskarray(image))
        missing |= masked if masked.ndim == 2 else masked.all(-1)
    if not missing.any() or stacked.shape[-1] != channels.count:  # other channels are an error of their own
        return values, None
    filled = stacked.copy()
    filled[missing] = np.array(channels.lows_in(filled.dtype)).astype(filled.dtype)
    return filled, ~missing


def _without_data(values: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.bool_]:
    """Returns bool (H, W) for (H, W, C), as `read_channels` decides it."""
    found: npt.NDArray[np.bool_] = np.isnan(values).any(-1) if np.isnan(nodata) else (values == nodata).all(-1)
    return found
