"""From the classes of one label set to those of another, by name.

The known conversions are plain JSON files in the folder `conversions`, one per label set that is converted to:
`{"to": "Street", "from": {"BDD100K": {"road": "road", "terrain": "nature", "train": null}}}`. Each class of the label
set that is converted from is listed; null leaves its pixels out.
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
    """Returns the map from the class ids of one label set to those of another; what has no class there is ignored.

    A mask of `source`'s train ids becomes one of `target`'s. Two label sets of the same classes in any order need no
    entry.

    Args:
        source: a label set or its name.
        target: the same for the result.

    Raises:
        UnknownNameError: if there is no such label set, or no conversion between the two is known; the message lists
            what `target` can be made from.
    """
    have, want = resolve_metadata(source), resolve_metadata(target)
    names = _table(want.name).get(have.name)
    if names is None and sorted(have.labels) == sorted(want.labels):
        names = {label: label for label in have.labels}
    if names is None:
        known = list_conversions(want.name)
        raise UnknownNameError(
            f"no conversion from label set {have.name!r} to {want.name!r} is known.{nearest(have.name, known)} "
            f"{want.name!r} can be made from {', '.join(known) or 'no other'}; for your own classes give a LabelMap"
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
