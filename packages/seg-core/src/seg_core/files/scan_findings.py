"""What a scan of masks shows to be wrong or odd, in sentences: for the check before a run, and reports on a dataset."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seg_core.errors import counted, id_ranges
from seg_core.files.scan import DatasetScan
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import find_ids_fault, mixed_map, mixed_masks
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL

__all__ = ["Finding", "describe_scan", "find_problems"]

_FEW_CLASSES = 10
_MOST_NAMED = 5  # classes
_MOST_RANGES = 20  # of ids


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd about the masks of a split.

    Attributes:
        text: sentence without a full stop.
        is_error: whether a network that is trained on these masks learns something else than was meant, or nothing.
        label_map: the map that probably mends it, or None.
        kind: as `IdsFault.kind` of `seg_core.labels.raw_ids`.
    """

    text: str
    is_error: bool
    label_map: LabelMap | None = None
    kind: str = "id-out-of-range"


def find_problems(
    scan: DatasetScan, metadata: DatasetMetadata, use: str = "learned", other: DatasetScan | None = None
) -> list[Finding]:
    """Returns what is wrong with the masks of a split.

    Args:
        scan: scan of the masks.
        metadata: classes of the dataset.
        use: what cannot be done then, `"learned"` or `"scored"`, for the sentences.
        other: scan of another split, read in the same way, whose ids a label map must keep.
    """
    ids = {raw for found in scan.raw_ids.values() for raw in found} | set(scan.wrong_ids)
    as_stored = all(found == {metadata.ignore_index if t is None else t} for t, found in scan.raw_ids.items())
    fault = None
    if as_stored and ids and min(ids) >= 0:
        fault = find_ids_fault(ids, metadata.num_classes, metadata.ignore_index, scan.task)
    suggested, kind = (None, "id-out-of-range") if fault is None else (fault.label_map, fault.kind)
    masks = _masks(scan)
    if scan.wrong_ids:
        text = f"{scan.problem}. The ids in {masks} are {_ranges(ids)}, and the dataset has {_classes(metadata)}"
        if scan.task != MULTICLASS:
            if scan.task == BINARY and suggested is None and min(scan.wrong_ids) >= 0:
                text += "; masks with smoothed or JPEG-coded edges are read by FolderDataset with threshold = 128"
            return [Finding(text, True, suggested, kind)]
        if suggested is not None and suggested.mapping.get(0) is not None and 0 in ids and metadata.num_classes in ids:
            text += f"; either 0 has no class, or {metadata.num_classes} has none, or one label is missing"
        return [Finding(text, True, suggested or _completed(scan, metadata, other), kind)]
    present = [pixels > 0 for pixels in scan.pixels.sum(0).tolist()]
    if scan.background is not None and (any(present) or scan.background.any()):
        return _of_planes(scan, metadata, use, other, suggested, kind) or (_mixed(scan, metadata) if as_stored else [])
    if not any(present):
        text = f"all pixels of {masks} are ignored (ids {_ranges(ids)}), so nothing can be {use}"
        return [Finding(text, True, kind="all-ignored")]
    absent = [label for label, found in zip(metadata.labels, present, strict=True) if not found]
    if not absent:
        return _mixed(scan, metadata) if as_stored and metadata.num_classes == 2 else []
    if suggested is not None:
        label, remaining = absent[0], metadata.labels[present.index(True)]
        text = (
            f"class {metadata.labels.index(label)} ({label}) occurs in none of {masks}, and {_ranges(ids)} are the "
            f"only ids: every pixel is {remaining} or ignored, so {label} cannot be {use}"
        )
        if other is not None and present == [True, False] and other.raw_ids.get(1) == frozenset({1}):
            text += f"; in the other split ({_masks(other)}) {label} is 1"
            suggested = mixed_map(metadata.ignore_index)
        return [Finding(text, True, suggested, kind)]
    if sum(present) == 1 and scan.ignored.any():
        only = present.index(True)
        text = (
            f"class {only} ({metadata.labels[only]}) is the only one in {masks}, and all other pixels are ignored (ids "
            f"{_ranges(ids)}), so nothing can be {use}"
        )
        return [Finding(text, True, kind="class-absent" if fault is None else kind)]
    text = f"{_named(metadata, absent)} in none of {masks}; {'it' if len(absent) == 1 else 'they'} cannot be {use}"
    # with many classes the last one is rather rare than stored as the ignored value
    if scan.ignored.any() and len(ids) == metadata.num_classes <= _FEW_CLASSES and len(absent) == 1:
        raw = _ranges(scan.raw_ids[None])
        text += f". If id {raw}, which is ignored, stands for {absent[0]}, map it to {metadata.labels.index(absent[0])}"
    return [Finding(text, False, kind="class-absent")]


def describe_scan(scan: DatasetScan) -> str:
    """Returns one line about the masks: how many, their ids, sizes and the share of ignored pixels."""
    ids = {raw for found in scan.raw_ids.values() for raw in found} | set(scan.wrong_ids)
    pixels = int(scan.sizes.prod(1).sum()) * (scan.pixels.shape[1] if scan.task == MULTILABEL else 1)
    share = scan.ignored.sum() / max(pixels, 1)
    low, high = scan.sizes.min(0), scan.sizes.max(0)
    size = f"{low[1]}x{low[0]}" + ("" if (low == high).all() else f" to {high[1]}x{high[0]}")
    labeled = scan.pixels.sum(1) + (0 if scan.background is None else scan.background.sum(1))
    whole = int((labeled == 0).sum())
    return f"{_masks(scan)}: {size} pixels (width x height), ids {_ranges(ids)}, {share:.1%} of the pixels ignored" + (
        f", {whole} wholly" if whole else ""
    )


