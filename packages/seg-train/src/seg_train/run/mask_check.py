"""Checks the data before the first step: ids that are no class, classes that never occur, files that are wrong.

The main process scans masks and files, and the other processes of the run wait for what it found.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from accelerate import Accelerator

from seg_core.errors import ConfigError, CorruptFileError, LabelOutOfRangeError
from seg_core.files.scan import DatasetScan, scan_dataset
from seg_core.files.scan_findings import Finding, describe_scan, find_problems
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.raw_ids import label_map_line
from seg_core.model_files.build_spec import OBJECT
from seg_core.progress import Progress
from seg_core.registry import DATASETS
from seg_core.spec import takes
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.schema import TrainConfig
from seg_train.run.file_check import FileCheck
from seg_train.run.together import on_main

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
    num_workers: int = 0,
    key: str = "data.dataset.params",
    other: DatasetScan | None = None,
) -> tuple[DatasetScan, list[Finding]]:
    """Returns the scan of a split, and what is wrong with its masks, with what to do.

    Args:
        dataset: the split.
        name: registered name of the dataset, or `"object"`.
        split: name of the split, for messages.
        progress: shows the scan.
        check: which masks are read, as `data.check`.
        use: what the masks are for, `"learned"` or `"scored"`.
        num_workers: number of processes that read samples, if the masks are not files.
        key: where the options of the dataset are set.
        other: scan of another split of this dataset.

    Raises:
        UserError: if a mask cannot be read.
    """
    scan = _scan(dataset, check, progress, num_workers)
    found = find_problems(scan, dataset.metadata, use, other)
    if not scan.is_complete and not scan.wrong_ids and any(finding.is_error for finding in found):
        scan = _scan(dataset, "full", progress, num_workers)  # the other masks may show that all is well
        found = find_problems(scan, dataset.metadata, use, other)
    return scan, [replace(f, text=f"{split}: {f.text}{_advice(f, dataset, name, key)}") for f in found]


def _scan(dataset: SegmentationDataset, check: str, progress: Progress, num_workers: int) -> DatasetScan:
    try:
        report = functools.partial(progress.part, "scanning")
        return scan_dataset(dataset, check, num_workers=num_workers, progress=report)
    finally:
        progress.close()


def _advice(finding: Finding, dataset: SegmentationDataset, name: str, key: str) -> str:
    if finding.label_map is None:
        return ""
    line = label_map_line(finding.label_map)
    meant = "the ids are meant so"
    if finding.kind == "binary-0-255":
        meant = f"{dataset.metadata.ignore_index} is {finding.label or 'the object'}"
    if name != OBJECT and takes(DATASETS.get(name), "label_map"):
        return f". If {meant}, add to {key}: {line} (or set -s '{key}.{line}')"
    if hasattr(type(dataset), "mask_file"):
        return ""  # an official dataset, whose ids are known
    return f". If {meant}, convert the masks in the dataset, with {finding.label_map!r} of seg_core"


@dataclass(frozen=True)
class MaskCheck:
    """Scans the masks of a run.

    Attributes:
        config: of the run.
        accelerator: of the run.
        progress: shows the scan and its warnings.
    """

    config: TrainConfig
    accelerator: Accelerator
    progress: Progress

    def check(
        self, train_set: SegmentationDataset, val_set: SegmentationDataset, *, resumed: bool
    ) -> DatasetScan | None:
        """Checks masks and files of both splits; returns the scan of the training masks, or None if there is none.

        Args:
            train_set: dataset to train on.
            val_set: dataset to evaluate on.
            resumed: whether the run is resumed; then masks that are not files were checked before, and nobody has to
                wait for them again.

        Raises:
            LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
            ConfigError: if nothing can be learned, as all training pixels are ignored or of one class; if scores would
                be wrong, as the objects of the validation masks are ignored; or images of different sizes cannot share
                a batch.
            CorruptFileError: if files cannot be read, do not fit each other, or are in both splits.
            UserError: if a mask cannot be read.
        """
        if self.config.data.check == "off":
            return None
        names = self.config.data.dataset
        scans: list[DatasetScan | None] = []
        files = FileCheck(self.config.data.check, self.progress)
        for split, dataset, is_train in ((names.train_split, train_set, True), (names.val_split, val_set, False)):
            skipped = getattr(dataset, "generated", False) or (resumed and not hasattr(type(dataset), "mask_file"))
            # of another dataset the ids say nothing about these
            other = None if is_train or type(train_set) is not type(val_set) else scans[0]
            # a run that scores what it learns from means to
            apart_from = None if is_train or names.train_split == names.val_split else names.train_split
            action = functools.partial(self._check, split, dataset, is_train, other, files, apart_from)
            scans.append(None if skipped else self._on_main(action))
        if self.accelerator.is_main_process and (text := files.describe()):
            self.progress.message(text)
        if scans[0] is not None:
            self._check_sizes(scans[0])
        return scans[0]

    def check_weights(self, scan: DatasetScan, weights: Sequence[float], labels: Sequence[str]) -> None:
        """Checks that a class with a weight above 0 occurs.

        Raises:
            ConfigError: if there is none.
        """
        occurs = [pixels > 0 for pixels in scan.pixels.sum(0).tolist()]
        if scan.is_complete and not any(w > 0 and here for w, here in zip(weights, occurs, strict=True)):
            weighted = ", ".join(label for label, weight in zip(labels, weights, strict=True) if weight > 0)
            raise ConfigError(
                f"criterion.class_weights: the classes with a weight above 0 ({weighted}) occur in no training mask, "
                "so the loss is always 0; give a class that occurs a weight"
            )

    def _check_sizes(self, scan: DatasetScan) -> None:
        section, trainer = self.config.data.transform.train, self.config.trainer
        own = self.config.data.loader.batch_size // (self.accelerator.num_processes * trainer.accumulation_steps)
        if section.size is not None or own < 2:
            return
        resize = {} if section.resize is None else section.resize.model_dump(exclude_none=True)
        preprocessing = Preprocessing().with_resize(resize)
        sizes = sorted({preprocessing.size_of(height, width) for height, width in scan.sizes.tolist()})
        if len(sizes) > 1:
            shown = " and ".join(f"{height}x{width}" for height, width in (sizes[0], sizes[-1]))
            raise ConfigError(
                f"training images have different sizes (height x width {shown}) and cannot share a batch of {own}; "
                "set data.transform.train.size, the size of the random crop, or data.transform.train.resize = {size = "
                "[height, width]}, or data.loader.batch_size = 1"
            )

    def scan_all(self, dataset: SegmentationDataset) -> DatasetScan:
        """Returns the scan of all masks of a dataset.

        Raises:
            LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
            UserError: if a mask cannot be read.
        """
        self.progress.message(f"counting the pixels of each class in {len(dataset)} masks")
        scan = self._on_main(
            functools.partial(_scan, dataset, "full", self.progress, self.config.data.loader.num_workers)
        )
        scan.check_ids()
        return scan

    def _check(
        self,
        split: str,
        dataset: SegmentationDataset,
        is_train: bool,
        other: DatasetScan | None,
        files: FileCheck,
        apart_from: str | None,
    ) -> DatasetScan:
        use = "learned" if is_train else "scored"
        name, check = self.config.data.dataset.name, self.config.data.check
        try:
            scan, found = find_mask_problems(
                dataset,
                name,
                split,
                self.progress,
                check=check,
                use=use,
                num_workers=self.config.data.loader.num_workers,
                other=other,
            )
        except CorruptFileError:
            files(dataset, split, None, apart_from)  # tells of all files, if it can
            raise
        self.progress.message(f"{split}: {describe_scan(scan)}")
        for finding in found:
            if scan.wrong_ids:
                raise LabelOutOfRangeError(finding.text)
            if finding.is_error and (is_train or finding.spoils_scores):
                raise ConfigError(finding.text)
            if finding.is_error or is_train or finding.kind == "binary-0-255":
                self.progress.warn(finding.text)
            else:
                self.progress.message(finding.text)
        files(dataset, split, scan, apart_from)
        return scan

    def _on_main(self, action: Callable[[], _Result]) -> _Result:
        return on_main(self.accelerator, action)
