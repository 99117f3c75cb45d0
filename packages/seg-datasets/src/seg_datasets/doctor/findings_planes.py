"""Findings about single classes of masks of a multilabel task, and which classes masks of 0 and 1 hold."""

from collections.abc import Iterator, Mapping, Sequence, Set

from seg_core.errors import counted
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import find_plane_faults, label_map_line
from seg_datasets.doctor.checked import PARAMS, CheckedSplit, finding
from seg_datasets.doctor.classes import Classes
from seg_datasets.doctor.kinds import WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.pairs import first_few

__all__ = ["all_ignored", "plane_findings", "present_in", "unknown_planes"]

_FROM_WHITE = (
    "save the masks of this class with 0 and 1, as others have pixels that are meant to be ignored: "
    "Image.fromarray((mask == {}).astype('uint8')).save(OUT)"
)


def plane_findings(source: Source, splits: Sequence[CheckedSplit], classes: Classes) -> Iterator[DataFinding]:
    """Yields the classes whose objects are stored as the ignored value, beside others that are stored as 1."""
    metadata = classes.metadata
    if metadata is None or not classes.is_identity:
        return
    ignored = metadata.ignore_index
    places = [(split, row) for split in splits for row in sorted(split.examined.planes)]
    for fault in find_plane_faults([split.examined.planes[row] for split, row in places], ignored):
        label = f"class {fault.plane} ({metadata.labels[fault.plane]})"
        paths = [split.plane(row, fault.plane) for split, row in (places[place] for place in fault.others)]
        if fault.ones:
            text = f"there is no 1 but {ignored} for {label} in these masks, and 1 in {len(fault.ones)} others"
        else:
            text = f"there is no 1 but {ignored} for {label}, and 1 for others: all its objects are ignored"
        remedy, line = _FROM_WHITE.format(ignored), ""
        if fault.label_map is not None:
            remedy = (
                f"if {ignored} is the object in these, read 1 and {ignored} with this label_map, or save them with 1"
            )
            line = f"{PARAMS}.{label_map_line(fault.label_map)}"
        detail = f"{text} ({counted(len(paths), 'mask')})"
        yield finding(source, "binary-0-255", paths, detail, remedy, line)


def unknown_planes(split: CheckedSplit, targets: Mapping[int, int | None]) -> list[int]:
    """Returns the classes of a multilabel task all pixels of which are ignored in all masks of a split."""
    every = list(split.examined.planes.values())
    return [
        index
        for index, _ in enumerate(every[0] if every else ())
        if any(planes[index] for planes in every)
        and all(targets.get(raw, 0) is None for planes in every for raw in planes[index])
    ]


def all_ignored(
    source: Source, split: CheckedSplit, metadata: DatasetMetadata, classes: Sequence[int], remedy: str
) -> DataFinding:
    """Returns the finding about classes all pixels of which are ignored in a split."""
    names = first_few(f"{index} ({metadata.labels[index]})" for index in classes)
    noun, they = ("class", "it") if len(classes) == 1 else ("classes", "they")
    detail = f"all pixels of {noun} {names} are ignored in all masks of {split.name}, so {they} cannot be "
    detail += "learned" if split.name == "train" else "scored"
    return finding(source, "all-ignored", [], detail, remedy, severity=WARNING, place=split.name)


def present_in(split: CheckedSplit, targets: Mapping[int, int | None], found: Set[int]) -> set[int]:
    """Returns the indices of the classes whose pixels some mask of 0 and 1 has.

    Args:
        split: the split.
        targets: raw id -> 0, 1, or None for ignored.
        found: targets that occur.
    """
    planes = split.examined.planes
    if not planes:
        return {0} & {target - 1 for target in found}
    return {
        index for ids in planes.values() for index, own in enumerate(ids) if any(targets.get(raw) == 1 for raw in own)
    }
