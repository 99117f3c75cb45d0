"""Looks at a folder of one's own data: which options of `FolderDataset` fit, what it holds, and what is odd."""

import contextlib
import inspect
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError, nearest
from seg_core.files.images import MAX_PIXELS
from seg_core.files.scan import OnProgress
from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.reading.differences import find_hint, search_folders
from seg_datasets.reading.folder_layouts import FolderLayout, find_layout
from seg_datasets.reading.image_sizes import ImageSizes
from seg_datasets.reading.mask_report import MaskFindings, MaskInspection, describe_masks
from seg_datasets.reading.splits import SPLITS, FramesWarning

__all__ = ["FolderReport", "inspect_folder"]

_LISTS = ("splits/{split}.txt", "split/{split}.txt", "lists/{split}.txt", "{split}.txt", "ImageSets/{split}.txt")
_NOT_OURS = ("root", "split", "transforms")


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds.

    Attributes:
        root: the folder.
        fits: whether `FolderDataset(root, **options)` reads it.
        options: options of `FolderDataset` that fit; without those that are as by default.
        counts: split -> number of images; splits without files are left out.
        image_suffixes, mask_suffixes: suffix -> number of files in train and val.
        sizes: smallest, median and largest (height, width) of images, each of height and width alone.
        kind: what the masks hold: `"ids"`, `"ids in three equal channels"`, `"palette"`, `"0 and 255"`, `"1 bit"` or
            `"colors"`; "" if they were not read.
        ids: id in the masks -> its share of all pixels; of masks in colors the ids of the classes, and the ignored
            value.
        metadata: the classes: given, from a file in the root, or suggested; None if they are not known.
        suggested: whether names or colors of `metadata` are a suggestion.
        oddities: sentences about what is odd.
    """

    root: Path
    fits: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    image_suffixes: Mapping[str, int] = field(default_factory=dict)
    mask_suffixes: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    kind: str = ""
    ids: Mapping[int, float] = field(default_factory=dict)
    metadata: DatasetMetadata | None = None
    suggested: bool = False
    oddities: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns the report as lines of text."""
        lines = [str(self.root)]
        if self.counts:
            lines.append("  images   " + ", ".join(f"{count} {split}" for split, count in self.counts.items()))
            kinds = (" ".join(sorted(found)) for found in (self.image_suffixes, self.mask_suffixes))
            lines.append("  files    images {}, masks {}".format(*kinds))
        if self.sizes:
            sizes = dict(zip(("smallest", "median", "largest"), self.sizes, strict=True))
            texts = (f"{name} {width}x{height}" for name, (height, width) in sizes.items())
            same = len(set(self.sizes)) == 1
            lines.append(
                f"  sizes    {'all ' if same else ''}" + (next(texts).split()[1] if same else ", ".join(texts))
            )
        if self.kind:
            masks = describe_masks(self.kind, self.ids, self.metadata, self.options, self.suggested)
            lines.append(f"  masks    {masks}")
        lines += [f"  odd      {sentence}" for sentence in self.oddities]
        return "\n".join(lines)


def inspect_folder(
    dataset: Callable[..., Any], root: Path, options: Mapping[str, Any], progress: OnProgress | None = None
) -> FolderReport:
    """Returns the report on a folder, see `FolderDataset.inspect`.

    Args:
        dataset: the class `FolderDataset`.
        root: the folder.
        options: options that are known.
        progress: called with the number of masks read and their total.

    Raises:
        InvalidArgumentError: if there is no such option.
    """
    known = [name for name in inspect.signature(dataset).parameters if name not in _NOT_OURS]
    for name in options:
        if name not in known:
            raise InvalidArgumentError(f"FolderDataset has no option {name!r}.{nearest(name, known)} It has: {known}")
    return _Inspection(dataset, root, dict(options), progress).report()


