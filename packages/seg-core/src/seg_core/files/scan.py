"""Scans the masks of a dataset: which ids they hold, how many pixels of each, and their sizes.

Mask files are read in parallel, without their images. What a file holds is remembered per user (see `cache_folder`), by
its path, size and times, so that another run on the same data does not read it again. Masks that are not
files, of a dataset of your own, are read one by one by indexing the dataset, and are not remembered.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.checks import MAX_CLASSES, check_integer
from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, nearest
from seg_core.files.mask_sources import MaskFile, MaskFiles, MaskSamples, MaskSource, OnProgress, files_of, plane_and_id
from seg_core.files.scan_cache import MaskSummary, cache_folder
from seg_core.labels.tasks import MULTICLASS, MULTILABEL

__all__ = [
    "CHECKS",
    "DatasetScan",
    "MaskFile",
    "MaskSummary",
    "OnProgress",
    "cache_folder",
    "scan_dataset",
    "scan_masks",
]

CHECKS = ("auto", "full", "sample")
"""Which masks are scanned: `"full"` all, `"sample"` 2,000 spread over the dataset, `"auto"` all if that is predicted to
take less than a minute, else the sample."""


@dataclass(frozen=True, eq=False)
class DatasetScan:
    """What the masks of a dataset hold, or a sample of n of them.

    Attributes:
        total: number of masks of the dataset.
        indices: those that were scanned, ascending.
        sizes: int64 (n, 2), height and width in pixels.
        pixels: int64 (n, K), pixels of each class; of a binary task those of the object (K = 1).
        ignored: int64 (n,), pixels without a class; of a multilabel task the sum over its K planes.
        raw_ids: class id, or None for ignored pixels -> the ids in the masks that stand for it.
        wrong_ids: ids that are neither a class nor ignored -> their pixels.
        problem: sentence about the first mask with such ids; empty if there is none.
        names: of the masks that were scanned, for messages: files or numbers of samples.
        task: `"multiclass"`, `"binary"` or `"multilabel"`.
        background: int64 (n, K), pixels that are not of each class and not ignored; None for a multiclass task.
    """

    total: int
    indices: Sequence[int]
    sizes: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.int64]
    raw_ids: Mapping[int | None, frozenset[int]]
    wrong_ids: Mapping[int, int]
    problem: str
    names: Sequence[str] = ()
    task: str = MULTICLASS
    background: npt.NDArray[np.int64] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every mask was scanned."""
        return len(self.indices) == self.total

    def check_ids(self) -> None:
        """Raises LabelOutOfRangeError if a mask holds an id that is neither a class nor ignored."""
        if self.problem:
            raise LabelOutOfRangeError(self.problem)


def scan_masks(files: Sequence[MaskFile], progress: OnProgress | None = None) -> list[MaskSummary]:
    """Returns what each mask file holds, in raw ids.

    Args:
        files: the masks.
        progress: called after each mask.

    Raises:
        UserError: what the reader of a file raises; of several the first.
    """
    source = MaskFiles(files)
    source.read(range(len(files)), progress)
    return [source.known[index] for index in range(len(files))]


def scan_dataset(
    dataset: Any,
    check: str = "full",
    *,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    num_workers: int = 0,
    progress: OnProgress | None = None,
) -> DatasetScan:
    """Scans the masks of a dataset; ids out of range are reported, not raised.

    Args:
        dataset: has a length and returns `(image, mask)` for each index. If it has a method `mask_file(index)` that
            returns a `MaskFile`, that file is read; if there is no such method or it returns None, the mask of the
            sample: integer (H, W), class ids or `ignore_index`; of a dataset whose `metadata.task` is `"binary"` 0, 1
            and `ignore_index`, and (K, H, W) of these if it is `"multilabel"`.
        check: which masks, see `CHECKS`.
        num_classes: number of classes K; by default that of `dataset.metadata`.
        ignore_index: value of the pixels without a class; by default that of `dataset.metadata`, or 255.
        num_workers: number of processes that read samples, if the masks are not files and reading them takes long.
        progress: called after each mask.

    Raises:
        InvalidArgumentError: if `check` is not allowed, the number of classes is not known or not from 1 to 65535, or
            a sample has no mask.
        UserError: if a mask cannot be read.
    """
    if check not in CHECKS:
        raise InvalidArgumentError(f"check must be one of {', '.join(CHECKS)}, got {check!r}.{nearest(check, CHECKS)}")
    metadata = getattr(dataset, "metadata", None)
    if num_classes is None:
        if metadata is None:
            raise InvalidArgumentError("num_classes must be given, since the dataset has no metadata")
        num_classes = metadata.num_classes
    check_integer("num_classes", num_classes, maximum=MAX_CLASSES)
    if ignore_index is None:
        ignore_index = 255 if metadata is None else metadata.ignore_index
    task = MULTICLASS if metadata is None else metadata.task
    num_ids = num_classes if task == MULTICLASS else 2
    own_ids: dict[int, int | None] = {**{index: index for index in range(num_ids)}, ignore_index: None}
    planes = num_classes if task == MULTILABEL else None
    # files have the label map of the dataset, which other classes would not fit
    has_own = metadata is not None and (num_classes, ignore_index) == (metadata.num_classes, metadata.ignore_index)
    files = files_of(dataset) if has_own else None
    source = MaskSamples(dataset, own_ids, num_workers, planes) if files is None else MaskFiles(files)
    indices = source.select(len(dataset), check)
    source.read(indices, progress)
    return _collect(source, indices, len(dataset), num_classes, task)


# ---- result ----------------------------------------------------------------------------------------------------------


def _collect(source: MaskSource, indices: Sequence[int], total: int, num_classes: int, task: str) -> DatasetScan:
    pixels = np.zeros((len(indices), num_classes), np.int64)
    background = None if task == MULTICLASS else np.zeros_like(pixels)
    ignored, sizes = np.zeros(len(indices), np.int64), np.zeros((len(indices), 2), np.int64)
    raw_ids: dict[int | None, set[int]] = defaultdict(set)
    wrong: Counter[int] = Counter()
    problem = ""
    for row, index in enumerate(indices):
        height, width, counts = source.known[index]
        sizes[row] = height, width
        targets = source.targets(index)
        for key, number in counts.items():
            plane, raw = plane_and_id(key) if task == MULTILABEL else (0, key)
            try:
                target = targets[raw]
            except KeyError:
                wrong[raw] += number
                problem = problem or source.problem(index)
                continue
            raw_ids[target].add(raw)
            if target is None:
                ignored[row] += number
            elif background is None:
                pixels[row, target] += number
            else:
                (pixels if target else background)[row, plane] += number
    return DatasetScan(
        total=total,
        indices=indices,
        sizes=sizes,
        pixels=pixels,
        ignored=ignored,
        raw_ids={target: frozenset(found) for target, found in raw_ids.items()},
        wrong_ids=dict(sorted(wrong.items())),
        problem=problem,
        names=[source.name(index) for index in indices],
        task=task,
        background=background,
    )
