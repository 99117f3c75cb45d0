"""PASCAL-Context: VOC 2010's images with every pixel labeled, 4998 training images and 5105 validation images.

The classes are the 59 most frequent of 459 labels. There are two tasks, with different scores: 59 classes with all
other pixels ignored (`background="ignore"`), or 60 classes, where the other pixels are a class (`background="class"`).

There are also two orders of the classes. Here the classes are in the order of the 459 labels, which is alphabetical:
the order of the masks written by mmsegmentation's converter and the Detail API. The other order, of the site's
`59_labels.txt` and of FCN, has VOC's 20 classes first and other names for some of them (diningtable, clothes,
bedcloth). Masks in that order contain the same values from 0 to 59 and cannot be distinguished from these: this class
would read them with wrong names and without an error.

Two kinds of masks are read: PNGs written by a converter (0 other, 1 to 59 classes), or the label maps of the site, .mat
files with the 459 labels, which are converted here and need scipy (`pip install 'seg-datasets[mat]'`).

Expected on disk: see `TREE`. Download: https://cs.stanford.edu/~roozbeh/pascal-context/

License: as PASCAL VOC, for research.

Cite: R. Mottaghi, X. Chen, X. Liu, N.-G. Cho, S.-W. Lee, S. Fidler, R. Urtasun, A. Yuille, "The Role of Context for
Object Detection and Semantic Segmentation in the Wild", CVPR 2014.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from seg_core.errors import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles
from seg_datasets.reading.mat_files import read_mat
from seg_datasets.reading.samples import Reading, read_mask

__all__ = ["RAW_LABELS", "PascalContext"]

TREE = """\
VOCdevkit/VOC2010/                           root (or a folder above it)
  JPEGImages/2008_000002.jpg
  SegmentationClassContext/2008_000002.png   masks from a converter: 0 other, 1..59 classes
  trainval/2008_000002.mat                   or the site's label maps: LabelMap, 459 labels
  ImageSets/SegmentationContext/train.txt, val.txt   written by the converter; or VOC's own
  ImageSets/Main/train.txt, val.txt                  with the same images
"""
# fmt: off
RAW_LABELS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)
"""The numbers, among the 459 labels, of the classes 1 to 59, in this order."""
# fmt: on
NUM_RAW_LABELS = 459

_FROM_RAW = LabelMap(
    {**dict.fromkeys(range(NUM_RAW_LABELS + 1), 0), **{raw: index for index, raw in enumerate(RAW_LABELS, start=1)}}
)


def _read_mask(path: Path, reading: Reading | None = None) -> npt.NDArray[Any]:
    """Reads a mask of either kind; returns 0 for other and 1 to 59 for the classes."""
    if path.suffix != ".mat":
        return read_mask(path, reading)
    try:
        return _FROM_RAW(read_mat(path, "LabelMap"))
    except LabelOutOfRangeError as error:
        raise CorruptFileError(
            f"mask {path} is not a label map of PASCAL-Context: {error}; restore it from trainval.tar.gz"
        ) from None


@dataclass(frozen=True)
class ContextLayout(Layout):
    """A layout that falls back to VOC's own lists if no converter has written lists."""

    def listing(self, folder: Path, split: str) -> Path | None:
        """Returns the list of a converter, or VOC's own; see `Layout`."""
        return super().listing(folder, split) or self.locate(folder, f"ImageSets/Main/{split}.txt")


def _split_files(split: str) -> SplitFiles:
    return SplitFiles(
        images=("JPEGImages/*.jpg",),
        masks=("SegmentationClassContext/*.png", "trainval/*.mat"),
        listing=f"ImageSets/SegmentationContext/{split}.txt",
        needs_listing=True,
    )


LAYOUT = ContextLayout(
    dataset="PascalContext",
    source=(
        "get the images, http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar, and the masks: "
        "trainval.tar.gz from https://cs.stanford.edu/~roozbeh/pascal-context/, unpacked in VOC2010, or PNGs made by "
        "mmsegmentation's tools/dataset_converters/pascal_context.py"
    ),
    tree=TREE,
    splits={split: _split_files(split) for split in ("train", "val")},
    examples={"train": ("2008_000002", "2008_000003"), "val": ("2008_000008",)},
    prefixes=("", "VOC2010", "VOCdevkit/VOC2010"),
    top="VOCdevkit/VOC2010",
)
EDITIONS = MappingProxyType(
    {
        "ignore": Edition(
            layout=LAYOUT,
            classes="PascalContext",
            label_map=LabelMap({0: IGNORE, **{raw: raw - 1 for raw in range(1, 60)}}),
            mask_reader=_read_mask,
        ),
        "class": Edition(
            layout=LAYOUT,
            classes="PascalContext60",
            label_map=LabelMap.identity(60),
            mask_reader=_read_mask,
        ),
    }
)


class PascalContext(OfficialDataset):
    """PASCAL-Context's scenes with 59 classes, or 60 with the background; report which with every score.

    The metadata of the 60 are the label set `PascalContext60`. Its background is class 0, so that every other id is one
    higher than without; networks of one task do not fit the other.

    Masks are PNGs written by a converter, or the .mat label maps of the site. Masks with VOC's classes first must not
    be read with it (see the module). Other arguments, attributes and errors are those of `OfficialDataset`.

    Args:
        background: how to handle pixels of none of the 59 classes: `"ignore"` them (the 59-class task), or make them a
            `"class"`, class 0 (the 60-class task).
    """

    edition = EDITIONS["ignore"]
    editions = EDITIONS

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        background: str = "ignore",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice("background", background, tuple(EDITIONS), "The first gives 59 classes, the second 60")
        if background == "ignore" and label_set == "PascalContext60":
            raise InvalidArgumentError(
                "label_set 'PascalContext60' has the class background, which background='ignore' ignores; set "
                "background='class' and no label_set"
            )
        self.edition = EDITIONS[background]
        super().__init__(
            root,
            split,
            transforms,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )
