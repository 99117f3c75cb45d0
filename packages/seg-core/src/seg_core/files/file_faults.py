"""What is wrong with the files of a dataset before anything is learned from them, as the dataset itself tells it.

A dataset of pairs of files has a method `file_faults`, as it has `mask_file` and `image_file`; those of `seg_datasets`
do, and a dataset of your own may. It is asked of the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from seg_core.files.mask_sources import OnProgress
from seg_core.files.scan import DatasetScan

__all__ = ["FileFault", "FileReport", "ImageContents", "TellsFileFaults"]


@dataclass(frozen=True)
class FileFault:
    """Files of a dataset that are wrong in the same way.

    Attributes:
        kind: name of what is wrong, such as `"size-mismatch"`.
        is_error: whether the files cannot be read, or something else is learned from them than was meant.
        files: the files, as the text shows them.
        text: lines that name the files, what is wrong and what to do.
    """

    kind: str
    is_error: bool
    files: Sequence[str]
    text: str


@dataclass(frozen=True, eq=False)
class ImageContents:
    """What tells the images of a split apart.

    Attributes:
        split: name of the split.
        paths: n images that can be read.
        hashes: uint64 (n,), hash of the content of each file, or of a part of it.
    """

    split: str
    paths: Sequence[str]
    hashes: npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class FileReport:
    """What was found.

    Attributes:
        faults: what is wrong, errors first.
        contents: the images whose headers were read, for the check of another split.
        num_images: their number, with those that cannot be read.
        total: number of images of the dataset.
        rest: command that reads everything in the files, or "" if there is none.
    """

    faults: Sequence[FileFault]
    contents: ImageContents
    num_images: int
    total: int
    rest: str = ""


@runtime_checkable
class TellsFileFaults(Protocol):
    """A dataset of pairs of files that tells what is wrong with them."""

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
        """Returns what is wrong with the files, or None if the samples are more than files.

        Args:
            check: which images are looked at, one of `seg_core.files.scan.CHECKS`.
            split: name of the split, for sentences.
            scan: scan of the masks; None if a mask cannot be read, and the method finds out which.
            other: the images of a split that must share no image with this one.
            progress: called with the number of files read and their total.
            indices: the samples that count, of a subset; None for all.
        """