def _of_planes(
    scan: DatasetScan,
    metadata: DatasetMetadata,
    use: str,
    other: DatasetScan | None,
    suggested: LabelMap | None,
    kind: str,
) -> list[Finding]:
    """Returns what is wrong with masks of 0 and 1 some of which are not ignored."""
    masks, background = _masks(scan), scan.background
    assert background is not None
    found, outside = scan.pixels.sum(0) > 0, background.sum(0) > 0
    if not found.any() and suggested is not None:
        what = metadata.labels[0] if scan.task == BINARY else "each class"
        text = (
            f"{what} is 1 in masks of a {scan.task} task, and 1 occurs in none of {masks}: "
            f"{_ranges({raw for ids in scan.raw_ids.values() for raw in ids})} are the only values, so every pixel is "
            f"background or ignored, and {'it' if scan.task == BINARY else 'nothing'} can"
            f"{'not' * (scan.task == BINARY)} be {use}"
        )
        if other is not None and other.raw_ids.get(1) == frozenset({1}):
            text += f"; in the other split ({_masks(other)}) the value is 1"
            suggested = mixed_map(metadata.ignore_index)
        return [Finding(text, True, suggested, kind)]
    findings = []
    if absent := [label for label, is_there in zip(metadata.labels, found, strict=True) if not is_there]:
        text = f"{_named(metadata, absent)} in none of {masks}; {'it' if len(absent) == 1 else 'they'} cannot be {use}"
        findings.append(Finding(text, False, kind="class-absent"))
    everywhere = [
        label for label, inside, out in zip(metadata.labels, found, outside, strict=True) if inside and not out
    ]
    for label in everywhere[:_MOST_NAMED]:
        text = f"every pixel of {masks} that is not ignored is {label} (1), so where it is not cannot be {use}"
        findings.append(Finding(text, False, kind="class-absent"))
    return findings


def _mixed(scan: DatasetScan, metadata: DatasetMetadata) -> list[Finding]:
    """Returns the finding about masks that store the object in two ways."""
    if scan.task == MULTILABEL:
        return []
    ignored, counts = metadata.ignore_index, scan.pixels
    if scan.background is not None:
        counts = np.concatenate([scan.background, scan.pixels], 1)
    held = zip(counts.tolist(), scan.ignored.tolist(), strict=True)
    ids = [{*(i for i in (0, 1) if pixels[i]), *([ignored] if missing else [])} for pixels, missing in held]
    found = mixed_masks(ids, ignored)
    if found is None:
        return []
    ones, others = found
    text = (
        f"{metadata.labels[-1]} is 1 in {counted(len(ones), 'mask')} without {ignored} (the first is mask "
        f"{scan.names[ones[0]]}), and there is no 1 but {ignored} in {len(others)} (the first is mask "
        f"{scan.names[others[0]]}): if {ignored} is {metadata.labels[-1]} in these, its pixels are now ignored"
    )
    return [Finding(text, False, mixed_map(ignored), "binary-0-255")]


def _completed(scan: DatasetScan, metadata: DatasetMetadata, other: DatasetScan | None) -> LabelMap | None:
    """Returns the map of another split with the class ids that it lacks, or None if others are wrong, too."""
    if other is None or max(scan.wrong_ids) >= metadata.num_classes or min(scan.wrong_ids) < 0:
        return None
    found = [(raw, target) for part in (other, scan) for target, ids in part.raw_ids.items() for raw in sorted(ids)]
    table = {raw: IGNORE if target is None else target for raw, target in found} | {raw: raw for raw in scan.wrong_ids}
    return LabelMap(dict(sorted(table.items())), ignore_index=metadata.ignore_index)


def _masks(scan: DatasetScan) -> str:
    count = len(scan.indices)
    return counted(count, "mask") if scan.is_complete else f"{count} of {counted(scan.total, 'mask')}"


def _ranges(ids: Iterable[int]) -> str:
    return id_ranges(ids, _MOST_RANGES)


def _classes(metadata: DatasetMetadata) -> str:
    if metadata.task != MULTICLASS:
        what = metadata.labels[0] if metadata.task == BINARY else "the class of the plane"
        return f"a {metadata.task} task: 0 is the background, 1 {what}, and {metadata.ignore_index} is ignored"
    count = metadata.num_classes
    which = f"0 to {count - 1}" if count > 1 else "0"
    return f"{counted(count, 'class', 'classes')}, {which}, and the ignored value {metadata.ignore_index}"


def _named(metadata: DatasetMetadata, labels: list[str]) -> str:
    numbered = [f"{metadata.labels.index(label)} ({label})" for label in labels[:_MOST_NAMED]]
    if len(labels) == 1:
        return f"class {numbered[0]} occurs"
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return (
        f"{len(labels)} classes, {', '.join(numbered)}{more} occur" if more else f"classes {', '.join(numbered)} occur"
    )
