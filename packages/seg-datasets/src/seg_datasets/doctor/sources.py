"""What is checked: the splits of a dataset and their files, which need not pair.

A dataset opens its files at the first access and ends at the first that is wrong. Here its class is opened with files
that are only listed, so that options, classes and editions are its own, and nothing about its files is an error.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from seg_core.errors import DatasetNotFoundError, UsageError, UserError
from seg_core.files.name_list import NameList
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import DATASETS
from seg_core.spec import check_params, parameters_of
from seg_datasets.doctor.targets import Wanted, is_own
from seg_datasets.folder import FolderDataset, hashed_names
from seg_datasets.reading.arguments import check_split
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.class_files import Metadata
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_layouts import FolderLayout
from seg_datasets.reading.layout import Layout
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import Pair, PairList
from seg_datasets.reading.splits import NAMES_OF, SPLITS, SplitRule, list_path, resolve_list
from seg_datasets.reading.task_options import check_task_options

__all__ = ["LOSSY_SUFFIXES", "Source", "SplitSource", "open_source"]

LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_UNKNOWN = {"labels": ["any"]}


@dataclass(frozen=True)
class SplitSource:
    """The files of a split.

    Attributes:
        name: name of the split.
        images: key -> image.
        masks: key -> mask; None if the split has no masks.
        lossy: key -> file in a lossy format where the mask of this image is expected.
        listing: the list of the files of the split, or None.
        absent: names that the split must have and no image has.
        more: key -> the other files of an image of several.
        partial: key -> a file of an image that lacks another, and the pattern of that one.
        planes: mask -> its file per class, None of a class without; empty if masks are in one file.
        labels: the classes, if masks have a file per class and none may be missing; else empty.
        pattern: the option `masks` of such masks, with `{class}`.
    """

    name: str
    images: FileTable
    masks: FileTable | None
    lossy: FileTable = field(default_factory=FileTable)
    listing: Path | None = None
    absent: Sequence[str] = ()
    more: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    partial: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    planes: Mapping[str, tuple[Path | None, ...]] = field(default_factory=dict)
    labels: Sequence[str] = ()
    pattern: str = ""

    def pairs(self) -> PairList:
        """Returns every image, with its mask or None."""
        has_mask, has_image = matched(self.images, self.masks or FileTable())
        paired = iter(self.masks.where(has_image).paths if self.masks else ())
        masks = NameList(next(paired) if has else "" for has in has_mask)
        if not self.more and not self.planes:
            return PairList.of(self.images.paths, masks)
        rows = zip(self.images.items(), masks, strict=True)
        return PairList(
            Pair(path, Path(mask) if mask else None, self.more.get(key, ()), self.planes.get(mask, ()))
            for (key, path), mask in rows
        )


@dataclass(frozen=True)
class Source:
    """A dataset to be checked.

    Attributes:
        name: registered name.
        root: its folder.
        dataset: of one split, without pairs: label map, mask reader and reading are its own.
        splits: the splits and their files.
        metadata: the classes; None if they are not known.
        layout: of an official dataset, else None.
        has_own_splits: whether folders or lists decide about splits, so that `groups` cannot.
        skips: whether the dataset leaves out files without a partner.
        options: options of the dataset that were given.
        notes: sentences about what was noticed on the way.
    """

    name: str
    root: Path
    dataset: PairedDataset
    splits: Sequence[SplitSource]
    metadata: DatasetMetadata | None
    layout: Layout | None
    has_own_splits: bool
    skips: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def is_official(self) -> bool:
        """Whether the files came from an archive, from which they can be restored."""
        return self.layout is not None

    @property
    def again(self) -> str:
        """How to get the official files again, as a part of a sentence."""
        return "" if self.layout is None else f"{self.layout.source} again"

    def shown(self, path: str | os.PathLike[str]) -> str:
        """Returns a path relative to the root, with `/`."""
        path = Path(path)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def open_source(wanted: Wanted, splits: Sequence[str] | None, options: Mapping[str, Any]) -> Source:
    """Lists the files of a dataset.

    Args:
        wanted: the dataset, with its folder and the classes that are known.
        splits: the splits; None for train, val and test, as far as they are there.
        options: options of the dataset.

    Raises:
        UsageError: if the dataset is not one of files, or has no folder.
        InvalidArgumentError: if there is no such split, or an option is not allowed.
        DatasetNotFoundError: if no file is found, or none has a partner.
    """
    name, folder = wanted.name, wanted.root
    dataset_class = DATASETS.get(name)
    if not (isinstance(dataset_class, type) and issubclass(dataset_class, PairedDataset)):
        raise UsageError(
            f"dataset {name!r} is not one of pairs of files, so there is nothing to check"
            + ("; check each of its members" if name == "Unified" else "")
        )
    if folder is None:
        raise UsageError(f"{name} is a dataset and needs its folder: seg datasets check {name} --root DIR")
    check_params(f"dataset {name!r}", dataset_class, options, ("root", "split", "transforms", "metadata"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if issubclass(dataset_class, OfficialDataset):
            source = _official(name, dataset_class, folder, splits, options)
        elif issubclass(dataset_class, FolderDataset):
            source = _own(name, dataset_class, folder, splits, wanted.metadata, options)
        else:
            raise UsageError(f"dataset {name!r} is neither an official dataset nor a FolderDataset; check its folder")
    # the warnings of a layout are about its splits, not about these files
    known = [] if source.layout is None else [files.warning for files in source.layout.splits.values()]
    texts = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return _with_notes(source, [text for text in texts if text not in known])


def _with_notes(source: Source, notes: Sequence[str]) -> Source:
    return Source(**{**vars(source), "notes": tuple(notes)})


def _skips(dataset_class: type[PairedDataset], options: Mapping[str, Any]) -> bool:
    missing = parameters_of(dataset_class).get("missing")
    return options.get("missing", None if missing is None else missing.default) == "skip"


# ---- official datasets -----------------------------------------------------------------------------------------------


def _official(
    name: str,
    dataset_class: type[OfficialDataset],
    root: Path,
    splits: Sequence[str] | None,
    options: Mapping[str, Any],
) -> Source:
    class Listed(dataset_class):  # type: ignore[misc, valid-type]  # a class that is known at run time
        def _find_pairs(self, *_: Any) -> Sequence[Pair]:
            return []

    def opened(split: str) -> OfficialDataset:
        dataset: OfficialDataset = Listed(root, split, **options)
        return dataset

    layout = dataset_class.edition.layout
    wanted = (
        [layout.split_name(split) for split in splits] if splits else [name for name in SPLITS if name in layout.splits]
    )
    dataset = opened(wanted[0])
    layout = dataset.edition.layout
    found = []
    for split in dict.fromkeys(wanted):
        source = _official_split(layout, root, split)
        if source is None and splits:
            dataset_class(root, split, **options)  # says what is missing
            raise DatasetNotFoundError(f"{name} {split}: no files in {root}")
        if source is not None:
            found.append(source)
    if not any(_is_paired(split) for split in found):
        dataset_class(root, wanted[0], **options)
        raise DatasetNotFoundError(f"{name}: no image in {root} has a mask")
    return Source(name, root, dataset, found, dataset.metadata, layout, True, _skips(dataset_class, options), options)


def _official_split(layout: Layout, root: Path, split: str) -> SplitSource | None:
    found = layout.look(root, split, first=True)
    files = layout.splits[split]
    if not found.is_split and not found.images:
        return None
    lossy = FileTable()
    wanted = found.images if found.masks is None else found.masks
    missing = found.images.where(~matched(found.images, wanted)[0])
    for suffix in LOSSY_SUFFIXES if missing else ():
        patterns = tuple(f"{pattern.rpartition('.')[0]}{suffix}" for pattern in files.masks)
        others = layout.files(root, patterns, files.keys, first=True)
        lossy = FileTable(chain(others.where(matched(others, missing)[0]).rows(), lossy.rows()))
    if not found.is_split and not lossy and not found.masks:
        return None
    images = found.images
    more: dict[str, tuple[Path, ...]] = {}
    partial: dict[str, tuple[Path, str]] = {}
    if files.more_images:
        tables = layout.more_files(root, split)
        for key, path in found.images.items():
            lacking = next((p for table, p in zip(tables, files.more_images, strict=True) if key not in table), None)
            if lacking is None:
                more[key] = tuple(table[key] for table in tables)
            else:
                partial[key] = path, lacking
        images = images.where(key not in partial for key in images)
    return SplitSource(split, images, found.masks, lossy, found.listing, found.absent, more, partial)


def _is_paired(split: SplitSource) -> bool:
    return split.masks is None or any(matched(split.images, table)[0].any() for table in (split.masks, split.lossy))


# ---- folders of one's own --------------------------------------------------------------------------------------------


def _own(
    name: str,
    dataset_class: type[FolderDataset],
    root: Path,
    splits: Sequence[str] | None,
    metadata: DatasetMetadata | None,
    options: Mapping[str, Any],
) -> Source:
    seen: list[tuple[FolderLayout, SplitRule]] = []

    class Listed(dataset_class):  # type: ignore[misc, valid-type]  # a class that is known at run time
        def _find_pairs(self, layout: FolderLayout, _: str, rule: SplitRule, *__: str) -> Sequence[Pair]:
            seen.append((layout, rule))
            return []

    for split in splits or ():
        check_split(split, SPLITS, name)
    check_task_options(root, metadata, options)
    given = metadata if metadata is not None else _any_classes(options)
    dataset = Listed(root, given, "train", **options)
    layout, rule = seen[0]
    has_own = layout.has_split_folders or layout.split_file is not None
    found = _own_splits(root, layout) if has_own else _divided(root, layout, rule)
    by_name = {split.name: split for split in found}
    for split in splits or ():
        if split not in by_name:
            dataset_class(root, given, split, **options)  # says what is missing
            raise DatasetNotFoundError(f"{name} {split}: no files in {root}")
    chosen = [by_name[split] for split in dict.fromkeys(splits)] if splits else found
    if not any(_is_paired(split) for split in chosen) or not any(split.masks or split.lossy for split in chosen):
        dataset_class(root, given, splits[0] if splits else "train", **options)
        raise DatasetNotFoundError(f"{name}: no image in {root} has a mask")
    if not layout.has_split_folders and _is_split(root):
        warnings.warn(
            f"{root} is a split of the dataset in {root.absolute().parent}: check that folder, to see all splits",
            stacklevel=2,
        )
    return Source(name, root, dataset, chosen, metadata, None, has_own, _skips(dataset_class, options), options)


def _is_split(root: Path) -> bool:
    """Returns whether a folder is that of a split, beside those of others."""
    names = {name for known in NAMES_OF.values() for name in known}
    folder = root.absolute()
    return folder.name.lower() in names and is_own(folder.parent)


def _any_classes(options: Mapping[str, Any]) -> Metadata:
    label_map = options.get("label_map")
    table = label_map.mapping if isinstance(label_map, LabelMap) else label_map
    targets = [t for t in table.values() if isinstance(t, int)] if isinstance(table, Mapping) else []
    return {"labels": [f"class_{i}" for i in range(max(targets) + 1)]} if targets else _UNKNOWN


def _own_splits(root: Path, layout: FolderLayout) -> list[SplitSource]:
    """Returns the splits that have folders or lists of their own."""
    found = []
    for split in SPLITS:
        source = _listed(root, layout, split, "train" if not layout.has_split_folders else split)
        if layout.split_file is not None:
            path = list_path(root, layout.split_file, split)
            if path is None or not path.is_file():
                continue
            keys, absent = resolve_list(path, source.images, layout.mask_suffix)
            listed = set(keys)
            images, masks = (
                table.where(key in listed for key in table) for table in (source.images, source.masks or FileTable())
            )
            source = replace(source, images=images, masks=masks, listing=path, absent=absent)
        if split == "test" and not source.masks and not source.lossy:
            source = replace(source, masks=None, lossy=FileTable())
        if source.images or source.masks:
            found.append(source)
    return found


def _divided(root: Path, layout: FolderLayout, rule: SplitRule) -> list[SplitSource]:
    """Returns train and val of one folder of files."""
    every = _listed(root, layout, "train", "train")
    masks = every.masks or FileTable()
    try:
        val = rule.val_rows(every.images, hashed_names(every.images), f"{root}/{layout.images}")
    except DatasetNotFoundError:  # one image, or one group
        val = np.zeros(len(every.images), bool)
    of_val = every.images.where(val)
    is_val = matched(masks, of_val)[0]  # a mask alone is told once, in train
    found = []
    for split, images, rows in (("train", every.images.where(~val), ~is_val), ("val", of_val, is_val)):
        own = masks.where(rows)
        if images or own:
            lossy = every.lossy.where(matched(every.lossy, images)[0])
            partial = every.partial if split == "train" else {}
            found.append(replace(every, name=split, images=images, masks=own, lossy=lossy, partial=partial))
    return found


def _listed(root: Path, layout: FolderLayout, name: str, split: str) -> SplitSource:
    files = layout.files(root, split, first=True)
    lossy = FileTable()
    alone = files.images.where(~matched(files.images, files.masks)[0])
    if alone:
        try:
            others = layout.files(root, split, first=True, mask_suffixes=LOSSY_SUFFIXES).masks
        except UserError:  # of images and masks in one folder the images would be masks
            others = FileTable()
        others = others.where(matched(others, alone)[0])
        own = set(files.images.paths)
        lossy = others.where(path not in own for path in others.paths)
    return SplitSource(
        name,
        files.images,
        files.masks,
        lossy,
        more=files.more,
        partial=files.partial,
        planes=files.planes,
        labels=() if layout.missing_class == "absent" else layout.labels,
        pattern=layout.masks,
    )
