"""The classes by which masks are judged: given, of the dataset, or what its masks suggest."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass

from seg_core.errors import counted, id_ranges
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.doctor.checked import CheckedSplit
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader
from seg_datasets.reading.mask_kinds import suggested_classes

__all__ = ["Classes", "find_classes_of"]

_MOST_SUGGESTED = 256
_ENOUGH = 8  # masks from which an id that one of them has alone is no class


@dataclass(frozen=True)
class Classes:
    """The classes of the masks.

    Attributes:
        metadata: names, colors and the ignored value; None if nothing is known.
        is_suggested: whether the masks alone suggest them.
        targets: raw id -> class id, or None for ignored.
        is_identity: whether the raw ids are the class ids and the ignored value.
        drops: whether other raw ids are ignored.
        note: sentence about where classes come from; "" if they were given.
    """

    metadata: DatasetMetadata | None
    is_suggested: bool
    targets: Mapping[int, int | None]
    is_identity: bool
    drops: bool = False
    note: str = ""

    def is_shifted(self, ids: Set[int]) -> bool:
        """Returns whether ids of which some are wrong are one too high: without 0, and all are allowed ids plus 1."""
        wrong = self.wrong(ids)
        last = max((raw for raw, target in self.targets.items() if target is not None), default=0)
        # a single wrong id in a gap of the classes is rather an accident
        if 0 in ids or not (len(wrong) > 1 or wrong == {_first_gap(self.targets)}):
            return False
        return all(raw - 1 in self.targets for raw in ids if raw in wrong or raw <= last)

    def wrong(self, ids: Set[int]) -> Set[int]:
        """Returns the raw ids that are neither a class nor ignored."""
        return set() if self.drops else ids - self.targets.keys()


def find_classes_of(source: Source, splits: Sequence[CheckedSplit], ignore_index: int) -> Classes:
    """Returns the classes of a dataset after its masks were read."""
    if source.metadata is not None or "label_map" in source.options:
        label_map = source.dataset.label_map
        targets = {raw: t if isinstance(t, int) else None for raw, t in label_map.mapping.items()}
        if isinstance(source.dataset.mask_reader, ColorReader):
            targets.pop(UNKNOWN, None)  # ignored in the end, but no color of a class
        metadata = source.metadata or source.dataset.metadata
        identity = LabelMap.identity(metadata.num_classes, metadata.ignore_index, ignore_index=metadata.ignore_index)
        is_identity = not source.is_official and label_map == identity
        return Classes(metadata, False, targets, is_identity, label_map.unlisted == "ignore")
    masks: Counter[int] = Counter()
    sets = Counter(ids for split in splits for _, ids in split.id_sets)
    for ids, count in sets.items():
        masks.update(dict.fromkeys(ids, count))
    total = sets.total()
    suggested = suggested_classes(masks.keys())
    alone = {raw for raw, count in masks.items() if count == 1}
    if total >= _ENOUGH and alone and suggested is not None:
        without = suggested_classes(masks.keys() - alone)
        # one file must not decide that ids are spread values
        if without is not None and _is_run(masks.keys() - alone, without) and not _is_run(masks.keys(), suggested):
            suggested = without
    if suggested is None or suggested.num_classes > _MOST_SUGGESTED:
        note = f"The masks hold {counted(len(masks), 'different id')}, which suggest no classes: ids are not checked"
        return Classes(None, True, dict.fromkeys(masks, None), False, True, f"{note}. {_GIVE}")
    if ignore_index != suggested.ignore_index and ignore_index >= suggested.num_classes:
        suggested = DatasetMetadata(suggested.name, suggested.labels, ignore_index=ignore_index)
    count = suggested.num_classes
    table: dict[int, int | None] = {index: index for index in range(count)}
    note = (
        f"Classes are not known; the ids of the masks ({id_ranges(masks, 10)}) suggest "
        f"{counted(count, 'class', 'classes')}. {_GIVE}"
    )
    return Classes(suggested, True, {**table, suggested.ignore_index: None}, True, False, note)


_GIVE = "To check against yours, write classes.toml into the folder, or give --classes FILE or --num-classes N"


def _first_gap(ids: Container[int]) -> int:
    """Returns the smallest id from 0 on that is not there."""
    number = 0
    while number in ids:
        number += 1
    return number


def _is_run(ids: Set[int], classes: DatasetMetadata) -> bool:
    """Returns whether ids are those of the classes, or one too high, so that they are no spread values."""
    return max(ids - {classes.ignore_index, 255}, default=0) <= classes.num_classes
