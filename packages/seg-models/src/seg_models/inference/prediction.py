"""What a prediction of one image is, and how it is shown and kept."""

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.files.atomic import atomic_path
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.overlay import colorize, overlay

__all__ = ["LABEL_SUFFIXES", "Prediction", "class_areas", "class_palette"]

_PALETTE_SIZE = 256


@dataclass(frozen=True)
class Prediction:
    """The label map of one image.

    Attributes:
        labels: uint8 (H, W), class ids; uint16 where ids do not fit. The image's own size, upright. Pixels that a
            threshold left without a class have the metadata's `ignore_index`.
        metadata: names and colors of the classes.
        image: uint8 (H, W, 3), RGB, the image, upright.
        scores: float32 (H, W), probability of the likeliest class, 0 to 1; None where it was not asked for.
        logits: float32 (K, H, W); None where they were not asked for.
        source: path or address of the image; None for one in memory.
    """

    labels: npt.NDArray[Any]
    metadata: DatasetMetadata
    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32] | None = None
    logits: npt.NDArray[np.float32] | None = None
    source: str | None = None

    def colorize(self) -> npt.NDArray[np.uint8]:
        """Returns the label map in the colors of its classes, uint8 (H, W, 3)."""
        return colorize(self.labels, self.metadata)

    def overlay(self, alpha: float = 0.5) -> npt.NDArray[np.uint8]:
        """Returns the image with its classes laid over it, uint8 (H, W, 3).

        Args:
            alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
        """
        return overlay(self.image, self.labels, self.metadata, alpha)

    @functools.cached_property
    def areas(self) -> dict[str, int]:
        """Pixels of each class that occurs, by its name, largest first; ignored ones are not counted."""
        return class_areas(np.bincount(self.labels.ravel(), minlength=self.metadata.num_classes), self.metadata)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the label map, whole or not at all; the suffix chooses the format.

        - `.png`: the values are the class ids. Up to 256 ids it has the palette of the classes, so viewers show
          colors; with more it is 16-bit gray.
        - `.tif`, `.tiff`: the same as tiled TIFF, which keeps the place on earth of a GeoTIFF that was predicted.
        - `.geojson`: a polygon for each connected region of a class (pixels that share a side), with the properties
          `class_id`, `class` and `pixels`. Coordinates are pixels, x to the right and y down, from the upper left
          corner of the image; for a GeoTIFF longitude and latitude (WGS 84).

        Raises:
            InvalidArgumentError: if `path` ends in something else: formats that lose detail would change the ids.
            WriteError: if it cannot be written.
            MissingDependencyError: if TIFF or GeoJSON is asked for and rasterio is not installed.
        """
        write = _WRITERS.get(Path(path).suffix.lower())
        if write is None:
            raise InvalidArgumentError(
                f"path must end in {', '.join(_WRITERS)}, which keep the class ids, got {os.fspath(path)!r}"
            )
        write(self, path)

    def save_overlay(self, path: str | os.PathLike[str], alpha: float = 0.5) -> None:
        """Writes the image with its classes laid over it, whole or not at all; the suffix chooses the format.

        Raises:
            InvalidArgumentError: if Pillow knows no format of that suffix.
            WriteError: if it cannot be written.
        """
        if Path(path).suffix.lower() not in Image.registered_extensions():
            raise InvalidArgumentError(f"path must end in .png, .jpg or the like, got {os.fspath(path)!r}")
        image = Image.fromarray(self.overlay(alpha))
        with atomic_path(path) as temporary:
            image.save(temporary, quality=92)  # formats without loss ignore it


def class_areas(counts: npt.NDArray[np.int64], metadata: DatasetMetadata) -> dict[str, int]:
    """Returns the counts of classes by name, largest first, without those of 0.

    Args:
        counts: int64 of at least K entries, pixels of each id; what is beyond the classes is left out.
        metadata: of the K classes.
    """
    classes = counts[: metadata.num_classes]
    order = np.argsort(-classes, kind="stable")
    return {metadata.labels[i]: int(classes[i]) for i in order if classes[i]}


def class_palette(metadata: DatasetMetadata) -> list[tuple[int, int, int]]:
    """Returns the colors (red, green, blue) of the ids 0 to 255."""
    colors = [*metadata.colors, *[(0, 0, 0)] * (_PALETTE_SIZE - metadata.num_classes)]
    if metadata.ignore_index < _PALETTE_SIZE:
        colors[metadata.ignore_index] = metadata.ignore_color
    return colors[:_PALETTE_SIZE]


def _save_png(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    image = Image.fromarray(prediction.labels)
    if prediction.labels.dtype == np.uint8:
        image.putpalette([channel for color in class_palette(prediction.metadata) for channel in color])
    with atomic_path(path) as temporary:
        image.save(temporary)


def _save_tiff(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    from seg_models.inference.large import read_place, tiff_writer

    labels = prediction.labels
    place = read_place(prediction.source, labels.shape)
    with tiff_writer(path, labels.shape, labels.dtype, prediction.metadata, place) as write:
        write(0, 0, labels)


def _save_geojson(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    from seg_models.inference.large import polygons, read_place

    place = read_place(prediction.source, prediction.labels.shape)
    features = polygons(prediction.labels, prediction.metadata, place)
    # one feature a line: files of millions of corners stay readable to tools that go by lines
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(features):
            file.write((",\n" if number else "\n") + json.dumps(feature))
        file.write("\n]}\n")


_WRITERS: dict[str, Callable[[Prediction, str | os.PathLike[str]], None]] = {
    ".png": _save_png,
    ".tif": _save_tiff,
    ".tiff": _save_tiff,
    ".geojson": _save_geojson,
}
LABEL_SUFFIXES = tuple(_WRITERS)
"""Endings of the files that `Prediction.save` writes."""
