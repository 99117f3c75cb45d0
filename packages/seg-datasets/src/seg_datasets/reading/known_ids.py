"""How the masks of known datasets store the classes of a label set, for folders whose masks may be theirs."""

from collections.abc import Collection

from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.registry import DATASETS
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.color_masks import ColorReader

__all__ = ["known_label_map", "two_readings", "with_void"]


def known_label_map(metadata: DatasetMetadata, ids: Collection[int]) -> tuple[str, LabelMap] | None:
    """Returns the dataset with these classes whose masks hold such ids, and its label map.

    >>> known_label_map(resolve_metadata("CamVid"), range(12))[0]  # 11 is void
    'CamVid'

    Args:
        metadata: the classes, in the order of their ids.
        ids: the ids that all masks together contain.

    Returns:
        None if there is no such dataset, or there are several that differ in what an id means.
    """
    wanted = set(ids) - {metadata.ignore_index}
    found: dict[tuple[tuple[int, int | None], ...], tuple[str, LabelMap]] = {}
    for name in DATASETS.names():
        dataset_class = DATASETS.get(name) if DATASETS.origin(name) == "seg-datasets" else None
        if not (isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset)):
            continue
        for edition in dataset_class.editions.values() or (dataset_class.edition,):
            table = dict(edition.label_map.mapping)
            # the ids of masks in colors are not in the files
            if isinstance(edition.mask_reader, ColorReader) or not wanted <= table.keys():
                continue
            if resolve_metadata(edition.classes).labels != metadata.labels:
                continue
            if metadata.ignore_index in ids:
                table.setdefault(metadata.ignore_index, IGNORE)
            key = tuple((raw, t if isinstance(t := table[raw], int) else None) for raw in sorted(wanted))
            found.setdefault(key, (name, LabelMap(table, ignore_index=metadata.ignore_index)))
    return next(iter(found.values())) if len(found) == 1 else None


def two_readings(guess: LabelMap | None, known: LabelMap | None, ids: Collection[int], num_classes: int) -> bool:
    """Returns whether ids that end with K for K classes may be read in two ways.

    Either 0 has no class and the others are one too high, as in ADE20K, or K is the ignored value, as in CamVid, or a
    class that is not named.

    Args:
        guess: the map of `suggest_label_map`.
        known: the map of `known_label_map`, or None. It decides, unless no mask contains 0.
        ids: the ids that all masks together contain.
        num_classes: number of classes K.
    """
    if guess is None or num_classes not in ids or guess.mapping.get(1) != 0:
        return False
    if known is None:
        return 0 in ids
    return 0 not in ids and known.mapping.get(1) != 0


def with_void(count: int, ids: Collection[int], ignored: int) -> LabelMap:
    """Returns the map of class ids beside which the number of classes is an id without a class."""
    others = [count, ignored] if ignored in ids else [count]
    return LabelMap.identity(count, *others, ignore_index=ignored)
