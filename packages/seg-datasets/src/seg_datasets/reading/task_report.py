"""What masks of a binary or multilabel task hold, for a report on a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg_core.files.mask_sources import OnProgress
from seg_core.files.scan import MaskSummary, scan_dataset
from seg_core.files.scan_findings import find_problems
from seg_core.labels.label_map import LabelMap

__all__ = ["TaskFindings", "look_at_task"]


@dataclass(frozen=True)
class TaskFindings:
    """What the masks of some splits hold.

    Attributes:
        shares: 0, 1 and the ignored value -> fraction of the pixels, of all planes.
        fits: whether the masks can be learned, with `label_map` if there is one.
        label_map: the map that probably reads them, or None.
        odd: sentences about what is odd.
        summaries: mask -> its size, without its ids.
    """

    shares: Mapping[int, float]
    fits: bool
    label_map: LabelMap | None
    odd: Sequence[str]
    summaries: Mapping[str, MaskSummary]


def look_at_task(datasets: Sequence[Any], progress: OnProgress | None) -> TaskFindings:
    """Returns what the masks of open splits hold.

    Args:
        datasets: the splits, at least one.
        progress: called with the number of masks read and their total.

    Raises:
        UserError: if a mask cannot be read.
    """
    metadata = datasets[0].metadata
    counts = dict.fromkeys((0, 1, metadata.ignore_index), 0)
    odd, summaries, fits = [], dict[str, MaskSummary](), True
    label_map: LabelMap | None = None
    scans = [scan_dataset(dataset, progress=progress) for dataset in datasets]
    for dataset, scan in zip(datasets, scans, strict=True):
        assert scan.background is not None
        counts[0] += int(scan.background.sum())
        counts[1] += int(scan.pixels.sum())
        counts[metadata.ignore_index] += int(scan.ignored.sum())
        for index, (height, width) in zip(scan.indices, scan.sizes.tolist(), strict=True):
            summaries[dataset.file_names(index)[-1]] = MaskSummary(height, width, {})
        for problem in find_problems(scan, metadata):
            mends = problem.is_error and problem.label_map is not None
            label_map = problem.label_map if mends else label_map
            fits = fits and (mends or not problem.is_error)
            odd.append(f"{dataset.split}: {problem.text}" + "; the label map is a guess, check it" * mends)
    total = max(sum(counts.values()), 1)
    shares = {raw: number / total for raw, number in counts.items() if number}
    return TaskFindings(shares, fits, label_map, tuple(dict.fromkeys(odd)), summaries)
