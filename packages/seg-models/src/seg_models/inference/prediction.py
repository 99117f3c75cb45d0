"""The prediction of one image: its label map, with methods to show and save it."""

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
from seg_core.files.geo_reference import read_geo_reference
from seg_core.files.image_writing import check_format, write_image
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.overlay import colorize, overlay
from seg_models.inference.output_paths import check_not_source
from seg_models.inference.raster_writing import class_palette, tiff_writer
from seg_models.inference.regions import polygons

__all__ = ["Prediction", "class_areas"]


@dataclass(frozen=True)
class Prediction:
    """The label map of one image.

    Attributes:
        labels: uint8 (H, W), class ids; uint16 if ids are above 255. They have the image's own size, upright. Pixels
            with a class probability below the threshold, or without data in the image's file, have the metadata's
            `ignore_index`.
        metadata: names and colors of the classes.
        image: uint8 (H, W, 3), RGB, the image, upright.
        scores: float32 (H, W), probability of the predicted class, 0 to 1; None unless the predictor has `scores=True`.
        logits: float32 (K, H, W); None unless the predictor has `logits=True`.
        source: path or URL of the image; None for an image in memory.
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
        """Returns the image overlaid with the colors of its classes, uint8 (H, W, 3).

        Args:
            alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
        """
        return overlay(self.image, self.labels, self.metadata, alpha)

    @functools.cached_property
    def areas(self) -> dict[str, int]:
        """Pixels of each class that occurs, by its name, largest first; ignored pixels are not counted."""
        return class_areas(np.bincount(self.labels.ravel(), minlength=self.metadata.num_classes), self.metadata)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the label map atomically; the suffix of `path` selects the format.

        - `.png`: the values are the class ids. 8-bit ids have the palette of the classes, so viewers show colors;
          larger ids are saved as 16-bit gray.
        - `.tif`, `.tiff`: the same as tiled TIFF, with the geo reference of the image's file: transform and CRS, ground
          control points, rational polynomial coefficients, also of a world file.
        - `.geojson`: a polygon for each connected region of a class (pixels that share a side), with the properties
          `class_id`, `class` and `pixels`. Coordinates are pixels, x to the right and y down, from the upper left
          corner of the image; for an image with a geo reference longitude and latitude (WGS 84). With a transform but
          no CRS they are those of the transform, in its unit: assign the CRS in the program that reads them. Rational
          polynomial coefficients are applied at their mean height.

        Raises:
            InvalidArgumentError: if `path` has another suffix: lossy formats would change the ids; or if it is the
                image's own file.
            WriteError: if it cannot be written.
            MissingDependencyError: for TIFF and GeoJSON, if rasterio is not installed.
        """
        write = _WRITERS.get(Path(path).suffix.lower())
        if write is None:
            raise InvalidArgumentError(
                f"path must end in {', '.join(_WRITERS)}, which keep the class ids, got {os.fspath(path)!r}"
            )
        check_not_source(path, self.source)
        write(self, path)

    def save_overlay(self, path: str | os.PathLike[str], alpha: float = 0.5) -> None:
        """Writes the image overlaid with the colors of its classes, atomically; the suffix selects the format.

        Raises:
            InvalidArgumentError: if Pillow has no format for that suffix, or the format holds no image of this size; or
                if `path` is the image's own file.
            WriteError: if it cannot be written.
        """
        check_format(path, self.labels.shape)
        check_not_source(path, self.source)
        write_image(path, self.overlay(alpha))


def class_areas(counts: npt.NDArray[np.int64], metadata: DatasetMetadata) -> dict[str, int]:
    """Returns the pixels of each class by its name, largest first, without classes that do not occur.

    Args:
        counts: int64 of at least K entries, pixels of each id; entries beyond the classes are ignored.
        metadata: names and colors of the K classes.
    """
    classes = counts[: metadata.num_classes]
    order = np.argsort(-classes, kind="stable")
    return {metadata.labels[i]: int(classes[i]) for i in order if classes[i]}


def _save_png(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    image = Image.fromarray(prediction.labels)
    if prediction.labels.dtype == np.uint8:
        image.putpalette([channel for color in class_palette(prediction.metadata) for channel in color])
    with atomic_path(path) as temporary:
        image.save(temporary)


def _save_tiff(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    labels = prediction.labels
    geo_reference = read_geo_reference(prediction.source, labels.shape)
    with tiff_writer(path, labels.shape, labels.dtype, prediction.metadata, geo_reference) as write:
        write(0, 0, labels)


def _save_geojson(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    geo_reference = read_geo_reference(prediction.source, prediction.labels.shape)
    features = polygons(prediction.labels, prediction.metadata, geo_reference)
    # one feature per line, so that line-based tools can read files with millions of vertices
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
