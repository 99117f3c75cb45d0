"""Checks the masks before the first step: ids that are no class, classes that never occur, nothing to learn.

The main process scans the masks, and the other processes of the run wait for what it found.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from seg_core.errors import ConfigError, LabelOutOfRangeError
from seg_core.files.scan import DatasetScan, scan_dataset
from seg_core.files.scan_findings import Finding, describe_scan, find_problems
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.raw_ids import label_map_line
from seg_core.progress import Progress
from seg_core.registry import DATASETS
from seg_core.spec import takes
from seg_train.config.schema import DataSection

__all__ = ["MaskCheck", "find_mask_problems"]

_Result = TypeVar("_Result")


def find_mask_problems(
    dataset: SegmentationDataset,
    name: str,
    split: str,
    progress: Progress,
    *,
    check: str = "auto",
    use: str = "learned",
    key: str = "data.dataset.params",
    other: DatasetScan | None = None,
) -> tuple[DatasetScan, list[Finding]]:
    """Returns the scan of a split, and what is wrong with its masks, with what to do.

    Args:
        dataset: the split.
        name: registered name of the dataset.
        split: name of the split, for messages.
        progress: shows the scan.
        check: which masks are read, as `data.check`.
        use: what the masks are for, `"learned"` or `"scored"`.
        key: where the options of the dataset are set.
        other: scan of another split of this dataset.

    Raises:
        UserError: if a mask cannot be read.
    """
    scan = _scan(dataset, check, progress)
    found = find_problems(scan, dataset.metadata, use, other)
    if not scan.is_complete and not scan.wrong_ids and any(finding.is_error for finding in found):
        scan = _scan(dataset, "full", progress)  # the other masks may show that all is well
        found = find_problems(scan, dataset.metadata, use, other)
    return scan, [replace(f, text=f"{split}: {f.text}{_advice(f, dataset, name, key)}") for f in found]


def _scan(dataset: SegmentationDataset, check: str, progress: Progress) -> DatasetScan:
    try:
        return scan_dataset(dataset, check, progress=functools.partial(progress.part, "scanning"))
    finally:
        progress.close()


def _advice(finding: Finding, dataset: SegmentationDataset, name: str, key: str) -> str:
    if finding.label_map is None:
        return ""
    line = label_map_line(finding.label_map)
    if takes(DATASETS.get(name), "label_map"):
        return f". If the ids are meant so, add to {key}: {line} (or set -s '{key}.{line}')"
    if hasattr(dataset, "mask_file"):
        return ""  # an official dataset, whose ids are known
    return f". If the ids are meant so, convert the masks in the dataset, with {finding.label_map!r} of seg_core"


@dataclass(frozen=True)
class MaskCheck:
    """Scans the masks of a run.

    Attributes:
        section: `[data]` of the config.
        accelerator: of the run.
        progress: shows the scan and its warnings.
    """

    section: DataSection
    accelerator: Accelerator
    progress: Progress

    def check(self, train_set: SegmentationDataset, val_set: SegmentationDataset) -> DatasetScan | None:
        """Checks the masks of both splits; returns the scan of the training masks, or None if they are not scanned.

        Raises:
            LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
            ConfigError: if nothing can be learned: all training pixels are ignored, or belong to one of two classes.
            UserError: if a mask cannot be read.
        """
        if self.section.check == "off":
            return None
        names = self.section.dataset
        scan = self._checked(names.train_split, train_set, is_train=True)
        # of another dataset the ids say nothing about these
        same = scan if type(train_set) is type(val_set) else None
        self._checked(names.val_split, val_set, is_train=False, other=same)
        return scan

    def scan_all(self, dataset: SegmentationDataset) -> DatasetScan:
        """Returns the scan of all masks of a dataset.

        Raises:
            LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
            UserError: if a mask cannot be read.
        """
        self.progress.message(f"counting the pixels of each class in {len(dataset)} masks")
        scan = self._on_main(functools.partial(_scan, dataset, "full", self.progress))
        scan.check_ids()
        return scan

    def _checked(
        self, split: str, dataset: SegmentationDataset, *, is_train: bool, other: DatasetScan | None = None
    ) -> DatasetScan | None:
        """Returns the scan of a split after its problems were raised or shown; None if there is nothing to scan."""
        if getattr(dataset, "generated", False):
            return None
        return self._on_main(functools.partial(self._check, split, dataset, is_train, other))

    def _check(
        self, split: str, dataset: SegmentationDataset, is_train: bool, other: DatasetScan | None
    ) -> DatasetScan:
        use = "learned" if is_train else "scored"
        name, check = self.section.dataset.name, self.section.check
        scan, found = find_mask_problems(dataset, name, split, self.progress, check=check, use=use, other=other)
        self.progress.message(f"{split}: {describe_scan(scan)}")
        for finding in found:
            if scan.wrong_ids:
                raise LabelOutOfRangeError(finding.text)
            if finding.is_error and is_train:
                raise ConfigError(finding.text)
            if finding.is_error or is_train:
                self.progress.warn(finding.text)
            else:
                self.progress.message(finding.text)
        return scan

    def _on_main(self, action: Callable[[], _Result]) -> _Result:
        """Returns the result of the main process, or raises its error, in every process."""
        result: Any = None
        error: Exception | None = None
        if self.accelerator.is_main_process:
            try:
                result = action()
            except Exception as raised:  # the other processes must not wait for it
                if self.accelerator.num_processes == 1:
                    raise
                error = raised
        if self.accelerator.num_processes > 1:
            result, error = broadcast_object_list([result, error])
        if error is not None:
            raise error
        return result
