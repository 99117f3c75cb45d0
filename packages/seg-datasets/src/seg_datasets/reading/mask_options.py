"""How the masks of a folder become ids: the options of `FolderDataset` about the values of masks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError, counted
from seg_core.files import images
from seg_core.files.images import Once
from seg_core.files.rgb import to_rgb
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import label_map_line
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.class_files import Metadata, check_has_colors
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.pairs import JPEG_SUFFIXES, MASK_SUFFIXES, first_few
from seg_datasets.reading.plane_masks import BitsReader, PlanesReader
from seg_datasets.reading.samples import MaskReader, Reading, gone
from seg_datasets.reading.task_options import unlike_task

__all__ = ["MaskOptions", "MaskReading", "ThresholdReader"]

_MAX_ID = 65535
_MOST_BITS = 16
_MOST_COLOR = 64  # difference of the channels of a pixel; compression changes gray by less
_REMEDY = "correct the mask or the labels of metadata, or convert the ids with label_map"
_COLOR_REMEDY = (
    "add these colors to the metadata, or save the mask without compression artifacts and smoothed edges; pixels of "
    "ignore_color are ignored"
)
_BLACK_AND_WHITE = label_map_line(LabelMap({0: 0, 255: 1}))


@dataclass(frozen=True)
class MaskReading:
    """How the masks of a folder are read.

    Attributes:
        label_map: raw ids -> train ids.
        remedy: advice about an id that it does not list.
        reader: returns the raw ids of a mask; None for those that the file stores.
        suffixes: suffixes of the files that may be masks.
    """

    label_map: LabelMap
    remedy: str = _REMEDY
    reader: MaskReader | None = None
    suffixes: tuple[str, ...] = MASK_SUFFIXES


@dataclass(frozen=True)
class MaskOptions:
    """The options of `FolderDataset` of the same names."""

    label_map: LabelMap | Mapping[Any, Any] | None = None
    colors: bool = False
    threshold: int | None = None
    masks_as: str | None = None
    masks: str | None = None
    missing_class: str = "error"

    def resolve(self, classes: DatasetMetadata, source: Metadata | None) -> MaskReading:
        """Returns how masks are read.

        Args:
            classes: the classes.
            source: as they were given.

        Raises:
            InvalidArgumentError: if an option is not allowed, or does not fit the task of the classes.
        """
        if not isinstance(self.colors, bool):
            raise InvalidArgumentError(
                f"colors must be true or false, got {self.colors!r}; colors belong into the metadata"
            )
        check_choice(
            "missing_class", self.missing_class, ("error", "absent"), "'absent' takes it for a class without pixels"
        )
        if self.masks_as is not None:
            check_choice("masks_as", self.masks_as, ("planes", "bits"), "None is 'planes', or a file per class")
        by_class = isinstance(self.masks, str) and "{class}" in self.masks
        given = "masks_as" if self.masks_as is not None else "{class} in masks" if by_class else ""
        if given and classes.task != MULTILABEL:
            raise InvalidArgumentError(unlike_task(given, MULTILABEL, classes))
        if self.missing_class != "error" and not by_class:
            raise InvalidArgumentError(
                f"missing_class = {self.missing_class!r} is of masks with a file per class; leave it out, or write "
                "{class} into masks, as in masks = 'masks/{class}'"
            )
        if self.threshold is not None:
            return self._with_threshold(classes)
        if self.colors:
            if classes.task != MULTICLASS:
                raise InvalidArgumentError(
                    f"colors = true reads one class per pixel, and {classes.name} is of a {classes.task} task; save "
                    "its masks as ids 0 and 1, and leave colors out"
                )
            check_has_colors(classes, source)
            return _by_color(classes, self.label_map)
        remedy = _REMEDY
        if classes.task != MULTICLASS:
            remedy = (
                f"save it with 0 for the background and 1 for the object, or convert its values: {_BLACK_AND_WHITE} "
                "for masks of 0 and 255"
            )
        if self.label_map is not None:
            remedy = "correct the mask, or list its ids in label_map"
        elif classes.task == BINARY:
            remedy += ", threshold = 128 for masks with smoothed or JPEG-coded edges"
        if classes.task == MULTILABEL:
            return self._of_planes(classes, remedy, by_class=by_class)
        return MaskReading(_resolve_label_map(self.label_map, classes), remedy)

    def _of_planes(self, classes: DatasetMetadata, remedy: str, *, by_class: bool) -> MaskReading:
        label_map, count = _resolve_label_map(self.label_map, classes), classes.num_classes
        if by_class:
            if self.masks_as is not None:
                raise InvalidArgumentError(
                    f"masks_as = {self.masks_as!r} is of masks in one file, and masks = {self.masks!r} has one per "
                    "class; remove one of them"
                )
            return MaskReading(label_map, remedy)
        if self.masks_as != "bits":
            return MaskReading(label_map, remedy, PlanesReader(count), (*MASK_SUFFIXES, ".npy"))
        if self.label_map is not None:
            raise InvalidArgumentError(
                "masks_as = 'bits' reads a bit per class, so label_map has nothing to convert; remove one of them"
            )
        if count > _MOST_BITS:
            raise InvalidArgumentError(
                f"masks_as = 'bits': an id has {_MOST_BITS} bits, and {classes.name} has {count} classes; save a page "
                "or band per class, or a file per class"
            )
        return MaskReading(label_map, remedy, BitsReader(count, classes.ignore_index))

    def _with_threshold(self, classes: DatasetMetadata) -> MaskReading:
        if classes.task != BINARY:
            raise InvalidArgumentError(unlike_task(f"threshold = {self.threshold!r}", BINARY, classes))
        if not is_integer(self.threshold, 1) or self.threshold > _MAX_ID:
            raise InvalidArgumentError(
                f"threshold must be a gray value from 1 to {_MAX_ID}, from which a pixel is the object, such as 128, "
                f"got {self.threshold!r}"
            )
        for name, given in (("label_map", self.label_map is not None), ("colors", self.colors)):
            if given:
                raise InvalidArgumentError(
                    f"threshold = {self.threshold} tells object and background apart by gray values, so {name} has "
                    "nothing to convert; remove one of them"
                )
        label_map = LabelMap.identity(2, ignore_index=classes.ignore_index)
        return MaskReading(label_map, _REMEDY, ThresholdReader(self.threshold), MASK_SUFFIXES + JPEG_SUFFIXES)


@dataclass(frozen=True)
class ThresholdReader:
    """Reads a mask of gray values as object and background.

    Attributes:
        threshold: the gray value from which a pixel is the object.
    """

    threshold: int

    @property
    def name(self) -> str:
        """Name of the reader in the cache of mask scans."""
        return f"threshold {self.threshold}"

    def __call__(self, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        """Returns uint8 (H, W): 1 where the gray value is at least the threshold, else 0.

        Raises:
            CorruptFileError: if the file cannot be read, or is a color image.
            DatasetNotFoundError: if the file no longer exists.
        """
        with gone((path,), "mask"):
            mask = images.load_mask(path, max_pixels=reading.max_pixels, may_be_lossy=True)
            image = mask.image
            if image.mode in ("P", "PA"):
                image = to_rgb(image)
            if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
                pixels = np.asarray(image.convert("RGB")).astype(np.int16)
                if int(np.ptp(pixels, axis=2).max(initial=0)) > _MOST_COLOR:
                    raise CorruptFileError(
                        f"mask {mask.name} is a color image, and threshold = {self.threshold} is of gray values; save "
                        "it in gray. If this file is an image, the folders of images and masks are swapped"
                    )
                values = np.asarray(image.convert("L"))
            elif image.mode == "1" or (image.mode in ("L", "LA") and mask.bits < 8):
                values = np.asarray(image.convert("L"))  # 0 to 255, as viewers show it
                values = 255 - values if mask.inverted else values
            else:
                values = images.ids_of(mask, Once())
            return (values >= self.threshold).astype(np.uint8)


def _by_color(metadata: DatasetMetadata, label_map: LabelMap | Mapping[Any, Any] | None) -> MaskReading:
    if label_map is not None:
        raise InvalidArgumentError(
            "label_map converts ids, and colors = true reads colors as the classes of the metadata; remove one of them"
        )
    colors = dict(enumerate(metadata.colors))
    ignored = [metadata.num_classes] * (metadata.ignore_color not in metadata.colors)
    colors |= dict.fromkeys(ignored, metadata.ignore_color)
    to_train_ids = LabelMap.identity(metadata.num_classes, *ignored, ignore_index=metadata.ignore_index)
    return MaskReading(to_train_ids, _REMEDY, ColorReader(colors, "error", only_colors=True, remedy=_COLOR_REMEDY))


def _resolve_label_map(label_map: LabelMap | Mapping[Any, Any] | None, metadata: DatasetMetadata) -> LabelMap:
    ignore_index, count = metadata.ignore_index, metadata.num_ids
    if label_map is None:
        return LabelMap.identity(count, ignore_index, ignore_index=ignore_index)
    if not isinstance(label_map, LabelMap):
        if not isinstance(label_map, Mapping):
            raise InvalidArgumentError(f"label_map must be a LabelMap or a table of ids, got {label_map!r}")
        table = {_raw_id(raw): _train_id(raw, train, count) for raw, train in label_map.items()}
        if len(table) < len(label_map):
            raise InvalidArgumentError(f"label_map lists an id twice: {first_few(map(repr, label_map))}")
        label_map = LabelMap(table, ignore_index=ignore_index)
    if label_map.ignore_index != ignore_index:
        raise InvalidArgumentError(
            f"label_map has ignore_index {label_map.ignore_index}, but the metadata {metadata.name!r} have "
            f"{ignore_index}; use the same ignore_index for both"
        )
    too_large = sorted({train for train in label_map.mapping.values() if isinstance(train, int) and train >= count})
    if too_large:
        if metadata.task != MULTICLASS:
            raise InvalidArgumentError(
                f"label_map has the train ids {first_few(map(str, too_large))}, but the masks of a {metadata.task} "
                'task hold 0 for the background and 1 for the object; map to these, or to "ignore" (IGNORE in Python)'
            )
        raise InvalidArgumentError(
            f"label_map has the train ids {first_few(map(str, too_large))}, but the metadata {metadata.name!r} have "
            f'{counted(count, "class", "classes")}, 0 to {count - 1}; map to these, or to "ignore" (IGNORE in Python)'
        )
    return label_map


def _raw_id(key: Any) -> int:
    # the keys of a TOML or JSON table are strings
    number = int(key) if isinstance(key, str) and re.fullmatch(r"[0-9]+", key) else key
    if not is_integer(number, 0) or number > _MAX_ID:
        raise InvalidArgumentError(
            f"label_map has the key {key!r}: keys are the ids in the masks, integers from 0 to {_MAX_ID}"
        )
    return number


def _train_id(raw: Any, train: Any, count: int) -> Any:
    if train == "ignore" or train is IGNORE:
        return IGNORE
    if not is_integer(train, 0):
        raise InvalidArgumentError(
            f'label_map maps {raw!r} to {train!r}: it must be a class id, 0 to {count - 1}, or "ignore"'
        )
    return train
