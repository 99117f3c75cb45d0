"""What a scan of masks shows to be wrong or odd, in sentences: for the check before a run, and reports on a dataset."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seg_core.errors import counted, id_ranges
from seg_core.files.scan import DatasetScan
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import find_ids_fault, find_plane_faults, mixed_map, mixed_masks
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
        label: the class, if it is about one plane of a multilabel task, else "".
    """

    text: str
    is_error: bool
    label_map: LabelMap | None = None
    kind: str = "id-out-of-range"
    label: str = ""

    @property
    def spoils_scores(self) -> bool:
        """Whether scores on these masks are wrong or undefined, as the pixels to be found are ignored."""
        return self.is_error and (self.label_map is not None or self.kind == "all-ignored")


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
        stored = _stored_otherwise(scan, metadata, use) if as_stored and suggested is None else []
        return [*stored, *_of_planes(scan, metadata, use, other, suggested, kind, stored)]
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
    text = f"{_named(metadata, absent)} in none of {masks}; {_they(absent)} cannot be {use}"
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
    stored: list[Finding],
) -> list[Finding]:
    """Returns what is wrong with masks of 0 and 1 some of which are not ignored, beside what is stored otherwise."""
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
    told = {finding.label for finding in stored}
    labels = [label for label in metadata.labels if label not in told]
    where = [metadata.labels.index(label) for label in labels]
    unknown = [label for place, label in zip(where, labels, strict=True) if not found[place] and not outside[place]]
    if unknown:
        text = f"all pixels of {_named(metadata, unknown, '')} are ignored in {masks}; {_they(unknown)} cannot be {use}"
        findings.append(Finding(text, False, kind="all-ignored"))
    absent = [label for place, label in zip(where, labels, strict=True) if not found[place] and outside[place]]
    if absent:
        text = f"{_named(metadata, absent)} in none of {masks}; {_they(absent)} cannot be {use}"
        findings.append(Finding(text, False, kind="class-absent"))
    everywhere = [label for place, label in zip(where, labels, strict=True) if found[place] and not outside[place]]
    for label in everywhere[:_MOST_NAMED]:
        text = f"every pixel of {masks} that is not ignored is {label} (1), so where it is not cannot be {use}"
        findings.append(Finding(text, False, kind="class-absent"))
    return findings


def _stored_otherwise(scan: DatasetScan, metadata: DatasetMetadata, use: str) -> list[Finding]:
    """Returns the findings about masks that store objects as the ignored value."""
    if scan.task != MULTILABEL:
        return _mixed(scan, metadata)
    assert scan.background is not None
    ignored = metadata.ignore_index
    is_ignored = scan.sizes.prod(1)[:, None] > scan.pixels + scan.background
    # (n, K, 3): whether a plane holds 0, 1 and the ignored value
    held = np.stack([scan.background > 0, scan.pixels > 0, is_ignored], 2).tolist()
    values = (0, 1, ignored)
    ids = [[{v for v, is_held in zip(values, own, strict=True) if is_held} for own in planes] for planes in held]
    findings = []
    for fault in find_plane_faults(ids, ignored):
        label = metadata.labels[fault.plane]
        mends = "" if fault.label_map else f"; {ignored} is meant in the masks of others, so save these with 0 and 1"
        if fault.ones:
            text = (
                f"{label} is 1 in {counted(len(fault.ones), 'mask')} without {ignored} in its plane (the first is mask "
                f"{scan.names[fault.ones[0]]}), and there is no 1 but {ignored} in {len(fault.others)} (the first is "
                f"mask {scan.names[fault.others[0]]}): if {ignored} is {label} in these, its pixels are now ignored"
            )
        else:
            text = (
                f"class {fault.plane} ({label}) is 1 in none of {_masks(scan)}, and {ignored} in "
                f"{counted(len(fault.others), 'mask')} (the first is mask {scan.names[fault.others[0]]}), where it is "
                f"ignored, so it cannot be {use}"
            )
        is_error = not fault.ones and use == "learned"
        findings.append(Finding(text + mends, is_error, fault.label_map, "binary-0-255", label))
    return findings


def _mixed(scan: DatasetScan, metadata: DatasetMetadata) -> list[Finding]:
    """Returns the finding about masks that store the object in two ways."""
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


def _they(labels: list[str]) -> str:
    return "it" if len(labels) == 1 else "they"


def _named(metadata: DatasetMetadata, labels: list[str], verb: str = " occur") -> str:
    numbered = [f"{metadata.labels.index(label)} ({label})" for label in labels[:_MOST_NAMED]]
    if len(labels) == 1:
        return f"class {numbered[0]}{verb}{'s' if verb else ''}"
    if len(labels) > _MOST_NAMED:
        return f"{len(labels)} classes, {', '.join(numbered)} and {len(labels) - _MOST_NAMED} more{verb}"
    return f"classes {', '.join(numbered)}{verb}"
