"""What the doctor finds in the files of one split without decoding its images, for the start of a run."""

import os
import shlex
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.files.file_faults import FileFault, FileReport, ImageContents
from seg_core.files.mask_sources import OnProgress
from seg_core.files.name_list import NameList
from seg_core.files.scan import DatasetScan
from seg_core.labels.label_map import LabelMap
from seg_core.labels.raw_ids import label_map_line
from seg_core.labels.tasks import MULTICLASS
from seg_core.registry import DATASETS
from seg_datasets.doctor.checked import CheckedSplit, state
from seg_datasets.doctor.classes import find_classes_of
from seg_datasets.doctor.examine import RECORD, Examined, Examiner, examine
from seg_datasets.doctor.examine_workers import Workers, num_cpus
from seg_datasets.doctor.findings_channels import channel_findings
from seg_datasets.doctor.findings_colors import color_findings
from seg_datasets.doctor.findings_images import size_findings, unreadable_images
from seg_datasets.doctor.findings_masks import unreadable_masks
from seg_datasets.doctor.findings_splits import duplicate_findings
from seg_datasets.doctor.headers import Headers
from seg_datasets.doctor.kinds import ERROR, KINDS, WARNING
from seg_datasets.doctor.mask_files import MaskPixels
from seg_datasets.doctor.opening import shown_option
from seg_datasets.doctor.report import DataFinding, kind_lines
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.mask_kinds import PaletteFile
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import Pair, PairList
from seg_datasets.reading.samples import MaskReader, Reading

__all__ = ["check_files"]

_LIMIT = 60.0  # seconds after which, under "auto", no more masks are read to find all that cannot be
_BLOCK = 512  # pairs


def check_files(
    dataset: PairedDataset,
    check: str,
    *,
    split: str,
    scan: DatasetScan | None,
    other: ImageContents | None = None,
    progress: OnProgress | None = None,
    indices: Sequence[int] | None = None,
) -> FileReport:
    """Returns what is wrong with the files of a dataset; arguments as of `seg_core.files.file_faults`.

    Of images the headers are read, and of masks nothing that the scan knows.
    """
    indices = range(len(dataset)) if indices is None else indices
    pairs = PairList(map(dataset.pair, indices))
    source = _source(dataset)
    images = [tuple(map(str, pair.images)) for pair in pairs]
    rows, headers, chosen = _images(images, dataset.reading, check, progress)
    notes = {(row, "image"): note for row, place in enumerate(chosen) if (note := headers.known[place].note)}
    examined = Examined(rows, notes)
    checked = CheckedSplit(split, PairList(pairs[place] for place in chosen), examined, True)
    rows["mask"] = state("absent")
    palettes: dict[PaletteFile, int] = {}
    if scan is None:
        _read_masks(dataset, checked, check, palettes, progress)
    else:
        row_of = np.full(len(pairs), -1)
        row_of[list(chosen)] = np.arange(len(chosen))
        at = row_of[np.asarray(scan.indices, np.intp)]
        rows["mask"][at[at >= 0]] = state("ok")
        rows["mask_size"][at[at >= 0]] = scan.sizes[at >= 0]
    found = list(_findings(source, checked, palettes))
    contents = _contents(checked)
    if other is not None:
        found += _duplicates(source, other, contents)
    return FileReport(_faults(found), contents, len(chosen), len(pairs), _command(dataset))


def _contents(split: CheckedSplit) -> ImageContents:
    rows = split.rows("image", "ok")
    return ImageContents(split.name, NameList(map(split.image, rows.tolist())), split.examined.rows["content"][rows])


def _duplicates(source: Source, *both: ImageContents) -> list[DataFinding]:
    """Returns the images that are in two splits."""
    splits = []
    for one in both:
        rows = np.zeros(len(one.paths), RECORD)
        rows["content"] = one.hashes
        pairs = PairList(Pair(Path(path), None) for path in one.paths)
        splits.append(CheckedSplit(one.split, pairs, Examined(rows), False))
    found = duplicate_findings(source, splits)
    # official splits are as they were published, and scores on them are compared with those of others
    return _allowed(found) if source.is_official else found


def _source(dataset: PairedDataset) -> Source:
    layout = dataset.edition.layout if isinstance(dataset, OfficialDataset) else None
    name, root = type(dataset).__name__, dataset.root or Path()
    return Source(name, root, dataset, (), dataset.metadata, layout, True, False)


def _images(
    images: Sequence[Sequence[str]], reading: Reading, check: str, progress: OnProgress | None
) -> tuple[npt.NDArray[Any], Headers, Sequence[int]]:
    """Returns records of the images that are looked at, their headers, and their places among all."""
    headers = Headers(images, reading)
    chosen = headers.select(len(images), check)
    headers.read(chosen, progress)
    known = [headers.known[place] for place in chosen]
    rows = np.zeros(len(known), RECORD)
    rows["palette"] = -1
    rows["image"] = [state(one.state) for one in known]
    rows["image_size"] = np.array([(one.height, one.width) for one in known], np.uint32).reshape(-1, 2)
    rows["tag"] = [one.tag for one in known]
    rows["content"] = np.array([one.content for one in known], np.uint64)
    return rows, headers, chosen


