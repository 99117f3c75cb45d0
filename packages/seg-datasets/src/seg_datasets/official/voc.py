"""PASCAL VOC 2012, segmentation: 20 object classes and background, 1464 training images and 1449 validation images.

The ids are in alphabetical order (aeroplane 1 to tvmonitor 20), not in the order of the groups on the web page. Masks
are PNGs with a palette, whose indices are the ids; converting them to RGB or gray loses the ids. 255, the border around
every object and regions too hard to label, is ignored.

`trainaug` is not an official split, but most published results are trained on it: 10582 images, VOC's train and the
images of SBD (Hariharan et al. 2011) that are not in VOC's val. Images of train keep VOC's own masks, which have
borders; the other 9118 have SBD's, which have none. mmsegmentation does the same; older ports of DeepLab take every
mask from SegmentationClassAug. The files of that folder were converted from SBD by others; with `sbd_root` the split is
built from the official downloads of both.

Expected on disk: see `TREE`. Download: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (test images: from the
evaluation server, after registration; their masks are not public)

License: annotations free for research; images under the terms of Flickr.

Cite: M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman, "The PASCAL Visual Object Classes (VOC)
Challenge", IJCV 88(2), 2010.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy.typing as npt

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import LabelMap
from seg_datasets.official.sbd import SBD, read_sbd_mask
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.arguments import check_root
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.file_table import FileTable
from seg_datasets.reading.layout import Found, Layout, SplitFiles, read_listing
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.samples import Reading, read_mask

__all__ = ["VOC"]

TREE = """\
VOCdevkit/VOC2012/                          root (or a folder above it)
  JPEGImages/2007_000032.jpg
  SegmentationClass/2007_000032.png         masks: 0 background, 1..20 objects, 255 ignored
  ImageSets/Segmentation/train.txt, val.txt, trainval.txt
  ImageSets/Segmentation/test.txt           comes with the test images; no masks
for trainaug, unless sbd_root is given:
  SegmentationClassAug/2008_000002.png      masks made from SBD
  ImageSets/Segmentation/trainaug.txt       or aug.txt: the images that are not in train.txt
"""
SITE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
SOURCE = (
    f"get VOCtrainval_11-May-2012.tar from {SITE}/ (test: the test images from http://host.robots.ox.ac.uk:8080/, "
    "after registration)"
)
AUGMENTED_SOURCE = (
    "pass the folder of SBD as sbd_root, or create SegmentationClassAug and ImageSets/Segmentation/trainaug.txt from "
    "it as mmsegmentation's tools/dataset_converters/voc_aug.py does"
)
IMAGES = ("JPEGImages/*.jpg",)
LISTS = "ImageSets/Segmentation"


def _split_files(split: str, masks: str = "SegmentationClass/*.png") -> SplitFiles:
    return SplitFiles(
        images=IMAGES, masks=(masks,) if masks else (), listing=f"{LISTS}/{split}.txt", needs_listing=True
    )


@dataclass(frozen=True)
class VOCLayout(Layout):
    """VOC's layout, in which the masks of trainaug come from two folders.

    Attributes:
        sbd_root: folder of SBD with the masks that VOC does not have; None to use SegmentationClassAug.
    """

    sbd_root: str | os.PathLike[str] | None = None

    def find(self, root: str | os.PathLike[str], split: str, missing: str = "error") -> Sequence[Pair]:
        """Returns the files of a split, sorted by key; see `Layout`."""
        if split != "trainaug":
            return super().find(root, split, missing)
        find = self._find_in_sbd if self.sbd_root is not None else self._find_in_aug
        return sorted(find(root, missing), key=lambda pair: pair.image.name)

    def look(self, root: str | os.PathLike[str], split: str, *, first: bool = False) -> Found:
        """Returns the images and masks of a split, which need not pair; see `Layout`."""
        if split != "trainaug":
            return super().look(root, split, first=first)
        folder = check_root(root, self.dataset)
        if self.sbd_root is None:
            own, others = self._names_of_aug(root)
            more = self.files(folder, self.splits[split].masks, first=first)
        else:
            sbd = self._sbd_masks("skip")
            own = self._names(root, "train")
            others, more = sbd.keys() - self._names(root, "val") - own, FileTable.of(sbd)
        images = self.files(folder, IMAGES, first=first)
        masks = self.files(folder, self.splits["train"].masks, first=first)
        kept = FileTable(
            chain(masks.where(key in own for key in masks).rows(), more.where(key in others for key in more).rows())
        )
        names = own | others
        listing = self.listing(folder, split) or self.listing(folder, "train")
        return Found(
            images.where(key in names for key in images), kept, listing, len(names), sorted(names - set(images))
        )

    def _names_of_aug(self, root: str | os.PathLike[str]) -> tuple[set[str], set[str]]:
        """Returns the names in trainaug.txt, or in train.txt and aug.txt together: with VOC's own mask, and others."""
        names, train, extra = (self._names(root, name) for name in ("trainaug", "train", "aug"))
        if not names:
            if not (train and extra):
                remedy = AUGMENTED_SOURCE if train else f"{SOURCE}; then {AUGMENTED_SOURCE}"
                raise DatasetNotFoundError(
                    f"VOC trainaug: found neither {LISTS}/trainaug.txt nor train.txt with aug.txt in {root} or below "
                    f"it in {', '.join(filter(None, self.prefixes))}. trainaug is not an official split. To fix this, "
                    f"{remedy}"
                )
            names = train | extra
        folders = [check_root(root, self.dataset) / prefix for prefix in self.prefixes]
        own = names & train & {path.stem for folder in folders for path in folder.glob("SegmentationClass/*.png")}
        return own, names - own

    def _find_in_aug(self, root: str | os.PathLike[str], missing: str) -> Sequence[Pair]:
        """Returns the files of both folders of masks."""
        own, others = self._names_of_aug(root)
        return [
            *self._find_named(root, own, ("SegmentationClass/*.png",), SOURCE, missing),
            *self._find_named(root, others, ("SegmentationClassAug/*.png",), AUGMENTED_SOURCE, missing),
        ]

    def _find_in_sbd(self, root: str | os.PathLike[str], missing: str) -> Sequence[Pair]:
        """Returns VOC's train, and the images of SBD that are neither in it nor in VOC's val."""
        pairs, val = super().find(root, "train", missing), self._names(root, "val")
        if not val:
            raise DatasetNotFoundError(
                f"VOC trainaug: no {LISTS}/val.txt in {root}, which lists the images to exclude from SBD. To fix this, "
                f"{SOURCE}"
            )
        masks = self._sbd_masks(missing)
        names = masks.keys() - val - {pair.image.stem for pair in pairs}
        found = self._find_named(root, names, (), SOURCE, missing)
        return [*pairs, *(Pair(pair.image, masks[pair.image.stem]) for pair in found)]

    def _sbd_masks(self, missing: str) -> dict[str, Path]:
        assert self.sbd_root is not None
        sbd = replace(SBD.edition.layout, archives=())  # so that no message suggests download=True
        try:
            pairs = [pair for split in ("train", "val") for pair in sbd.find(self.sbd_root, split, missing)]
        except (DatasetNotFoundError, InvalidArgumentError) as error:
            raise type(error)(f"VOC trainaug, with sbd_root as the root of SBD: {error}") from None
        return {pair.mask.stem: pair.mask for pair in pairs if pair.mask is not None}

    def _find_named(
        self, root: str | os.PathLike[str], names: set[str], masks: tuple[str, ...], source: str, missing: str
    ) -> Sequence[Pair]:
        if not names:
            return []
        files = SplitFiles(IMAGES, masks, keys=tuple(names))
        plain = Layout(self.dataset, source, self.tree, {"trainaug": files}, examples={}, prefixes=self.prefixes)
        return plain.find(root, "trainaug", missing)

    def _names(self, root: str | os.PathLike[str], split: str) -> set[str]:
        path = self.locate(root, f"{LISTS}/{split}.txt")
        return set() if path is None else read_listing(path)


