"""The masks of a dataset as a scan reads them: files, by threads, or samples of a dataset of one's own."""

import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError, UserError, id_ranges, list_ids
from seg_core.files.remembered import RememberedFiles
from seg_core.files.scan_cache import MASKS, HeaderSummary, MaskSummary
from seg_core.labels.label_map import LabelMap
from seg_core.randomness import DATASET_STREAM, isolated_randomness, sample_seed
from seg_core.workers import start_worker, stop_workers

__all__ = [
    "MaskFile",
    "MaskFiles",
    "MaskSamples",
    "MaskSource",
    "OnProgress",
    "ScanSource",
    "files_of",
    "pair_of",
    "plane_and_id",
    "sample_name",
    "summary_of_sample",
    "wrong_ids_message",
]

SAMPLE_SIZE = 2000
"""Number of masks that are scanned if not all are."""

_Summary = TypeVar("_Summary", bound=MaskSummary | HeaderSummary)

_TRIAL = 100  # masks from which the duration of a scan is predicted
_LIMIT = 60.0  # seconds that the scan of all masks may take under "auto"
_SLOW_TRIAL, _SLOW = 10, 2.0  # samples, and seconds for all others from which worker processes pay
_STRIP = 256  # rows
_PLANE = 2**16  # the count of an id in plane k of a mask has the key k * _PLANE + id

OnProgress = Callable[[int, int], object]
"""Called with the number of masks done and their total."""


@dataclass(frozen=True)
class MaskFile:
    """A mask file of a dataset and how it is read.

    Attributes:
        path: the file.
        read: returns its raw ids (H, W), of any integer type, or (K, H, W) if it has planes; threads call it.
        reader: name of `read` in the cache; None if what it returns must not be remembered.
        label_map: raw ids -> class ids.
        remedy: what to do about a raw id that `label_map` does not list, for messages.
        planes: number of planes K of a mask of a multilabel task, else None.
    """

    path: Path
    read: Callable[[Path], npt.NDArray[Any]]
    reader: str | None
    label_map: LabelMap
    remedy: str = "correct the mask, or list its ids in the label map"
    planes: int | None = None


