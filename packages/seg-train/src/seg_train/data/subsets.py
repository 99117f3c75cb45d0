"""Subsets of a dataset, as torch makes them: with the classes and the file names of the whole."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Subset

from seg_core.files.file_faults import FileReport, ImageContents, TellsFileFaults
from seg_core.files.mask_sources import OnProgress
from seg_core.files.scan import DatasetScan, MaskFile
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.metadata import DatasetMetadata

__all__ = ["described"]


def described(dataset: Any) -> SegmentationDataset:
    """Returns a dataset, or for a `Subset` of torch (also by `random_split`) one with what the whole knows of itself.

    Args:
        dataset: any dataset; a subset of one without `metadata` is returned as it is.
    """
    if not isinstance(dataset, Subset):
        own: SegmentationDataset = dataset  # what it lacks is told by the trainer
        return own
    whole = described(dataset.dataset)
    if not hasattr(whole, "metadata") or not hasattr(whole, "file_names"):
        return dataset  # type: ignore[return-value]  # as above
    if not hasattr(type(whole), "mask_file"):
        return _Subset(whole, dataset)
    return (_SubsetOfPairs if issubclass(type(whole), TellsFileFaults) else _SubsetOfFiles)(whole, dataset)


class _Subset:
    """A subset with the metadata and the names of files of the whole."""

    def __init__(self, whole: Any, subset: "Subset[Any]") -> None:
        self.metadata: DatasetMetadata = whole.metadata
        self.root = getattr(whole, "root", None)
        self.split = getattr(whole, "split", "")
        self._whole = whole
        self._subset = subset

    def __len__(self) -> int:
        return len(self._subset)

    def __getitem__(self, index: int) -> Any:
        return self._subset[index]

    def file_names(self, index: int) -> tuple[str, ...]:
        """Returns the names of the files of a sample."""
        names: tuple[str, ...] = self._whole.file_names(self._subset.indices[index])
        return names

    def can_read_windows(self, index: int) -> bool:
        """Returns whether parts of a sample can be read without the rest, as the whole says."""
        ask = getattr(self._whole, "can_read_windows", None)
        return ask is not None and bool(ask(self._subset.indices[index]))

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of the image of a sample whose parts can be read."""
        size: tuple[int, int] = self._whole.image_size(self._subset.indices[index])
        return size

    def read_window(self, index: int, top: int, left: int, height: int, width: int) -> Any:
        """Returns image and mask of a part of a sample."""
        return self._whole.read_window(self._subset.indices[index], top, left, height, width)


class _SubsetOfFiles(_Subset):
    """A subset whose masks are files."""

    def mask_file(self, index: int) -> MaskFile | None:
        """Returns the mask file of a sample, as the whole does."""
        file: MaskFile | None = self._whole.mask_file(self._subset.indices[index])
        return file


class _SubsetOfPairs(_SubsetOfFiles):
    """A subset of a dataset that tells what is wrong with its files."""

    def file_faults(
        self,
        check: str,
        *,
        split: str,
        scan: DatasetScan | None,
        other: ImageContents | None = None,
        progress: OnProgress | None = None,
        indices: Sequence[int] | None = None,
    ) -> FileReport | None:
        """Returns what is wrong with the files of the subset, as the whole does."""
        own = self._subset.indices if indices is None else [self._subset.indices[index] for index in indices]
        whole: TellsFileFaults = self._whole
        return whole.file_faults(check, split=split, scan=scan, other=other, progress=progress, indices=own)
