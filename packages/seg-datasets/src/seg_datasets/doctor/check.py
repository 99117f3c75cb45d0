"""Checks a dataset: reads every file once, and says what is wrong with names, images, masks and splits."""

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seg_core.files.mask_sources import OnProgress
from seg_core.labels.comparison import check_several_classes
from seg_datasets.doctor.checked import WITH_FILE, CheckedSplit
from seg_datasets.doctor.classes import Classes, find_classes_of
from seg_datasets.doctor.examine import Examined, Examiner, examine
from seg_datasets.doctor.examine_workers import workers_for
from seg_datasets.doctor.findings_files import file_findings
from seg_datasets.doctor.findings_images import image_findings
from seg_datasets.doctor.findings_masks import mask_findings
from seg_datasets.doctor.findings_splits import split_findings
from seg_datasets.doctor.kinds import ERROR, KINDS
from seg_datasets.doctor.notes import notes_of
from seg_datasets.doctor.report import Report
from seg_datasets.doctor.sources import Source, open_source
from seg_datasets.doctor.swapped import check_not_swapped
from seg_datasets.doctor.targets import Target, find_target
from seg_datasets.reading.class_files import Metadata
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.mask_kinds import PaletteFile

__all__ = ["check"]

_IGNORED = 255
_MOST_PAIRED = 4  # files of a finding whose partners are kept; a page shows no more


def check(
    target: Target,
    root: str | os.PathLike[str] | None = None,
    splits: Sequence[str] | None = None,
    classes: Metadata | None = None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: OnProgress | None = None,
    **options: Any,
) -> Report:
    """Reads every image and mask of a dataset, and returns all that is wrong with them.

    Files that are missing, damaged or of the wrong kind are findings, not errors, and the check goes on. What is found
    is listed in `seg_datasets.doctor.kinds.KINDS`.

    >>> import seg_datasets
    >>> report = seg_datasets.check("data/mine", num_classes=3)  # doctest: +SKIP
    >>> report.counts()  # doctest: +SKIP
    {'size-mismatch': 1}

    Args:
        target: a name from `list_datasets()`, whose folder is `root`; or a folder that `FolderDataset` reads or that is
            a dataset's official tree.
        root: folder of the dataset that `target` names.
        splits: the splits to check; None for train, val and test, as far as they are there.
        classes: the classes of a folder, as `metadata` of `FolderDataset`: name of a label set, path of a file, mapping
            or `DatasetMetadata`. None reads `classes.toml` in the folder; without one, ids are not checked.
        num_classes: number of classes, instead of `classes`.
        ignore_index: value of the pixels without a class, for a folder; by default that of the classes, or 255.
        progress: called with the number of images read and their total.
        **options: options of the dataset, such as `label_map` or `mask_suffix` of `FolderDataset`.

    Raises:
        UsageError: if there is no such dataset or folder, or several datasets fit.
        InvalidArgumentError: if there is no such split, an argument is not allowed, images and masks are swapped, or a
            multiclass task has one class; masks of 0 and 255 alone are a finding then.
        DatasetNotFoundError: if the folder holds no images with masks.
        MissingDependencyError: if masks need a package that is not installed.
    """
    start = time.perf_counter()
    wanted = find_target(target, root, splits, classes, num_classes, ignore_index, options)
    source = open_source(wanted, splits, options)
    found = file_findings(source)
    notes = [*source.notes, *notes_of(source, splits)]
    palettes: dict[PaletteFile, int] = {}
    reader = source.dataset.mask_reader
    stops = not isinstance(reader, ColorReader) or reader.unknown == "error"
    checked = _read(source, palettes, progress)
    source = replace(source, splits=())  # the paths are stored in little memory now
    check_not_swapped(source, checked)
    known = find_classes_of(source, checked, _IGNORED if ignore_index is None else ignore_index)
    ids: set[int] = set().union(*(own for split in checked if split.has_masks for own in split.id_sets.sets))
    if (
        known.metadata is not None
        and known.is_alone
        and (isinstance(reader, ColorReader) or not known.is_black_and_white(ids))
    ):
        check_several_classes(known.metadata)
    found += image_findings(source, checked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what readers warn of is found here
        found += mask_findings(source, checked, known, palettes, stops)
    found += split_findings(source, checked, notes)
    source = replace(source, notes=notes)
    order = {kind: place for place, kind in enumerate(KINDS)}
    found.sort(key=lambda one: (one.severity != ERROR, order[one.kind]))
    summary = _summary(source, checked, known, time.perf_counter() - start)
    pairs = _pairs(source, checked, {file for one in found for file in one.files[:_MOST_PAIRED]})
    return Report(source.name, source.root, found, summary, pairs, known.metadata, known.targets)


def _pairs(source: Source, checked: Sequence[CheckedSplit], files: set[str]) -> dict[str, str]:
    """Returns image -> mask of the pairs of which one is among `files`."""
    pairs = {}
    for split in checked if files else ():
        for row in range(len(split.pairs)):
            pair = split.pairs[row]
            if pair.mask is None:
                continue
            shown, masks = ([source.shown(path) for path in paths] for paths in (pair.images, split.masks(row)))
            if not files.isdisjoint((*shown, *masks)):
                pairs[shown[0]] = next((mask for mask in masks if mask in files), masks[0])
    return pairs


def _read(source: Source, palettes: dict[PaletteFile, int], progress: OnProgress | None) -> list[CheckedSplit]:
    """Reads the files of all splits."""
    total = sum(len(split.images) for split in source.splits)
    reader, done = source.dataset.mask_reader, 0
    if isinstance(reader, ColorReader) and reader.unknown == "error":
        reader = ColorReader(reader.colors, "warn", only_colors=reader.only_colors)
        source.dataset.mask_reader = reader
    examiner = Examiner(reader, source.dataset.reading)
    checked = []
    with warnings.catch_warnings(), workers_for(total) as pool:
        warnings.simplefilter("ignore")
        for split in source.splits:

            def tell(count: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + count, total)

            pairs = split.pairs()
            examined: Examined = examine(examiner, pairs, pool, palettes, tell)
            checked.append(CheckedSplit(split.name, pairs, examined, split.masks is not None))
            done += len(pairs)
    return checked


def _summary(source: Source, checked: Sequence[CheckedSplit], known: Classes, seconds: float) -> dict[str, Any]:
    notes: list[str] = [*source.notes, *([known.note] if known.note else [])]
    return {
        "splits": {split.name: len(split.pairs) for split in checked},
        "classes": None if known.metadata is None else list(known.metadata.labels),
        "classes_suggested": known.is_suggested,
        "files": sum(len(split.pairs) + _num_masks(split) for split in checked),
        "seconds": round(seconds, 3),
        "notes": notes,
    }


def _num_masks(split: CheckedSplit) -> int:
    """Returns the number of mask files that are there."""
    rows = split.rows("mask", *WITH_FILE)
    return sum(len(split.masks(row)) for row in rows.tolist()) if split.pairs.has_planes else len(rows)