def _read_mask(path: Path, reading: Reading | None = None) -> npt.NDArray[Any]:
    return read_sbd_mask(path) if path.suffix == ".mat" else read_mask(path, reading)


LAYOUT = VOCLayout(
    dataset="VOC",
    source=SOURCE,
    tree=TREE,
    splits={
        "train": _split_files("train"),
        "val": _split_files("val"),
        "test": _split_files("test", masks=""),
        "trainval": _split_files("trainval"),
        "trainaug": _split_files("trainaug", masks="SegmentationClassAug/*.png"),
    },
    examples={
        "train": ("2007_000032", "2007_000039"),
        "val": ("2007_000033",),
        "test": ("2008_000006",),
        "trainval": ("2007_000032", "2007_000033", "2007_000039"),
        # includes SBD's examples, so that fake datasets of both form a trainaug
        "trainaug": ("2007_000032", "2007_000039", "2008_000002", "2008_000003", "2008_000033"),
    },
    prefixes=("", "VOC2012", "VOCdevkit/VOC2012"),
    top="VOCdevkit/VOC2012",
    archives=(
        Archive(
            f"{SITE}/VOCtrainval_11-May-2012.tar",
            "md5:6cd6e144f989b92b3379bac3b3de84fd",
            splits=("train", "val", "trainval", "trainaug"),
            provides="JPEGImages",
        ),
    ),
)


class VOC(OfficialDataset):
    """VOC 2012's images with 20 object classes and the background; borders (255) are ignored. SBD has the same classes.

    The lists in `ImageSets/Segmentation` decide which images belong to a split. Test images have the mask None.
    `trainaug` joins VOC's train with the images of SBD that are not in VOC's val: images of `train.txt` have VOC's own
    mask if `SegmentationClass` has one, all others the mask in `SegmentationClassAug` or SBD.

    Other arguments, attributes and errors are those of `OfficialDataset`.

    Args:
        sbd_root: the folder of SBD (see `SBD`), to build trainaug from its files. This needs scipy, but neither
            `SegmentationClassAug` nor its lists. Other splits ignore it. `download` does not download SBD;
            `SBD(sbd_root, download=True)` does.
    """

    edition = Edition(
        layout=LAYOUT,
        classes="VOC",
        label_map=LabelMap.identity(21, 255),
        mask_reader=_read_mask,
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        sbd_root: str | os.PathLike[str] | None = None,
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if sbd_root is not None:
            self.edition = replace(self.edition, layout=replace(LAYOUT, sbd_root=sbd_root))
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
