"""Checks the files of a run before the first step: what the dataset finds wrong with them, without decoding images."""

import functools
from dataclasses import dataclass
from typing import Any

from seg_core.errors import CorruptFileError, counted
from seg_core.files.file_faults import FileReport
from seg_core.files.scan import DatasetScan
from seg_core.interfaces import SegmentationDataset
from seg_core.progress import Progress

__all__ = ["FileCheck"]


@dataclass
class FileCheck:
    """Asks datasets what is wrong with their files.

    Attributes:
        check: which images are looked at, as `data.check`.
        progress: shows the check and its warnings.
        read: split -> what was found.
    """

    check: str
    progress: Progress

    def __post_init__(self) -> None:
        self.read: dict[str, FileReport] = {}

    def __call__(
        self, dataset: SegmentationDataset, split: str, scan: DatasetScan | None, apart_from: str | None
    ) -> None:
        """Checks the files of a split; nothing if the dataset cannot tell.

        Args:
            dataset: the split.
            split: its name.
            scan: scan of its masks, None if one cannot be read.
            apart_from: name of a split, checked before, that must share no image with it.

        Raises:
            CorruptFileError: if files cannot be read, or nothing can be learned from them as they are.
        """
        # asked of the class: an object that hands on the attributes of another dataset may have other files
        if not hasattr(type(dataset), "file_faults"):
            return
        own: Any = dataset
        before = None if apart_from is None else self.read.get(apart_from)
        try:
            report: FileReport | None = own.file_faults(
                self.check,
                split=split,
                scan=scan,
                other=None if before is None else before.contents,
                progress=functools.partial(self.progress.part, "checking files"),
            )
        finally:
            self.progress.close()
        if report is None:
            return
        self.read[split] = report
        rest = f"\n{report.rest} reads all files and lists everything" if report.rest else ""
        if errors := [fault.text for fault in report.faults if fault.is_error]:
            raise CorruptFileError(f"{split}: files are wrong:\n" + "\n".join(errors) + rest)
        for fault in report.faults:
            self.progress.warn(f"{split}: {fault.text}")

    def describe(self) -> str:
        """Returns a line about what was looked at, and what reads the rest; "" if nothing was."""
        if not self.read:
            return ""
        seen, total = (sum(getattr(r, name) for r in self.read.values()) for name in ("num_images", "total"))
        which = counted(total, "image") if seen == total else f"{seen} of {counted(total, 'image')}"
        rest = next((f"; {r.rest} decodes them, and finds more" for r in self.read.values() if r.rest), "")
        return f"files: the headers of {which} were read{rest}"