class _MaskExaminer(Examiner):
    """Reads the masks of pairs alone."""

    def _image(self, chunk: Any, row: int, path: str) -> None:
        pass


def _read_masks(
    dataset: PairedDataset,
    checked: CheckedSplit,
    check: str,
    palettes: dict[PaletteFile, int],
    progress: OnProgress | None,
) -> None:
    """Reads masks after one could not be read, to find all of them."""
    examiner = _MaskExaminer(_lenient(dataset.mask_reader), dataset.reading)
    rows, notes, plane_faults = checked.examined.rows, checked.examined.notes, checked.examined.plane_faults
    start, total = time.perf_counter(), len(checked.pairs)

    def tell(count: int, before: int) -> None:
        if progress is not None:
            progress(before + count, total)

    # threads, since a process that holds a network and its threads is not to be forked
    with warnings.catch_warnings(), ThreadPoolExecutor(num_cpus()) as pool:
        workers = Workers(pool, num_cpus())
        warnings.simplefilter("ignore")
        for first in range(0, total, _BLOCK):
            part = checked.pairs[first : first + _BLOCK]
            found = examine(examiner, part, workers, palettes, lambda count, before=first: tell(count, before))  # type: ignore[misc]
            for name in RECORD.names or ():
                if name in ("mask", "mask_size", "bits", "gray", "palette", "many", "ids"):
                    rows[name][first : first + len(part)] = found.rows[name]
            notes.update({(first + row, which): text for (row, which), text in found.notes.items()})
            plane_faults.update({first + row: faults for row, faults in found.plane_faults.items()})
            if check == "auto" and time.perf_counter() - start > _LIMIT:
                return


def _lenient(reader: MaskReader | None) -> MaskReader | None:
    """Returns a reader for which a color that is no class is no reason not to read a mask."""
    if isinstance(reader, ColorReader) and reader.unknown == "error":
        return ColorReader(reader.colors, "warn", only_colors=reader.only_colors)
    return reader


def _findings(source: Source, split: CheckedSplit, palettes: dict[PaletteFile, int]) -> Iterator[DataFinding]:
    yield from unreadable_images(source, split)
    yield from channel_findings(source, [split])
    # of a tag whose mask fits reading warns
    yield from (one for one in size_findings(source, split) if one.severity == ERROR)
    masks = list(unreadable_masks(source, split))
    yield from (one for one in masks if one.kind != "rgb-mask")
    yield from _allowed([one for one in masks if one.kind == "rgb-mask"])  # they are read, each id three times
    if len(split.rows("mask", "color-mask")):
        pixels = MaskPixels(source, find_classes_of(source, [split], 255), list(palettes))
        yield from color_findings(source, [split], pixels, palettes)


def _allowed(found: Sequence[DataFinding]) -> list[DataFinding]:
    """Returns errors of the doctor that need not stop a run, as warnings."""
    return [replace(one, severity=WARNING) for one in found]


def _faults(found: list[DataFinding]) -> list[FileFault]:
    order = {kind: place for place, kind in enumerate(KINDS)}
    found.sort(key=lambda one: (one.severity != ERROR, order[one.kind]))
    faults = []
    for (severity, kind), group in groupby(found, key=lambda one: (one.severity, one.kind)):
        alike = list(group)
        text = "\n".join(kind_lines(severity, kind, alike)).removeprefix(f"{severity}: ")
        faults.append(FileFault(kind, severity == ERROR, [one.file for one in alike], text))
    return faults


def _command(dataset: PairedDataset) -> str:
    """Returns the command that reads all files as the dataset does; "" if there is none."""
    name = type(dataset).__name__
    if dataset.root is None:
        return ""
    root = shlex.quote(str(dataset.root))
    if isinstance(dataset, OfficialDataset) and name in DATASETS:
        return f"seg datasets check {name} --root {root}"
    words, given = [f"seg datasets check {root}"], dict(getattr(dataset, "given", {}))
    classes = given.pop("metadata", None)
    if isinstance(classes, str | os.PathLike):
        words.append(f"--classes {shlex.quote(os.fspath(classes))}")
    elif classes is not None and dataset.metadata.task != MULTICLASS:
        return ""  # the command takes classes of another task from a file only
    for option, value in given.items():
        if isinstance(value, LabelMap):
            text = label_map_line(value).partition(" = ")[2]
        else:
            text = value if isinstance(value, str) and not value.isalnum() else shown_option(value)
        words.append(f"-s {shlex.quote(f'{option}={text}')}")
    return " ".join(words)
