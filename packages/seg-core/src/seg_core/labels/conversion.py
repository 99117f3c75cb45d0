"""Conversion of class ids between label sets, by class name.

The known conversions are plain JSON files in the folder `conversions`, one per label set that is converted to:
`{"to": "Street", "from": {"BDD100K": {"road": "road", "terrain": "nature", "train": null}}}`. Each class of the label
set that is converted from is listed; null ignores its pixels.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from seg_core.errors import UnknownNameError, nearest
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata

__all__ = ["label_map_between", "list_conversions"]


def label_map_between(source: str | DatasetMetadata, target: str | DatasetMetadata) -> LabelMap:
    """Returns the map between the class ids of two label sets; classes without a counterpart are ignored.

    It maps a mask of `source`'s train ids to `target`'s. Label sets of the same classes in any order need no entry.

    Args:
        source: a label set or its name.
        target: label set of the result, or its name.

    Raises:
        UnknownNameError: if there is no such label set, or no conversion between the two is known; the message lists
            the label sets that can be converted to `target`.
    """
    have, want = resolve_metadata(source), resolve_metadata(target)
    names = _table(want.name).get(have.name)
    if names is None and sorted(have.labels) == sorted(want.labels):
        names = {label: label for label in have.labels}
    if names is None:
        known = list_conversions(want.name)
        raise UnknownNameError(
            f"no conversion from label set {have.name!r} to {want.name!r} is known.{nearest(have.name, known)} "
            f"Label sets that can be converted to {want.name!r}: {', '.join(known) or 'none'}; for your own classes "
            "use a LabelMap"
        )
    to_id = {label: index for index, label in enumerate(want.labels)}
    mapping = {
        index: IGNORE if names[label] is None else to_id[names[label]] for index, label in enumerate(have.labels)
    }
    mapping[have.ignore_index] = IGNORE
    return LabelMap(mapping, ignore_index=want.ignore_index)


def list_conversions(target: str) -> tuple[str, ...]:
    """Returns the names of the label sets that can be converted to `target`, sorted."""
    return tuple(sorted(_table(target), key=str.lower))


@cache
def _table(target: str) -> dict[str, dict[str, Any]]:
    file = resources.files("seg_core") / "labels" / "conversions" / f"{target.lower()}.json"
    if not file.is_file():
        return {}
    values = json.loads(file.read_text("utf-8"))
    return dict(values["from"]) if values["to"] == target else {}