class ScanSource(ABC, Generic[_Summary]):
    """What is scanned, by index, and what is known of it: masks, or headers of images."""

    def __init__(self) -> None:
        self.known: dict[int, _Summary] = {}

    def read(self, indices: Sequence[int], progress: OnProgress | None = None) -> None:
        """Reads those that are not known yet."""
        missing = [index for index in indices if index not in self.known]
        done = len(indices) - len(missing)
        for index, summary in zip(missing, self._read(missing), strict=True):
            self.known[index] = summary
            done += 1
            if progress is not None:
                progress(done, len(indices))

    def select(self, total: int, check: str) -> Sequence[int]:
        """Returns those to scan; for `"auto"`, the first that are not known are read to predict the duration."""
        if check == "full" or total <= SAMPLE_SIZE:
            return range(total)
        if check == "auto":
            missing = [index for index in range(total) if index not in self.known]
            start = time.perf_counter()
            self.read(missing[:_TRIAL])
            if (time.perf_counter() - start) / _TRIAL * len(missing) <= _LIMIT:
                return range(total)
        return [place * total // SAMPLE_SIZE for place in range(SAMPLE_SIZE)]

    @abstractmethod
    def _read(self, indices: Sequence[int]) -> Iterator[_Summary]:
        """Yields what these hold."""


class MaskSource(ScanSource[MaskSummary]):
    """Masks by index, and what is known of them."""

    @abstractmethod
    def targets(self, index: int) -> Mapping[int, int | None]:
        """Returns the ids that the mask may hold -> class id, or None for ignored."""

    @abstractmethod
    def problem(self, index: int) -> str:
        """Returns the sentence about a mask with other ids."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the name of a mask, for messages."""


class MaskFiles(MaskSource):
    """Masks that are files; those that the cache knows are not read.

    Args:
        files: the masks.
    """

    def __init__(self, files: Sequence[MaskFile]) -> None:
        super().__init__()
        self.files = files
        self._targets: dict[int, Mapping[int, int | None]] = {}  # by the identity of the label map
        self._remembered = RememberedFiles(MASKS, [(file.path, file.reader) for file in files])
        self.known |= self._remembered.known

    def targets(self, index: int) -> Mapping[int, int | None]:
        """Returns those of the file's label map."""
        label_map = self.files[index].label_map
        if id(label_map) not in self._targets:
            targets = {raw: t if isinstance(t, int) else None for raw, t in label_map.mapping.items()}
            self._targets[id(label_map)] = (
                targets if label_map.unlisted == "error" else defaultdict(lambda: None, targets)
            )
        return self._targets[id(label_map)]

    def problem(self, index: int) -> str:
        """Returns a sentence with the path of the file."""
        file = self.files[index]
        counts = _of_all_planes(self.known[index].counts, file.planes)
        return wrong_ids_message(str(file.path), counts, file.label_map.mapping, file.remedy)

    def name(self, index: int) -> str:
        """Returns the path of the file."""
        return str(self.files[index].path)

    def _read(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        return self._remembered.read(indices, self._summary)

    def _summary(self, index: int) -> MaskSummary:
        file = self.files[index]
        return _summarize(file.read(file.path), str(file.path), file.planes)


class MaskSamples(MaskSource):
    """Masks of the samples of a dataset.

    Args:
        dataset: the dataset.
        targets: the ids that its masks may hold -> class id, or None for ignored.
        num_workers: number of processes that read samples if that takes long.
        planes: number of planes K of the masks of a multilabel task, else None.
    """

    def __init__(
        self, dataset: Any, targets: Mapping[int, int | None], num_workers: int, planes: int | None = None
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._targets = targets
        self._num_workers = num_workers
        self._planes = planes

    def targets(self, index: int) -> Mapping[int, int | None]:  # noqa: ARG002 - the same for all
        """Returns those of the dataset."""
        return self._targets

    def problem(self, index: int) -> str:
        """Returns a sentence with the number and the files of the sample."""
        name = f"of {sample_name(self._dataset, index)}"
        counts = _of_all_planes(self.known[index].counts, self._planes)
        return wrong_ids_message(name, counts, self._targets, "correct the mask or the metadata")

    def name(self, index: int) -> str:
        """Returns the number and the files of the sample."""
        return f"of {sample_name(self._dataset, index)}"

    def _read(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        start = time.perf_counter()
        for place, index in enumerate(indices):
            rest = len(indices) - place
            if place == _SLOW_TRIAL and (time.perf_counter() - start) / place * rest > _SLOW and self._num_workers:
                yield from self._in_workers(indices[place:])
                return
            yield summary_of_sample(self._dataset, index, self._planes)

    def _in_workers(self, indices: Sequence[int]) -> Iterator[MaskSummary]:
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            _Summaries(self._dataset, self._planes),  # type: ignore[arg-type]  # has what a map-style dataset needs
            sampler=indices,
            batch_size=None,
            num_workers=self._num_workers,
            worker_init_fn=start_worker,
        )
        results = iter(loader)
        try:
            for result in results:
                if isinstance(result, UserError):
                    raise result
                yield result
        finally:
            stop_workers(results)


@dataclass(frozen=True)
class _Summaries:
    """What the masks of samples hold, for worker processes; a worker's error would arrive wrapped in its traceback."""

    dataset: Any
    planes: int | None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> MaskSummary | UserError:
        try:
            return summary_of_sample(self.dataset, index, self.planes)
        except UserError as error:
            return error


def plane_and_id(key: int) -> tuple[int, int]:
    """Returns the plane and the raw id of a key of the counts of a mask that has planes."""
    return divmod(key, _PLANE)


def _of_all_planes(counts: Mapping[int, int], planes: int | None) -> Mapping[int, int]:
    if planes is None:
        return counts
    total: Counter[int] = Counter()
    for key, number in counts.items():
        total[plane_and_id(key)[1]] += number
    return total


def summary_of_sample(dataset: Any, index: int, planes: int | None = None) -> MaskSummary:
    """Returns what the mask of a sample holds.

    Args:
        dataset: the dataset.
        index: number of the sample.
        planes: number of planes K of its mask in a multilabel task, else None.

    Raises:
        InvalidArgumentError: if the sample is no pair of image and mask, or has no mask.
        UserError: what the dataset raises.
    """
    # the dataset may draw random numbers; the generators of the caller must not advance
    with isolated_randomness(sample_seed(0, 0, index, DATASET_STREAM)):
        sample = dataset[index]
    mask = pair_of(sample, sample_name(dataset, index))[1]
    if mask is None:
        raise InvalidArgumentError(f"{sample_name(dataset, index)} has no mask; choose a split that has masks")
    ids = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
    # as the transforms of training take them
    ids = ids[0] if planes is None and ids.ndim == 3 and len(ids) == 1 else ids
    ids = ids.astype(np.uint8) if ids.dtype == np.bool_ else ids
    return _summarize(ids, f"of {sample_name(dataset, index)}", planes)


def pair_of(sample: Any, name: str) -> tuple[Any, Any]:
    """Returns image and mask of a sample.

    Raises:
        InvalidArgumentError: if the sample is not a pair.
    """
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return sample[0], sample[1]
    keys = f" with the keys {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else ""
    length = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
    raise InvalidArgumentError(
        f"{name} is a {type(sample).__name__}{length}{keys}; the dataset must return the pair (image, mask)"
    )


def files_of(dataset: Any) -> Sequence[MaskFile] | None:
    """Returns the mask files of a dataset, or None if its masks are more than files."""
    # asked of the class: an object that hands on the attributes of another dataset may return other masks than that
    if not hasattr(type(dataset), "mask_file"):
        return None
    files = [dataset.mask_file(index) for index in range(len(dataset))]
    if not files or None in files:
        return None
    if wrong := next((file for file in files if not isinstance(file, MaskFile)), None):
        raise InvalidArgumentError(
            f"mask_file of {type(dataset).__name__} must return a seg_core.files.scan.MaskFile or None, got {wrong!r}"
        )
    return files


def _summarize(ids: npt.NDArray[Any], name: str, planes: int | None = None) -> MaskSummary:
    if planes is not None:
        if ids.ndim != 3 or len(ids) != planes or ids.dtype.kind not in "ui":
            raise InvalidArgumentError(
                f"mask {name} has shape {ids.shape} and holds {ids.dtype}; a mask of a multilabel task is ({planes}, "
                "H, W) of integers, a plane of 0 and 1 per class"
            )
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < _PLANE:
            raise InvalidArgumentError(
                f"mask {name} holds values from {ids.min()} to {ids.max()}; a mask of a multilabel task holds 0, 1 and "
                "the ignored value"
            )
        found = {
            place * _PLANE + raw: number
            for place, plane in enumerate(ids)
            for raw, number in _summarize(plane, name).counts.items()
        }
        return MaskSummary(ids.shape[1], ids.shape[2], found)
    if ids.ndim != 2 or ids.dtype.kind not in "ui":
        raise InvalidArgumentError(
            f"mask {name} has shape {ids.shape} and holds {ids.dtype}; a mask is (H, W) of integer ids: convert it, as "
            "with mask.to(torch.uint8)"
        )
    if ids.dtype == np.uint8 and ids.size:
        # several times faster than numpy's functions, which widen every value to 64 bits
        counts = np.array(Image.fromarray(np.ascontiguousarray(ids)).histogram())
    elif ids.dtype == np.uint16:
        counts = np.zeros(2**16, np.int64)
        for top in range(0, len(ids), _STRIP):  # in strips, since the widened copy of a large mask would not fit
            counts += np.bincount(ids[top : top + _STRIP].ravel(), minlength=2**16)
    else:
        values, amounts = np.unique(ids, return_counts=True)
        return MaskSummary(ids.shape[0], ids.shape[1], dict(zip(values.tolist(), amounts.tolist(), strict=True)))
    held = np.flatnonzero(counts)
    return MaskSummary(ids.shape[0], ids.shape[1], dict(zip(held.tolist(), counts[held].tolist(), strict=True)))


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
