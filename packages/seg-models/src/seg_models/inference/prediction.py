"""The prediction of one image: its label map, with methods to show and save it."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.files.atomic import atomic_path
from seg_core.files.geo_reference import GeoReference, read_geo_reference
from seg_core.files.image_writing import check_format, save_image, write_image
from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL
from seg_core.plots.figures import draw_overlay, exhibit_figure
from seg_core.plots.legend import short_name
from seg_core.plots.overlay import colorize, overlay
from seg_models.inference.notebook import in_notebook, percent, prediction_html, show_html
from seg_models.inference.other_names import PREDICTION, attribute_error
from seg_models.inference.output_paths import check_not_source, file_and_page
from seg_models.inference.raster_writing import class_palette, remove_sidecars, tiff_writer
from seg_models.inference.regions import ignore_invalid, polygons

__all__ = ["Prediction", "class_areas"]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The label map of one image.

    Notebooks show it as the overlaid image with the areas of its classes. `numpy.asarray(prediction)` is `labels`.
    Predictions are equal if all their arrays, classes and sources are; they can be pickled.

    Attributes:
        labels: uint8 (H, W), class ids; uint16 if ids are above 255. They have the image's own size, upright. Pixels
            with a class probability below the threshold, or without data in the image's file, have the metadata's
            `ignore_index`. Of a binary task 1 is the object and 0 the background; of a multilabel task they are boolean
            planes (K, H, W), False where the file has no data.
        metadata: names and colors of the classes.
        image: uint8 (H, W, 3), RGB, the image, upright. Of other channels those that `metadata.channels.shown` names,
            from their range to 0 to 255.
        scores: float32 (H, W), probability of the predicted class, 0 to 1; of a binary or multilabel task (K, H, W),
            probability of each class. None unless the predictor has `scores=True`.
        logits: float32 (K, H, W); None unless the predictor has `logits=True`.
        source: path or URL of the image; None for an image in memory; of an image of several files that of the first.
        files: the paths of an image of several files; empty for one.
        valid: bool (H, W), whether pixels hold data in the image's file; left out, all do.
    """

    labels: npt.NDArray[Any]
    metadata: DatasetMetadata
    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32] | None = None
    logits: npt.NDArray[np.float32] | None = None
    source: str | None = None
    files: tuple[str, ...] = ()
    valid: npt.NDArray[np.bool_] = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.valid is None:  # read-only, and without memory of its own
            object.__setattr__(self, "valid", np.broadcast_to(np.True_, self._size))

    if not TYPE_CHECKING:  # type checkers know the attributes
        __getattr__ = attribute_error(PREDICTION)

    # ---- one class, one pixel ----------------------------------------------------------------------------------------

    def mask(self, name: str | int) -> npt.NDArray[np.bool_]:
        """Returns which pixels are of a class, bool (H, W).

        Args:
            name: name of the class, or its id.

        Raises:
            UnknownNameError: if no class has that name; the message names the nearest ones.
            InvalidArgumentError: if it is no id of a class. Ignored pixels are `labels == metadata.ignore_index`.
        """
        class_id = self.metadata.class_id(name)
        if self.metadata.task == MULTILABEL:
            return self.labels[class_id].astype(np.bool_)
        mask: npt.NDArray[np.bool_] = self.labels == (1 if self.metadata.task == BINARY else class_id)
        return mask

    def probability(self, name: str | int) -> npt.NDArray[np.float32]:
        """Returns the probability of a class at each pixel, float32 (H, W), 0 to 1: the softmax of the logits.

        Of a binary or multilabel task it is the sigmoid of the logit of the class.

        Args:
            name: name of the class, or its id.

        Raises:
            UnknownNameError: if no class has that name.
            InvalidArgumentError: if the prediction has no logits: pass `logits=True` to the predictor.
        """
        class_id = self.metadata.class_id(name)
        if self.logits is None:
            raise InvalidArgumentError(
                "probability() needs the logits of all classes, which this prediction does not have; create the "
                "predictor with logits=True"
            )
        if self.metadata.task != MULTICLASS:
            return np.exp(-np.logaddexp(np.float32(0), -self.logits[class_id]))  # without overflow
        # class by class, so that memory is needed for one map and not for K of them
        largest = self.logits.max(axis=0)
        total = np.zeros_like(largest)
        for logits in self.logits:
            total += np.exp(logits - largest)
        return np.exp(self.logits[class_id] - largest) / total

    def polygons(self, name: str | int | None = None) -> list[dict[str, Any]]:
        """Returns the connected regions as polygons: the features that `save("x.geojson")` writes.

        Each is a dict `{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": {...}}`
        with the properties `class_id`, the index of the class in the metadata, `class` and `pixels`. The first ring is
        the outer border, further ones are holes. Points are pixels (x, y) from the upper left corner of the image; for
        a GeoTIFF longitude and latitude (WGS 84).

        Args:
            name: name or id of the class; None gives the regions of all classes.

        Raises:
            UnknownNameError: if no class has that name.
            InvalidArgumentError: if the image lies where its CRS does not reach.
            MissingDependencyError: if rasterio is not installed.
        """
        wanted = None if name is None else self.metadata.class_id(name)
        features = polygons(self._ids, self.metadata, _geo_reference(self))
        return [f for f in features if wanted is None or f["properties"]["class_id"] == wanted]

    def name_at(self, y: int, x: int) -> str | None:
        """Returns the name of the class at a pixel; None if the pixel is ignored, or background of a binary task.

        Args:
            y: row of the pixel, 0 (top) to H - 1.
            x: column of the pixel, 0 (left) to W - 1.

        Raises:
            InvalidArgumentError: if it is not a pixel of the image; negative numbers do not count from the end; or if
                the task is multilabel, where a pixel has any number of classes: `names_at` returns them.
        """
        if self.metadata.task == MULTILABEL:
            raise InvalidArgumentError(
                "name_at() is for one class per pixel, and this prediction is of a multilabel task; use names_at(y, x)"
            )
        return next(iter(self.names_at(y, x)), None)

    def names_at(self, y: int, x: int) -> tuple[str, ...]:
        """Returns the names of the classes at a pixel: any number of a multilabel task, else at most one.

        Args:
            y: row of the pixel, 0 (top) to H - 1.
            x: column of the pixel, 0 (left) to W - 1.

        Raises:
            InvalidArgumentError: if it is not a pixel of the image.
        """
        height, width = self._size
        for argument, value, length in zip("yx", (y, x), (height, width), strict=True):
            if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value < length:
                raise InvalidArgumentError(
                    f"{argument} must be an integer from 0 to {length - 1} for an image of {height}x{width} (height x "
                    f"width), got {value!r}"
                )
        if self.metadata.task != MULTICLASS:
            planes = self.labels.reshape(-1, height, width)
            return tuple(name for name, plane in zip(self.metadata.labels, planes, strict=True) if plane[y, x] == 1)
        class_id = int(self.labels[y, x])
        return () if class_id == self.metadata.ignore_index else (self.metadata.labels[class_id],)

    # ---- showing -----------------------------------------------------------------------------------------------------

    def colorize(self) -> npt.NDArray[np.uint8]:
        """Returns the label map in the colors of its classes, uint8 (H, W, 3), RGB."""
        return colorize(self._ids, self.metadata)

    def overlay(
        self, alpha: float = 0.5, *, contours: bool = False, legend: bool | Sequence[str] = False
    ) -> npt.NDArray[np.uint8]:
        """Returns the image overlaid with the colors of its classes.

        Args:
            alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
            contours: whether regions are outlined, 1 to 3 pixels wide by the size of the image; with `alpha=0` the
                outlines alone are drawn.
            legend: whether the classes that occur are named in a strip below the image. Names of classes give these, in
                this order; then all images of one size give results of one size, as a video needs.

        Returns:
            uint8 (H, W, 3), RGB; for OpenCV, which expects BGR in its own memory layout to draw on it, write
            `np.ascontiguousarray(prediction.overlay()[..., ::-1])`. With a legend it is higher, and wider if the names
            need it.

        Raises:
            UnknownNameError: if `legend` holds a name that no class has.
            InvalidArgumentError: if an argument is not allowed.
        """
        return overlay(
            self.image, self._ids, self.metadata, alpha, contours=contours, legend=legend, channels=RGB_CHANNELS
        )

    def show(self, alpha: float = 0.5, *, contours: bool = False) -> None:
        """Shows the overlaid image and its classes: in the notebook, else in a window, and waits until it is closed.

        Args:
            alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
            contours: whether regions are outlined.

        Raises:
            InvalidArgumentError: if an argument is not allowed.
            MissingDependencyError: outside of notebooks, if matplotlib is not installed.
        """
        if in_notebook():
            show_html(self._html(alpha, contours))
        else:
            figure = draw_overlay(self.image, self._ids, self.metadata, alpha, contours=contours, channels=RGB_CHANNELS)
            exhibit_figure(figure, show=True)

    def _html(self, alpha: float = 0.5, contours: bool = False) -> str:
        height, width = self._size
        title = f"{self.source or 'image'}: {height}x{width} (height x width)"
        ids, areas = self._ids, self.areas
        if self.metadata.task == MULTICLASS:
            ignored = ids.size - sum(areas.values())
        else:
            ignored = int((ids.reshape(-1, height, width)[0] == self.metadata.ignore_index).sum())
        return prediction_html(title, self.image, ids, self.metadata, areas, ignored, alpha, contours=contours)

    def _repr_html_(self) -> str:
        return self._html()

    def __repr__(self) -> str:
        pixels = max(math.prod(self._size), 1)
        parts = [f"{short_name(name, 28)} {percent(count / pixels)}" for name, count in self.areas.items()]
        shown = [*parts[:2], *([f"+{len(parts) - 2}"] if len(parts) > 2 else [])] or [
            "all ignored" if self.metadata.task == MULTICLASS else "no class occurs"
        ]
        size = "x".join(map(str, self._size))
        name = "" if self.source is None else f"{Path(self.source).name or self.source}: "
        return f"Prediction({name}{size}, {', '.join(shown)})"

    # ---- as a value --------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        if self is other:
            return True
        same = (self.source, self.files, self.metadata) == (other.source, other.files, other.metadata)
        return same and all(
            _equal(getattr(self, name), getattr(other, name))
            for name in ("labels", "image", "scores", "logits", "valid")
        )

    def __hash__(self) -> int:
        return hash((self.source, self.metadata, self.labels.shape))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.labels, dtype=dtype, copy=copy)

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.labels.shape[-2], self.labels.shape[-1]

    @property
    def _ids(self) -> npt.NDArray[Any]:
        """The labels as files have them: planes are uint8, with the ignored value where the image has no data."""
        if self.metadata.task != MULTILABEL:
            return self.labels
        planes = self.labels.astype(np.uint8)
        return planes if self.valid.all() else ignore_invalid(planes, self.valid, self.metadata.ignore_index)

    # ---- areas and files ---------------------------------------------------------------------------------------------

    @property
    def areas(self) -> dict[str, int]:
        """Pixels of each class that occurs, by its name, largest first; ignored pixels are not counted.

        Those of the background of a binary task are not either.
        """
        if self.metadata.task == MULTILABEL:
            return class_areas(self.labels.sum((1, 2), dtype=np.int64), self.metadata)
        return class_areas(np.bincount(self.labels.ravel(), minlength=self.metadata.num_ids), self.metadata)

    def plane(self, name: str | int) -> "Prediction":
        """Returns the prediction of one class alone, as that of a binary task: 1 where the class is, 0 elsewhere.

        Its methods show and save this class: `prediction.plane("road").save("road.png")`. Scores and logits are left
        out, except those of the class in a binary or multilabel task.

        Args:
            name: name of the class, or its id.

        Raises:
            UnknownNameError: if no class has that name.
            InvalidArgumentError: if it is no id of a class.
        """
        class_id, metadata = self.metadata.class_id(name), self.metadata
        ignore_index = metadata.ignore_index if 2 <= metadata.ignore_index <= 255 else 255
        one = replace(
            metadata,
            labels=(metadata.labels[class_id],),
            colors=(metadata.colors[class_id],),
            left_right_pairs=(),
            ignore_index=ignore_index,
            task=BINARY,
        )
        ids = self.mask(name).astype(np.uint8)
        ids[~self.valid if metadata.task == MULTILABEL else self.labels == metadata.ignore_index] = ignore_index
        own = slice(class_id, class_id + 1)
        has_own = metadata.task != MULTICLASS
        scores = self.scores[own] if has_own and self.scores is not None else None
        logits = self.logits[own] if has_own and self.logits is not None else None
        return Prediction(ids, one, self.image, scores, logits, self.source, self.files, self.valid)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the label map atomically; the suffix of `path` selects the format.

        - `.png`: the values are the class ids. 8-bit ids have the palette of the classes, so viewers show colors;
          larger ids are saved as 16-bit gray. Of a binary task they are 0 (background, black) and 1. A multilabel task
          has one PNG per class: `prediction.plane(name).save(path)`.
        - `.tif`, `.tiff`: the same as tiled TIFF, with the geo reference of the image's file: transform and CRS, ground
          control points, rational polynomial coefficients, also of a world file. Of a multilabel task it has a band per
          class, of 0, 1 and the ignored value, with the name of the class as its description.
        - `.geojson`: a polygon for each connected region of a class (pixels that share a side), with the properties
          `class_id`, `class` and `pixels`. Coordinates are pixels, x to the right and y down, from the upper left
          corner of the image; for an image with a geo reference longitude and latitude (WGS 84). With a transform but
          no CRS, or one of no place on the earth, they are those of the transform, in its unit: assign the CRS in the
          program that reads them. Rational polynomial coefficients are applied at their mean height.

        A PNG or TIFF replaces an older file of its name together with what GDAL keeps beside it (`.ovr`, `.msk`,
        `.aux.xml`), which would change the new one.

        Raises:
            InvalidArgumentError: if `path` has another suffix: lossy formats would change the ids; if it is a PNG and
                the task multilabel; if it is the image's own file; for GeoJSON, if the image lies where its CRS does
                not reach.
            WriteError: if it cannot be written.
            MissingDependencyError: for TIFF and GeoJSON, if rasterio is not installed.
        """
        write = _WRITERS.get(Path(path).suffix.lower())
        if write is None:
            raise InvalidArgumentError(
                f"path must end in {', '.join(_WRITERS)}, which keep the class ids, got {os.fspath(path)!r}"
            )
        for source in self.files or (self.source,):
            check_not_source(path, source)
        write(self, path)

    def save_overlay(
        self,
        path: str | os.PathLike[str],
        alpha: float = 0.5,
        *,
        contours: bool = False,
        legend: bool | Sequence[str] = False,
    ) -> None:
        """Writes the image overlaid with the colors of its classes, atomically; the suffix selects the format.

        Args:
            path: the file, such as `"x.png"` or `"x.jpg"`.
            alpha: weight of the colors, as in `overlay`.
            contours: whether regions are outlined.
            legend: whether the classes that occur are named below the image, or the names of those that are.

        Raises:
            UnknownNameError: if `legend` holds a name that no class has.
            InvalidArgumentError: if Pillow cannot write a format with that suffix, or the format holds no image of this
                size; if `path` is the image's own file, or another argument is not allowed.
            WriteError: if it cannot be written.
        """
        check_format(path, self._size)
        for source in self.files or (self.source,):
            check_not_source(path, source)
        write_image(path, self.overlay(alpha, contours=contours, legend=legend))


def class_areas(counts: npt.NDArray[np.int64], metadata: DatasetMetadata) -> dict[str, int]:
    """Returns the pixels of each class by its name, largest first, without classes that do not occur.

    Args:
        counts: int64 of at least K entries, pixels of each id; entries beyond the classes are ignored. Of a binary task
            of at least 2 entries, those of the background first; of a multilabel task pixels of each plane.
        metadata: names and colors of the K classes.
    """
    classes = counts[1:2] if metadata.task == BINARY else counts[: metadata.num_classes]
    order = np.argsort(-classes, kind="stable")
    return {metadata.labels[i]: int(classes[i]) for i in order if classes[i]}


def _equal(one: npt.NDArray[Any] | None, other: npt.NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    # NaN as logits of a network that diverged; integers have none, and are compared without a copy
    return np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.floating))


def _geo_reference(prediction: Prediction) -> GeoReference | None:
    if prediction.source is None:
        return None
    file, page = file_and_page(prediction.source)
    return read_geo_reference(file, prediction._size, page)


def _save_png(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    if prediction.metadata.task == MULTILABEL:
        raise InvalidArgumentError(
            f"a PNG holds one label map, and a multilabel task has one per class, got {os.fspath(path)!r}; save .tif, "
            "with a band per class, or a PNG of each class: prediction.plane(name).save(path)"
        )
    image = Image.fromarray(prediction.labels)
    if prediction.labels.dtype == np.uint8:
        image.putpalette([channel for color in class_palette(prediction.metadata) for channel in color])
    save_image(path, image)
    remove_sidecars(path)


def _save_tiff(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    labels = prediction._ids
    with tiff_writer(path, labels.shape, labels.dtype, prediction.metadata, _geo_reference(prediction)) as write:
        write(0, 0, labels)


def _save_geojson(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    features = polygons(prediction._ids, prediction.metadata, _geo_reference(prediction))
    # one feature per line, so that line-based tools can read files with millions of vertices
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(features):
            file.write((",\n" if number else "\n") + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")


_WRITERS: dict[str, Callable[[Prediction, str | os.PathLike[str]], None]] = {
    ".png": _save_png,
    ".tif": _save_tiff,
    ".tiff": _save_tiff,
    ".geojson": _save_geojson,
}
