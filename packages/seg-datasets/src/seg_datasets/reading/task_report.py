"""What masks of a binary or multilabel task hold, for a report on a folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_core.errors import CorruptFileError, UserError, id_ranges
from seg_core.files.mask_sources import OnProgress
from seg_core.files.scan import MaskSummary, scan_dataset
from seg_core.files.scan_findings import find_problems
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import label_map_line, mixed_map
from seg_core.labels.tasks import BINARY, MULTILABEL

__all__ = ["MIDDLE", "TaskFindings", "binary_advice", "find_task_options", "look_at_task"]

MIDDLE = 128
"""The gray value from which a pixel of a mask is the object, unless somebody chooses another."""
_MANY = 3  # values beside 0, 1 and the ignored one
_WHITE = 255


@dataclass(frozen=True)
class TaskFindings:
    """What the masks of some splits hold.

    Attributes:
        shares: 0, 1 and the ignored value -> fraction of the pixels, of all planes.
        fits: whether the masks can be learned, with `label_map` if there is one.
        label_map: the map that probably reads them, or None.
        odd: sentences about what is odd.
        summaries: mask -> its size, without its ids.
        is_soft: whether they hold so many values from 0 to 255 that these are smoothed edges.
    """

    shares: Mapping[int, float]
    fits: bool
    label_map: LabelMap | None
    odd: Sequence[str]
    summaries: Mapping[str, MaskSummary]
    is_soft: bool = False


def binary_advice(root: Path, ids: Mapping[int, float], options: Mapping[str, Any]) -> str:
    """Returns a sentence about the binary task, for masks of a background and one object; "" for others.

    Args:
        root: the folder.
        ids: id in the masks -> its share of the pixels.
        options: options that read them as two classes.
    """
    if not {0} < ids.keys() <= {0, 1, _WHITE} or options.get("colors"):
        return ""
    table = options.get("label_map")
    if table is None and 1 not in ids:
        return ""
    line = "" if table is None else f", with {_line(table)} (check it)"
    return (
        f"multiclass: masks are read as two classes, the background and one object{line}. To learn one score per pixel "
        f"for the object, with a threshold that is chosen afterwards, write classes.toml into {root} with the two "
        'lines labels = ["object"] (its name) and task = "binary", and start again'
    )


def _line(table: Mapping[Any, Any]) -> str:
    return "label_map = { " + ", ".join(f"{raw} = {_toml(to)}" for raw, to in table.items()) + " }"


def _toml(train: Any) -> str:
    return str(train) if isinstance(train, int) else '"ignore"'


def find_task_options(
    opened: Callable[..., Sequence[Any]],
    metadata: DatasetMetadata,
    options: dict[str, Any],
    progress: OnProgress | None,
) -> TaskFindings:
    """Returns what masks hold, with the options that read them.

    Args:
        opened: opens the splits with further options.
        metadata: the classes.
        options: options that are known; those that are found are added: `masks_as`, `threshold` or `label_map`.
        progress: called with the number of masks read and their total.

    Raises:
        UserError: if a mask cannot be read.
    """
    try:
        found = look_at_task(opened(), progress)
    except CorruptFileError:
        if metadata.task != MULTILABEL or {"masks_as", "label_map"} & options.keys() or "{class}" in _masks(options):
            raise
        bits = _of_bits(opened, progress)
        if bits is None:
            raise
        options["masks_as"] = "bits"
        text = f"masks have one band for {metadata.num_classes} classes, and are read as a bit per class: check it"
        return replace(bits, odd=(text, *bits.odd))
    if found.is_soft and metadata.task == BINARY and not {"threshold", "label_map"} & options.keys():
        soft = look_at_task(opened(threshold=MIDDLE), progress)
        if soft.fits:
            options["threshold"] = MIDDLE
            text = "masks hold values between 0 and 255, as smoothed edges have, and are read with threshold = "
            return replace(soft, odd=(f"{text}{MIDDLE}: check it", *soft.odd))
    if found.label_map is not None:
        table = found.label_map.mapping.items()
        options["label_map"] = {raw: to if isinstance(to, int) else "ignore" for raw, to in table}
    return found


def _masks(options: Mapping[str, Any]) -> str:
    return str(options.get("masks", ""))


def _of_bits(opened: Callable[..., Sequence[Any]], progress: OnProgress | None) -> TaskFindings | None:
    """Returns what masks of a bit per class hold, or None if they are no such masks."""
    try:
        found = look_at_task(opened(masks_as="bits"), progress)
    except UserError:
        return None
    return found if found.fits else None


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
    held: list[str] = []
    ones = {raw for scan in scans for raw in scan.raw_ids.get(1, ())}
    for dataset, scan in zip(datasets, scans, strict=True):
        assert scan.background is not None
        counts[0] += int(scan.background.sum())
        counts[1] += int(scan.pixels.sum())
        counts[metadata.ignore_index] += int(scan.ignored.sum())
        for index, (height, width) in zip(scan.indices, scan.sizes.tolist(), strict=True):
            summaries[dataset.file_names(index)[-1]] = MaskSummary(height, width, {})
        for problem in find_problems(scan, metadata):
            mends = problem.label_map is not None and (problem.is_error or problem.kind == "binary-0-255")
            if problem.label_map is None or not mends:
                fits = fits and not problem.is_error
                odd.append(f"{dataset.split}: {problem.text}")
                continue
            # one map reads all splits: with the 1 of others
            label_map = label_map if label_map is not None and 1 in label_map.mapping else problem.label_map
            if 1 in ones and 1 not in label_map.mapping:
                label_map = mixed_map(metadata.ignore_index)
            ids = sorted({raw for found in scan.raw_ids.values() for raw in found} | set(scan.wrong_ids))
            masks = f"masks of {problem.label}" if problem.label else "masks"
            if problem.kind == "binary-0-255":
                held.append(f"{masks} hold {metadata.ignore_index} where {_object(metadata)} is, in place of 1")
            else:
                held.append(f"{masks} hold the values {id_ranges(ids, 10)}, in place of 0 and 1")
    if label_map is not None:
        odd.append(f"{'; '.join(dict.fromkeys(held))}: they are read with {label_map_line(label_map)}, check it")
    total = max(sum(counts.values()), 1)
    shares = {raw: number / total for raw, number in counts.items() if number}
    wrong = {raw for scan in scans for raw in scan.wrong_ids}
    is_soft = len(wrong) >= _MANY and 0 <= min(wrong) <= max(wrong) <= _WHITE
    return TaskFindings(shares, fits, label_map, tuple(dict.fromkeys(odd)), summaries, is_soft)


def _object(metadata: DatasetMetadata) -> str:
    return metadata.labels[0] if metadata.task == BINARY else "the class"
