"""The classes by which masks are judged: given, or of the dataset; if they are not known, any id may be one."""

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass

from seg_core.errors import id_ranges
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.checked import CheckedSplit
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader

__all__ = ["Classes", "find_classes_of"]

_MOST_CLASSES = 255
_WHITE = 255  # ignored, wherever classes are not known


@dataclass(frozen=True)
class Classes:
    """The classes of the masks.

    Attributes:
        metadata: names, colors and the ignored value; None if nothing is known.
        is_suggested: whether they are not known, so that each id of the masks is taken for one.
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

    @property
    def is_alone(self) -> bool:
        """Whether there is one class where each pixel has one of the classes, so that there is nothing to choose."""
        metadata = self.metadata
        return (
            metadata is not None and not self.is_suggested and metadata.task == MULTICLASS and metadata.num_classes == 1
        )

    def is_black_and_white(self, ids: Set[int]) -> bool:
        """Returns whether the ids of all masks are the black and white of an object, of which only one is a class."""
        return self.is_alone and self.is_identity and ids == {0, 255}

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
        identity = LabelMap.identity(metadata.num_ids, metadata.ignore_index, ignore_index=metadata.ignore_index)
        is_identity = not source.is_official and label_map == identity
        return Classes(metadata, False, targets, is_identity, label_map.unlisted == "ignore")
    found: set[int] = set().union(*(ids for split in splits for ids in split.id_sets.sets))
    what = f"the masks hold the {'id' if len(found) == 1 else 'ids'} {id_ranges(found, 10)}"
    note = (
        f"Classes are not known, so ids are not checked: {what if found else 'no mask could be read as ids'}. {_GIVE}"
    )
    if found == {0, 255}:
        metadata = DatasetMetadata("custom", ("class_0", "class_1"), ignore_index=ignore_index)
        return Classes(metadata, True, {0: 0, ignore_index: None}, True, False, note)
    ignored = {ignore_index, _WHITE}
    last = max(found - ignored, default=-1)
    if not 0 <= last < _MOST_CLASSES:
        return Classes(None, True, dict.fromkeys(found, None), False, True, note)
    # any id may be a class, so that each is one
    metadata = DatasetMetadata(
        "custom",
        tuple(f"class_{index}" for index in range(last + 1)),
        ignore_index=ignore_index if ignore_index > last else _WHITE,
    )
    table: dict[int, int | None] = {index: index for index in range(last + 1)}
    return Classes(metadata, True, {**table, **dict.fromkeys(ignored - table.keys())}, False, False, note)


_GIVE = (
    "To check them, write classes.toml with the line labels = [...] into the folder, or give --classes FILE or "
    "--num-classes N"
)


def _first_gap(ids: Container[int]) -> int:
    """Returns the smallest id from 0 on that is not there."""
    number = 0
    while number in ids:
        number += 1
    return number