class _Inspection:
    def __init__(
        self, dataset: Callable[..., Any], root: Path, options: dict[str, Any], progress: OnProgress | None
    ) -> None:
        self.dataset = dataset
        self.root = root
        self.metadata = options.pop("metadata", None)
        self.masks_as: dict[str, Any] = {name: options.pop(name) for name in ("label_map", "colors") if name in options}
        self.options = options
        self.progress = progress
        self.odd: list[str] = []
        self.frames: FramesWarning | None = None

    def report(self) -> FolderReport:
        """Returns the report; it ends early where nothing further can be said."""
        found: dict[str, Any] = {}
        try:
            splits = self._splits()
        except UserError as error:
            self.odd.append(str(error))
            return FolderReport(self.root, oddities=tuple(self.odd))
        found["counts"] = {split: len(opened) for split, opened in splits.items()}
        used = [opened for split, opened in splits.items() if split != "test"]
        if "val" not in splits:
            return FolderReport(self.root, options=self.options, oddities=tuple(self.odd), **found)
        names = [opened.file_names(index) for opened in used for index in range(len(opened))]
        found["image_suffixes"] = Counter(Path(pair[0]).suffix.lower() for pair in names)
        found["mask_suffixes"] = Counter(Path(pair[1]).suffix.lower() for pair in names)
        try:
            images = ImageSizes([Path(pair[0]) for pair in names], self.options.get("max_pixels", MAX_PIXELS))
            orientation = self.options.get("orientation", "apply")
            found["sizes"] = _spread(list(images.sizes(orientation).values()))
            masks = self._masks(used, [Path(pair[1]) for pair in names])
            found |= {key: getattr(masks, key) for key in ("kind", "ids", "metadata", "suggested")}
            problem, other = images.problem(names, masks.summaries, orientation, self.root)
            if problem:
                self.odd.append(problem)
            if other:
                self.options["orientation"] = other
                found["sizes"] = _spread(list(images.sizes(other).values()))
            fits = masks.fits and (not problem or bool(other))
        except UserError as error:
            self.odd.append(str(error))
            fits = False
        return FolderReport(
            self.root, fits=fits, options=self.options, oddities=tuple(dict.fromkeys(self.odd)), **found
        )

    # ---- files -------------------------------------------------------------------------------------------------------

    def _open(self, split: str, **options: Any) -> Any:
        """Opens a split without its classes; warnings become oddities."""
        with self._noted():
            return self.dataset(self.root, {"labels": ["any"]}, split, **{**self.options, **options})

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            if isinstance(warning.message, FramesWarning):
                self.frames = warning.message
            elif issubclass(warning.category, UserWarning) and "three channels are equal" not in str(warning.message):
                self.odd.append(str(warning.message))

    def _splits(self) -> dict[str, Any]:
        """Opens all splits and finds the options that this takes."""
        if "images" not in self.options and "split_file" not in self.options:
            self._find_files()
        try:
            opened = {"train": self._open("train")}
        except DatasetNotFoundError:
            if not self._has_split_folders() or not self._rest_in("train"):
                raise
            opened = {"train": self._open("train")}
        try:
            opened["val"] = self._open("val")
        except DatasetNotFoundError as error:
            if self._rest_in("train"):
                opened = {split: self._open(split) for split in ("train", "val")}
            else:
                self.odd.append(str(error))
        self._group(opened)
        if self._has_split_folders() or "split_file" in self.options or self._layout().split_file is not None:
            with contextlib.suppress(UserError):  # there need not be one
                opened["test"] = self._open("test")
        return {split: opened[split] for split in SPLITS if split in opened}

    def _layout(self) -> FolderLayout:
        given = {name: self.options[name] for name in ("mask_suffix", "pair_by", "split_file") if name in self.options}
        if "images" in self.options:
            return FolderLayout(self.options["images"], self.options["masks"], **given)
        found = find_layout(self.root)
        return FolderLayout(found.images, found.masks, **{"split_file": found.split_file, **given})

    def _has_split_folders(self) -> bool:
        return self._layout().has_split_folders

    def _find_files(self) -> None:
        """Finds options that pair images and masks, if the usual ones do not."""
        layout = self._layout()
        with self._noted():
            files = layout.files(self.root, "train")
            if layout.split_file is None and (not files.images or files.images.keys() != files.masks.keys()):
                if files.images and files.masks:
                    hint = find_hint(self.root, layout, "train", files)
                else:
                    hint, _ = search_folders(self.root)
                if hint is not None and hint.pairs == hint.images:
                    self.options |= _changed(hint.layout, layout)
                    self.odd.append(f"the usual names do not fit. {hint.sentence(layout)}")
        for lists in _LISTS if not self._has_split_folders() and self._layout().split_file is None else ():
            if all((self.root / lists.replace("{split}", split)).is_file() for split in ("train", "val")):
                self.options["split_file"] = lists
                break

    def _rest_in(self, split: str) -> bool:
        """Splits the files of train if there is no val; returns whether this is so."""
        layout = self._layout()
        if not layout.has_split_folders or layout.split_file is not None or layout.files(self.root, "val").images:
            return False
        images, masks = (pattern.replace("{split}", split) for pattern in (layout.images, layout.masks))
        if not FolderLayout(images, masks, layout.mask_suffix, layout.pair_by).files(self.root, split).images:
            return False
        self.options |= {"images": images, "masks": masks}
        self.odd.append("there is no val split, so the files of train are split into train and val")
        return True

    def _group(self, opened: dict[str, Any]) -> None:
        """Keeps frames of a sequence on one side."""
        if self.frames is None:
            return
        groups, before = self.frames.groups, dict(opened)
        if not groups:
            self.odd.append(str(self.frames))
            return
        self.options["groups"] = groups
        try:
            opened |= {split: self._open(split) for split in ("train", "val")}
        except UserError as error:
            del self.options["groups"]
            opened |= before
            self.odd += [str(self.frames), str(error)]
            return
        self.odd.append(f"files look like frames of numbered sequences; groups = '{groups}' keeps each on one side")

    # ---- images and masks --------------------------------------------------------------------------------------------

    def _masks(self, used: Sequence[Any], paths: Sequence[Path]) -> MaskFindings:
        return MaskInspection(
            self.dataset, self.root, self.metadata, self.masks_as, self.options, self.odd, self._noted, self.progress
        ).look(used, paths)


def _changed(layout: FolderLayout, other: FolderLayout) -> dict[str, Any]:
    """Returns the options of a layout that differ from those of another."""
    options = {name: getattr(layout, name) for name in ("mask_suffix", "pair_by")}
    changed = {name: value for name, value in options.items() if value != getattr(other, name)}
    if (layout.images, layout.masks) != (other.images, other.masks):
        changed = {"images": layout.images, "masks": layout.masks, **changed}
    return changed


def _spread(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    heights, widths = ([size[axis] for size in sizes] for axis in (0, 1))
    ways: tuple[Callable[[list[int]], int], ...] = (min, statistics.median_low, max)
    return tuple((way(heights), way(widths)) for way in ways)
