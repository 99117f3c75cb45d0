"""Prediction of images larger than memory: read, predicted and written to a file tile by tile."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from seg_core.errors import CorruptFileError, InvalidArgumentError, InvalidTypeError
from seg_core.files.images import Once
from seg_core.files.rasters import Raster, open_raster
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTILABEL
from seg_core.transforms.image_tensors import as_image_tensor
from seg_models.inference.decisions import labels_shape
from seg_models.inference.described import in_memory, is_stack
from seg_models.inference.output_paths import check_not_source
from seg_models.inference.prediction import class_areas
from seg_models.inference.raster_writing import npy_writer, tiff_writer
from seg_models.inference.reading import tell_of_gray, warn_of_more_frames
from seg_models.inference.regions import ignore_invalid

__all__ = ["FilePrediction", "LabelBlocks", "ReadTile", "predict_to_file"]

ReadTile = Callable[[int, int, int, int], Tensor]
"""Top, left, height, width -> that part of the image, uint8, uint16 or float (C, h, w)."""

LabelBlocks = Callable[[ReadTile, tuple[int, int]], Iterator[tuple[int, int, npt.NDArray[Any]]]]
"""Predicts an image of (height, width) read by tiles; yields top, left and ids (h, w), or planes (K, h, w), of blocks.
"""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class FilePrediction:
    """A label map that was written to a file tile by tile.

    Attributes:
        path: path of the label map.
        size: its (height, width) in pixels.
        areas: pixels of each class that occurs, by its name, largest first; ignored pixels and the background of a
            binary task are not counted.
    """

    path: Path
    size: tuple[int, int]
    areas: dict[str, int]


def predict_to_file(
    source: Any,
    target: str | os.PathLike[str],
    label_blocks: LabelBlocks,
    metadata: DatasetMetadata,
    dtype: npt.DTypeLike,
    max_pixels: int,
    channels: ImageChannels,
    on_progress: Callable[[float], None] | None = None,
    *,
    allow_vrt: bool = False,
) -> FilePrediction:
    """Predicts an image of any size and writes its label map, without holding either in memory.

    Args:
        source: as in `Predictor.predict_to_file`.
        target: as in `Predictor.predict_to_file`.
        label_blocks: predicts the blocks of the label map.
        metadata: names and colors of the classes.
        dtype: uint8 or uint16, dtype of the ids; uint16 is used where the ignored value needs it.
        max_pixels: largest width times height of an image that must be read at once.
        channels: the channels of the image.
        on_progress: called with the fraction of the image that is done, 0 to 1.
        allow_vrt: whether a `.vrt` file may be read.

    Raises:
        UserError: as in `Predictor.predict_to_file`.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in (".tif", ".tiff", ".npy"):
        raise InvalidArgumentError(f"target must end in .tif, .tiff or .npy, got {os.fspath(target)!r}")
    for path in source if is_stack(source) else (source,):
        check_not_source(target, _checked_source(path))
    source = source if is_stack(source) else _checked_source(source)
    done, has_planes = 0, metadata.task == MULTILABEL
    with _opened(source, max_pixels, channels, allow_vrt) as raster:
        if channels.is_rgb8 and isinstance(source, str | os.PathLike):
            with contextlib.suppress(CorruptFileError):  # arrays, and formats that only GDAL reads
                warn_of_more_frames(source, os.fspath(source), sys.maxsize, Once())
                tell_of_gray(source, os.fspath(source))
        if raster.valid is not None:
            dtype = np.promote_types(dtype, np.min_scalar_type(metadata.ignore_index))
        counts = np.zeros(metadata.num_classes if has_planes else int(np.iinfo(np.dtype(dtype)).max) + 1, np.int64)
        size = (raster.height, raster.width)
        shape = labels_shape(metadata, size)
        if suffix == ".npy":
            writer = npy_writer(target, shape, dtype)
        else:
            writer = tiff_writer(target, shape, dtype, metadata, raster.geo_reference)

        def read(top: int, left: int, height: int, width: int) -> Tensor:
            return as_image_tensor(raster.read(top, left, height, width), in_memory(channels), origin=(top, left))

        with writer as write:
            for top, left, ids in label_blocks(read, size):
                if raster.valid is not None:
                    valid = raster.valid(top, left, ids.shape[-2], ids.shape[-1])
                    ids = ignore_invalid(ids, valid, metadata.ignore_index)
                write(top, left, ids)
                if has_planes:
                    counts += (ids == 1).sum((1, 2))
                else:
                    counts += np.bincount(ids.ravel(), minlength=len(counts))
                done += ids.shape[-2] * ids.shape[-1]
                if on_progress is not None:
                    on_progress(done / (size[0] * size[1]))
    return FilePrediction(Path(target), size, class_areas(counts, metadata))


def _opened(
    source: Any, max_pixels: int, channels: ImageChannels, allow_vrt: bool
) -> contextlib.AbstractContextManager[Raster]:
    if channels.is_rgb8 and not is_stack(source):
        return open_raster(source, max_pixels, allow_vrt=allow_vrt)
    return open_raster(source, max_pixels, channels=channels, allow_vrt=allow_vrt)


def _checked_source(source: Any) -> Any:
    """Returns the source, or the path of an opened dataset of rasterio.

    Raises:
        InvalidArgumentError: if it is a URL, or an opened dataset without a file.
        InvalidTypeError: if it is an image in memory other than an array.
    """
    if isinstance(source, str) and _SCHEME.match(source):
        raise InvalidArgumentError(
            f"{source!r} is a URL, of which parts cannot be read; download it first, and pass the path of the file"
        )
    if type(source).__module__.startswith("rasterio"):  # reads by read(), in windows, not by slices
        # an opened file may be changed while it is read otherwise; a warped dataset has the name of its source
        if type(source).__name__ == "DatasetReader" and Path(source.name).is_file():
            return source.name
        raise InvalidTypeError(
            f"{source!r} has no file of its own that could be read; write it to a file, close it and pass the path"
        )
    if isinstance(source, Image.Image | bytes | bytearray | memoryview | io.IOBase) or (
        hasattr(source, "read") and not hasattr(source, "shape")
    ):
        raise InvalidTypeError(
            f"source must be a path or an array, got {type(source).__name__}; pass its path, or call the predictor "
            "itself, which takes images in memory"
        )
    return source
