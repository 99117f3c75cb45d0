"""A written tree of a dataset: its pairs, how its masks are stored, and changes that can be undone."""

import os
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, nearest
from seg_core.files.image_writing import save_image
from seg_core.labels.label_map import IGNORE
from seg_core.registry import DATASETS
from seg_datasets.doctor.fake_folder import FOLDER
from seg_datasets.doctor.fake_masks import Ids, mask_writer
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.samples import Reading, read_mask

__all__ = ["FREE", "Form", "Tree", "find_edition", "find_tree", "mask_of"]

FREE = "FolderDataset"
"""The dataset whose files may have any name and suffix."""


def find_edition(name: str, edition: str | None) -> Edition:
    """Returns a version of a dataset, None for the first.

    Raises:
        UnknownNameError: if there is no such dataset.
        InvalidArgumentError: if it has no layout on disk, or there is no such version.
    """
    dataset_class = DATASETS.get(name)
    if name == FREE:
        editions = {"": FOLDER}
    elif isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset):
        editions = dict(dataset_class.editions) or {"": dataset_class.edition}
    else:
        raise InvalidArgumentError(f"dataset {name!r} has no official layout, so there is nothing to fake")
    if edition is None:
        edition = next(iter(editions))
    if edition not in editions:
        allowed = ", ".join(filter(None, editions)) or "none; leave it out"
        raise InvalidArgumentError(f"{name} has no edition {edition!r}.{nearest(edition, editions)} Allowed: {allowed}")
    return editions[edition]


@dataclass(frozen=True)
class Form:
    """How the files of a dataset are stored, which decides what faults they can have.

    Attributes:
        name: of the dataset.
        edition: its version.
        image, mask: name, path or glob pattern of an image and of a mask.
    """

    name: str
    edition: Edition
    image: str
    mask: str

    @property
    def image_suffix(self) -> str:
        """The suffix of images, in lower case."""
        return Path(self.image).suffix.lower()

    @property
    def mask_suffix(self) -> str:
        """The suffix of masks, in lower case."""
        return Path(self.mask).suffix.lower()

    @property
    def stored(self) -> str:
        """What masks hold: `"ids"`, `"palette"`, `"colors"`, or `"mat"` for MATLAB files."""
        if self.mask_suffix == ".mat":
            return "mat"
        if isinstance(self.edition.mask_reader, ColorReader) and "ann_dir" not in Path(self.mask).parts:
            return "colors"
        return "palette" if self.name in (FREE, "MapillaryVistas", "VOC") else "ids"

    @property
    def ignored(self) -> int | None:
        """A raw id of ignored pixels that the format can hold, or None."""
        ids = [raw for raw, train in self.edition.label_map.mapping.items() if train is IGNORE]
        reader = self.edition.mask_reader
        if self.stored == "colors" and isinstance(reader, ColorReader):
            ids = [raw for raw in ids if raw in reader.colors]
        return max(ids, default=None)

    @property
    def run(self) -> range:
        """The longest range of consecutive raw ids that are classes."""
        classes = sorted(raw for raw, train in self.edition.label_map.mapping.items() if train is not IGNORE)
        best = range(0)
        start = 0
        for end in range(1, len(classes) + 1):
            if end == len(classes) or classes[end] != classes[end - 1] + 1:
                best = max(best, range(classes[start], classes[end - 1] + 1), key=len)
                start = end
        return best


@dataclass
class Tree:
    """The pairs of a dataset on disk.

    Attributes:
        name: of the dataset.
        root: its folder.
        edition: its version.
        splits: split -> pairs, for the splits with masks.
        before: path -> content before the first change; None for a file that was not there.
        taken: files that have a fault.
    """

    name: str
    root: Path
    edition: Edition
    splits: dict[str, list[Pair]]
    before: dict[Path, bytes | None] = field(default_factory=dict)
    taken: set[Path] = field(default_factory=set)

    @cached_property
    def form(self) -> Form:
        """How the files are stored."""
        pair = self.splits["train"][0]
        return Form(
            self.name, self.edition, str(pair.image.relative_to(self.root)), str(mask_of(pair).relative_to(self.root))
        )

    @property
    def other_split(self) -> str:
        """The split that must have nothing in common with train: val, else test."""
        found = next((split for split in ("val", "test") if split in self.splits), None)
        if found is None:
            raise InvalidArgumentError(f"{self.root} has no split with masks beside train, which this fault needs")
        return found

    def masks(self, split: str | None = None) -> list[Path]:
        """Returns the masks of a split, None for all splits, each once."""
        splits = self.splits if split is None else {split: self.splits[split]}
        return list(dict.fromkeys(mask_of(pair) for pairs in splits.values() for pair in pairs))

    def take(self, split: str = "train") -> Pair:
        """Returns a pair without a fault, which is to get one.

        Raises:
            InvalidArgumentError: if the split would keep no pair without a fault.
        """
        free = [pair for pair in self.splits[split] if not {pair.image, pair.mask} & self.taken]
        if len(free) < 2:
            raise InvalidArgumentError(
                f"the split {split} of {self.root} has {len(self.splits[split])} images, which are too few: each fault "
                "needs files of its own, and one pair must stay without. Write more with images_per_split (--images)"
            )
        self.taken |= {free[0].image, mask_of(free[0])}
        return free[0]

    def touch(self, *paths: Path) -> None:
        """Records files before they are changed."""
        for path in paths:
            if path not in self.before:
                self.before[path] = path.read_bytes() if path.is_file() else None

    def put(self, path: Path, content: bytes) -> None:
        """Writes a file."""
        self.touch(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, path: Path) -> None:
        """Removes a file."""
        self.touch(path)
        path.unlink()

    def read_ids(self, mask: Path) -> Ids:
        """Returns the raw ids (H, W) of a mask."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (self.edition.mask_reader or read_mask)(mask, Reading())

    def write_ids(self, mask: Path, ids: Ids) -> None:
        """Writes raw ids (H, W) in the format of the dataset; in gray masks they may be any of 8 bits."""
        self.touch(mask)
        if self.form.stored == "ids":
            save_image(mask, Image.fromarray(ids.astype(np.uint8)))
        else:
            mask_writer(self.name)(mask, ids, self.edition)


def mask_of(pair: Pair) -> Path:
    """Returns the mask of a pair that has one."""
    assert pair.mask is not None
    return pair.mask


def find_tree(name: str, root: str | os.PathLike[str], edition: Edition) -> Tree:
    """Returns the pairs of a dataset in a folder, for the splits that are there and have masks.

    Raises:
        DatasetNotFoundError: if there is no such folder, or no train split.
    """
    folder = Path(root).expanduser()
    layout = edition.layout
    found = {}
    for split, files in layout.splits.items():
        if files.masks and split in layout.examples:
            try:
                found[split] = list(layout.find(folder, split))
            except DatasetNotFoundError:
                if split == "train":
                    raise
    return Tree(name, folder, edition, found)
