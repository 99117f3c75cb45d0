"""What a scan of masks shows to be wrong or odd, in sentences: for the check before a run, and reports on a dataset."""

from dataclasses import dataclass

from seg_core.errors import id_ranges
from seg_core.files.scan import DatasetScan
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import suggest_label_map

__all__ = ["Finding", "describe_scan", "find_problems"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd about the masks of a split.

    Attributes:
        text: sentence without a full stop.
        is_error: whether a network that is trained on these masks learns something else than was meant, or nothing.
        label_map: the map that probably mends it, or None.
    """

    text: str
    is_error: bool
    label_map: LabelMap | None = None


def find_problems(scan: DatasetScan, metadata: DatasetMetadata, use: str = "learned") -> list[Finding]:
    """Returns what is wrong with the masks of a split.

    Args:
        scan: scan of the masks.
        metadata: classes of the dataset.
        use: what cannot be done then, `"learned"` or `"scored"`, for the sentences.
    """
    ids = {raw for found in scan.raw_ids.values() for raw in found} | set(scan.wrong_ids)
    as_stored = all(found == {metadata.ignore_index if t is None else t} for t, found in scan.raw_ids.items())
    suggested = None
    if as_stored and ids and min(ids) >= 0:
        suggested = suggest_label_map(ids, metadata.num_classes, metadata.ignore_index)
    masks = _masks(scan)
    if scan.wrong_ids:
        text = f"{scan.problem}. The ids in {masks} are {id_ranges(ids)}, and the dataset has {_classes(metadata)}"
        if suggested is not None and suggested.mapping.get(0) is not None and 0 in ids and metadata.num_classes in ids:
            text += "; either one label is missing, or 0 has no class"
        return [Finding(text, True, suggested)]
    present = [pixels > 0 for pixels in scan.pixels.sum(0).tolist()]
    if not any(present):
        text = f"all pixels of {masks} are ignored (ids {id_ranges(ids)}), so nothing can be {use}"
        return [Finding(text, True)]
    absent = [label for label, found in zip(metadata.labels, present, strict=True) if not found]
    if not absent:
        return []
    if suggested is not None:
        label, other = absent[0], metadata.labels[present.index(True)]
        text = (
            f"class {metadata.labels.index(label)} ({label}) occurs in none of {masks}, and {id_ranges(ids)} are the "
            f"only ids: every pixel is {other} or ignored, so {label} cannot be {use}"
        )
        return [Finding(text, True, suggested)]
    text = f"{_named(metadata, absent)} in none of {masks}; {'it' if len(absent) == 1 else 'they'} cannot be {use}"
    if scan.ignored.any() and len(ids) == metadata.num_classes and len(absent) == 1:
        raw = id_ranges(scan.raw_ids[None])
        text += f". If id {raw}, which is ignored, stands for {absent[0]}, map it to {metadata.labels.index(absent[0])}"
    return [Finding(text, False)]


def describe_scan(scan: DatasetScan) -> str:
    """Returns one line about the masks: how many, their ids, sizes and the share of ignored pixels."""
    ids = {raw for found in scan.raw_ids.values() for raw in found} | set(scan.wrong_ids)
    pixels = int(scan.pixels.sum() + scan.ignored.sum()) + sum(scan.wrong_ids.values())
    share = scan.ignored.sum() / max(pixels, 1)
    low, high = scan.sizes.min(0), scan.sizes.max(0)
    size = f"{low[1]}x{low[0]}" + ("" if (low == high).all() else f" to {high[1]}x{high[0]}")
    whole = int((scan.pixels.sum(1) == 0).sum())
    return (
        f"{_masks(scan)}: {size} pixels (width x height), ids {id_ranges(ids)}, {share:.1%} of the pixels ignored"
        + (f", {whole} wholly" if whole else "")
    )


def _masks(scan: DatasetScan) -> str:
    count = len(scan.indices)
    return f"{count} masks" if scan.is_complete else f"{count} of {scan.total} masks"


def _classes(metadata: DatasetMetadata) -> str:
    count = metadata.num_classes
    return f"{count} classes, 0 to {count - 1}, and the ignored value {metadata.ignore_index}"


def _named(metadata: DatasetMetadata, labels: list[str]) -> str:
    numbered = [f"{metadata.labels.index(label)} ({label})" for label in labels]
    return f"class {numbered[0]} occurs" if len(labels) == 1 else f"classes {', '.join(numbered)} occur"
