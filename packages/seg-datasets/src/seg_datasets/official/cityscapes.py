"""Cityscapes: street scenes of 50 cities in and around Germany, from a driving car, 2048x1024 pixels.

Fine annotations: 2975 training images, 500 validation images and 1525 test images; the test masks in the archive are
dummies and are not read. Coarse annotations (much of each image is unlabeled): the same training and validation images,
and 19998 more in the split `train_extra`, one of which (troisdorf_000000_000073) is reported to be damaged.

Only the masks `*_labelIds.png` are read. `Cityscapes` has all their 34 ids as classes, `CityscapesClass` the 19 that
the benchmark evaluates, `CityscapesCategory` the categories of these. The masks `*_labelTrainIds.png`, which a script
of the authors writes, look similar but have other ids. License plates have the id -1, which no official mask contains;
in 8 bits it is 255, which is ignored. The evaluation server expects label ids:
`CityscapesClass.edition.label_map.inverse()` converts train ids back to them.

Expected on disk: see `TREE`. Download, after registration: https://www.cityscapes-dataset.com/downloads/

License: own terms, non-commercial research; no redistribution. There is no automatic download.

Cite: M. Cordts, M. Omran, S. Ramos, T. Rehfeld, M. Enzweiler, R. Benenson, U. Franke, S. Roth, B. Schiele, "The
Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from seg_core.errors import InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.conversion import label_map_between
from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["Cityscapes", "CityscapesCategory", "CityscapesClass"]

LICENSE_PLATE = 255  # the id -1 in 8 bits
SITE = "https://www.cityscapes-dataset.com/downloads/ (after registration)"
TREE = """\
cityscapes/                                                     root (or a folder above it)
  leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
  gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png  masks: ids 0..33
  leftImg8bit/val/frankfurt/..., gtFine/val/frankfurt/...
  leftImg8bit/test/berlin/...                                   test images; masks are not read
  leftImg8bit/train_extra/augsburg/...                          annotations="coarse" only
  gtCoarse/train/aachen/aachen_000000_000019_gtCoarse_labelIds.png
  gtCoarse/val/..., gtCoarse/train_extra/...
each zip may be unpacked in a folder of its own name, such as gtFine_trainvaltest/gtFine/...
"""
ANNOTATIONS = ("fine", "coarse")
REST = {"ignore": "", "class": "-void"}  # option -> ending of the edition names

_EXAMPLES = {
    "train": ("aachen/aachen_000000_000019", "zurich/zurich_000000_000019"),
    "val": ("frankfurt/frankfurt_000000_000294",),
    "test": ("berlin/berlin_000000_000019",),
    "train_extra": ("augsburg/augsburg_000000_000000",),
}


def _edition(dataset: str, annotations: str, classes: str) -> Edition:
    if annotations == "fine":
        kind, splits = "gtFine", ("train", "val", "test")
        files = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"
    else:
        kind, splits = "gtCoarse", ("train", "val", "train_extra")
        files = "gtCoarse.zip, leftImg8bit_trainvaltest.zip and, for train_extra, leftImg8bit_trainextra.zip"
    split_files = {
        split: SplitFiles(
            images=(f"leftImg8bit/{split}/*/*_leftImg8bit.png",),
            masks=() if split == "test" else (f"{kind}/{split}/*/*_{kind}_labelIds.png",),
        )
        for split in splits
    }
    # the class of each id: seg_core/labels/conversions/cityscapesclass.json
    label_map = LabelMap.identity(34, LICENSE_PLATE)
    if classes != "Cityscapes":
        label_map = label_map.then(label_map_between("Cityscapes", classes))
    return Edition(
        layout=Layout(
            dataset=dataset,
            source=f"get {files} from {SITE}",
            tree=TREE,
            splits=split_files,
            examples={split: _EXAMPLES[split] for split in splits},
            prefixes=(
                "",
                "leftImg8bit_trainvaltest",
                "leftImg8bit_trainextra",
                "gtFine_trainvaltest",
                "gtCoarse",
                "cityscapes",
                "Cityscapes",
            ),
        ),
        classes=classes,
        label_map=label_map,
    )


class _AnyCityscapes(OfficialDataset):
    """The files of Cityscapes and the choice of fine or coarse annotations; subclasses choose the classes."""

    _ending = ""  # of the edition name, after that of the annotations

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        annotations: str = "fine",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice("annotations", annotations, ANNOTATIONS)
        self.edition = self.editions[annotations + self._ending]
        offering = [name for name in ANNOTATIONS if split in tuple(self.editions[name].layout.splits)]
        if offering and annotations not in offering:
            layout = self.edition.layout
            raise InvalidArgumentError(
                f"{layout.dataset} has no split {split!r} with annotations={annotations!r}, only with "
                f"annotations={offering[0]!r}. Allowed with {annotations!r}: {', '.join(layout.splits)}"
            )
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


class Cityscapes(_AnyCityscapes):
    """Cityscapes with all 34 ids of its masks as classes, including those that the benchmark ignores.

    The scores of the benchmark are those of the 19 classes of `CityscapesClass`, which have other ids: road is 7 here
    and 0 there. Networks and metadata of one do not fit the other.

    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        annotations: `"fine"` (splits train, val, test) or `"coarse"` (train, val, train_extra).
    """

    editions: ClassVar[Mapping[str, Edition]] = {
        name: _edition("Cityscapes", name, "Cityscapes") for name in ANNOTATIONS
    }
    edition = editions["fine"]


class CityscapesClass(_AnyCityscapes):
    """Cityscapes with the 19 classes of its benchmark; the other 15 ids become the ignore value 255.

    `Cityscapes` has all 34 ids as classes; networks and metadata of one do not fit the other. BDD100K has the same 19.

    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        annotations: `"fine"` (splits train, val, test) or `"coarse"` (train, val, train_extra).
    """

    editions: ClassVar[Mapping[str, Edition]] = {
        name: _edition("CityscapesClass", name, "CityscapesClass") for name in ANNOTATIONS
    }
    edition = editions["fine"]


class CityscapesCategory(_AnyCityscapes):
    """Cityscapes with its seven categories: flat, construction, object, nature, sky, human, vehicle.

    The rest are the ids that the official category evaluation ignores: void, and ids outside the benchmark classes that
    have a category (parking, rail track, guard rail, bridge, tunnel, polegroup, caravan, trailer).
    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        annotations: `"fine"` (splits train, val, test) or `"coarse"` (train, val, train_extra).
        rest: how to handle the rest: `"ignore"` it, or `"class"` to make it an eighth class, void.
    """

    editions: ClassVar[Mapping[str, Edition]] = {
        name + ending: _edition("CityscapesCategory", name, classes)
        for ending, classes in (("", "CityscapesCategory"), ("-void", "CityscapesCategory8"))
        for name in ANNOTATIONS
    }
    edition = editions["fine"]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        annotations: str = "fine",
        rest: str = "ignore",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice("rest", rest, tuple(REST))
        self._ending = REST[rest]
        super().__init__(
            root,
            split,
            transforms,
            annotations=annotations,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )
