"""Scans the masks of a dataset: which ids they hold, how many pixels of each, and their sizes.

Mask files are read in parallel, without their images. What a file holds is remembered per user (see `cache_folder`), by
its path, size and modification time, so that another run on the same data does not read it again. Masks that are not
files, of a dataset of your own, are read one by one by indexing the dataset, and are not remembered.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, id_ranges, list_ids, nearest
from seg_core.files.scan_cache import FileKey, MaskSummary, cache_folder, file_key, recall, remember
from seg_core.labels.label_map import LabelMap
from seg_core.randomness import DATASET_STREAM, isolated_randomness, sample_seed

__all__ = [
    "CHECKS",
    "DatasetScan",
    "MaskFile",
    "MaskSummary",
    "OnProgress",
    "cache_folder",
    "sample_name",
    "scan_dataset",
    "scan_masks",
    "wrong_ids_message",
]

CHECKS = ("auto", "full", "sample")
"""Which masks are scanned: `"full"` all, `"sample"` 2,000 spread over the dataset, `"auto"` all if that is predicted to
take less than a minute, else the sample."""

_SAMPLE = 2000
_TRIAL = 100  # masks from which the duration of a scan is predicted
_LIMIT = 60.0  # seconds that the scan of all masks may take under "auto"
_MOST_THREADS = 16
_SAVED_AT_ONCE = 2000  # masks; a scan that is interrupted keeps those before

OnProgress = Callable[[int, int], object]
"""Called with the number of masks done and their total."""


@dataclass(frozen=True)
class MaskFile:
    """A mask file of a dataset and how it is read.

    Attributes:
        path: the file.
        read: returns its raw ids (H, W), of any integer type; threads call it.
        reader: name of `read` in the cache; None if what it returns must not be remembered.
        label_map: raw ids -> class ids.
        remedy: what to do about a raw id that `label_map` does not list, for messages.
    """

    path: Path
    read: Callable[[Path], npt.NDArray[Any]]
    reader: str | None
    label_map: LabelMap
    remedy: str = "correct the mask, or list its ids in the label map"


@dataclass(frozen=True, eq=False)
class DatasetScan:
    """What the masks of a dataset hold, or a sample of n of them.

    Attributes:
        total: number of masks of the dataset.
        indices: those that were scanned, ascending.
        sizes: int64 (n, 2), height and width in pixels.
        pixels: int64 (n, K), pixels of each class.
        ignored: int64 (n,), pixels without a class.
        raw_ids: class id, or None for ignored pixels -> the ids in the masks that stand for it.
        wrong_ids: ids that are neither a class nor ignored -> their pixels.
        problem: sentence about the first mask with such ids; empty if there is none.
        names: of the masks that were scanned, for messages: files or numbers of samples.
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
    source = _Files(files)
    source.read(range(len(files)), progress)
    return [source.known[index] for index in range(len(files))]


def scan_dataset(
    dataset: Any,
    check: str = "full",
    *,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: OnProgress | None = None,
) -> DatasetScan:
    """Scans the masks of a dataset; ids out of range are reported, not raised.

    Args:
        dataset: has a length and returns `(image, mask)` for each index. If it has a method `mask_file(index)` that
            returns a `MaskFile`, that file is read; if there is no such method or it returns None, the mask of the
            sample: integer (H, W), class ids or `ignore_index`.
        check: which masks, see `CHECKS`.
        num_classes: number of classes K; by default that of `dataset.metadata`.
        ignore_index: value of the pixels without a class; by default that of `dataset.metadata`, or 255.
        progress: called after each mask.

    Raises:
        InvalidArgumentError: if `check` is not allowed, the number of classes is not known, or a sample has no mask.
        UserError: if a mask cannot be read.
    """
    if check not in CHECKS:
        raise InvalidArgumentError(f"check must be one of {', '.join(CHECKS)}, got {check!r}.{nearest(check, CHECKS)}")
    metadata = getattr(dataset, "metadata", None)
    if num_classes is None:
        if metadata is None:
            raise InvalidArgumentError("num_classes must be given, since the dataset has no metadata")
        num_classes = metadata.num_classes
    if ignore_index is None:
        ignore_index = 255 if metadata is None else metadata.ignore_index
    own_ids: dict[int, int | None] = {**{index: index for index in range(num_classes)}, ignore_index: None}
    # files have the label map of the dataset, which other classes would not fit
    has_own = metadata is not None and (num_classes, ignore_index) == (metadata.num_classes, metadata.ignore_index)
    source = _source_of(dataset, own_ids) if has_own else _Samples(dataset, own_ids)
    indices = source.select(len(dataset), check)
    source.read(indices, progress)
    return _collect(source, indices, len(dataset), num_classes)


def wrong_ids_message(name: str, counts: Mapping[int, int], allowed: Collection[int], remedy: str) -> str:
    """Returns the sentence about a mask with ids that are not allowed.

    Args:
        name: name of the mask.
        counts: id -> pixels, of all its ids.
        allowed: ids that are allowed.
        remedy: what to do.
    """
    wrong = {raw: number for raw, number in sorted(counts.items()) if raw not in allowed}
    return (
        f"mask {name} contains ids that are not allowed: {list_ids(wrong, wrong.values())}. Allowed: "
        f"{id_ranges(allowed)}; {remedy}"
    )


def sample_name(dataset: Any, index: int) -> str:
    """Returns the number and the files of a sample, for messages."""
    file_names = getattr(dataset, "file_names", None)
    files = ", ".join(map(str, file_names(index))) if file_names is not None else ""
    return f"sample {index} ({files})" if files else f"sample {index}"


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Source:
    """Masks by index, and what is known of them."""

    def __init__(self) -> None:
        self.known: dict[int, MaskSummary] = {}

    def read(self, indices: Sequence[int], progress: OnProgress | None = None) -> None:
        """Reads those masks that are not known yet."""
        missing = [index for index in indices if index not in self.known]
        done = len(indices) - len(missing)
        for index, summary in zip(missing, self._read(missing), strict=True):
            self.known[index] = summary
            done += 1
            if progress is not None:
                progress(done, len(indices))

    def select(self, total: int, check: str) -> Sequence[int]:
        """Returns the masks to scan; for `"auto"`, the first that are not known are read to predict the duration."""
        if check == "full" or total <= _SAMPLE:
            return range(total)
        if check == "auto":
            missing = [index for index in range(total) if index not in self.known]
            start = time.perf_counter()
            self.read(missing[:_TRIAL])
            if (time.perf_counter() - start) / _TRIAL * len(missing) <= _LIMIT:
                return range(total)
        return [place * total // _SAMPLE for place in range(_SAMPLE)]

    def targets(self, index: int) -> Mapping[int, int | None]:
        """Returns the ids that the mask may hold -> class id, or None for ignored."""
        raise NotImplementedError

    def problem(self, index: int) -> str:
        """Returns the sentence about a mask with other ids."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """Returns the name of a mask."""
        raise NotImplementedError

    def _read(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        raise NotImplementedError


class _Files(_Source):
    def __init__(self, files: Sequence[MaskFile]) -> None:
        super().__init__()
        self.files = files
        self._targets: dict[int, Mapping[int, int | None]] = {}  # by the identity of the label map
        self._keys: dict[int, FileKey] = {}
        for index, file in enumerate(files):
            key = None if file.reader is None else file_key(file.path)
            if key is not None:
                self._keys[index] = key
        for reader, indices in self._by_reader(self._keys).items():
            found = recall(reader, [self._keys[index] for index in indices])
            self.known |= {index: found[self._keys[index]] for index in indices if self._keys[index] in found}

    def targets(self, index: int) -> Mapping[int, int | None]:
        label_map = self.files[index].label_map
        if id(label_map) not in self._targets:
            targets = {raw: t if isinstance(t, int) else None for raw, t in label_map.mapping.items()}
            self._targets[id(label_map)] = (
                targets if label_map.unlisted == "error" else defaultdict(lambda: None, targets)
            )
        return self._targets[id(label_map)]

    def problem(self, index: int) -> str:
        file = self.files[index]
        return wrong_ids_message(str(file.path), self.known[index].counts, file.label_map.mapping, file.remedy)

    def name(self, index: int) -> str:
        return str(self.files[index].path)

    def _read(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        # threads are enough: decoding, most of the work, runs without Python's lock
        with ThreadPoolExecutor(min(_num_cpus(), _MOST_THREADS)) as threads:
            for start in range(0, len(indices), _SAVED_AT_ONCE):
                chunk = indices[start : start + _SAVED_AT_ONCE]
                pending = [threads.submit(self._summary, index) for index in chunk]
                done: dict[int, MaskSummary] = {}
                try:
                    for index, task in zip(chunk, pending, strict=True):
                        done[index] = task.result()
                        yield done[index]
                finally:
                    for task in pending:
                        task.cancel()
                    self._remember(done)

    def _summary(self, index: int) -> MaskSummary:
        file = self.files[index]
        return _summarize(file.read(file.path), str(file.path))

    def _remember(self, done: Mapping[int, MaskSummary]) -> None:
        for reader, indices in self._by_reader(done.keys() & self._keys.keys()).items():
            remember(reader, [(self._keys[index], done[index]) for index in indices])

    def _by_reader(self, indices: Iterable[int]) -> Mapping[str, list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            groups[self.files[index].reader or ""].append(index)
        return groups


class _Samples(_Source):
    def __init__(self, dataset: Any, targets: Mapping[int, int | None]) -> None:
        super().__init__()
        self._dataset = dataset
        self._targets = targets

    def targets(self, index: int) -> Mapping[int, int | None]:  # noqa: ARG002 - the same for all
        return self._targets

    def problem(self, index: int) -> str:
        name = f"of {sample_name(self._dataset, index)}"
        return wrong_ids_message(name, self.known[index].counts, self._targets, "correct the mask or the metadata")

    def name(self, index: int) -> str:
        return f"of {sample_name(self._dataset, index)}"

    def _read(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        for index in indices:
            # the dataset may draw random numbers; the generators of the caller must not advance
            with isolated_randomness(sample_seed(0, 0, index, DATASET_STREAM)):
                mask = self._dataset[index][1]
            name = sample_name(self._dataset, index)
            if mask is None:
                raise InvalidArgumentError(f"{name} has no mask; choose a split that has masks")
            ids = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
            # as the transforms of training take them
            ids = ids[0] if ids.ndim == 3 and len(ids) == 1 else ids
            yield _summarize(ids.astype(np.uint8) if ids.dtype == np.bool_ else ids, f"of {name}")


def _source_of(dataset: Any, own_ids: Mapping[int, int | None]) -> _Source:
    mask_file = getattr(dataset, "mask_file", None)
    files = [] if mask_file is None else [mask_file(index) for index in range(len(dataset))]
    return _Samples(dataset, own_ids) if None in files or not files else _Files(files)


def _summarize(ids: npt.NDArray[Any], name: str) -> MaskSummary:
    if ids.ndim != 2 or ids.dtype.kind not in "ui":
        raise InvalidArgumentError(
            f"mask {name} has shape {ids.shape} and holds {ids.dtype}; a mask is (H, W) of integer ids: convert it, as "
            "with mask.to(torch.uint8)"
        )
    if ids.dtype == np.uint8 and ids.size:
        # several times faster than numpy's functions, which widen every value to 64 bits
        numbers = Image.fromarray(np.ascontiguousarray(ids)).histogram()
        counts = {value: number for value, number in enumerate(numbers) if number}
    else:
        values, amounts = np.unique(ids, return_counts=True)
        counts = dict(zip(values.tolist(), amounts.tolist(), strict=True))
    return MaskSummary(ids.shape[0], ids.shape[1], counts)


def _num_cpus() -> int:
    # those of this process, which a container or a job may have restricted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- result ----------------------------------------------------------------------------------------------------------


def _collect(source: _Source, indices: Sequence[int], total: int, num_classes: int) -> DatasetScan:
    pixels = np.zeros((len(indices), num_classes), np.int64)
    ignored, sizes = np.zeros(len(indices), np.int64), np.zeros((len(indices), 2), np.int64)
    raw_ids: dict[int | None, set[int]] = defaultdict(set)
    wrong: Counter[int] = Counter()
    problem = ""
    for row, index in enumerate(indices):
        height, width, counts = source.known[index]
        sizes[row] = height, width
        targets = source.targets(index)
        for raw, number in counts.items():
            try:
                target = targets[raw]
            except KeyError:
                wrong[raw] += number
                problem = problem or source.problem(index)
                continue
            raw_ids[target].add(raw)
            if target is None:
                ignored[row] += number
            else:
                pixels[row, target] += number
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
    )
