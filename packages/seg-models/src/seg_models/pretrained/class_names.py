"""Matches the classes of two label sets by their names."""

import re
from collections.abc import Sequence

__all__ = ["SYNONYMS", "matching_classes"]

# synonyms in the label sets that weights are published for; case, spaces and punctuation are ignored
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("aeroplane", "airplane", "plane"),
    ("animal", "ground animal"),
    ("bicycle", "bike"),
    ("car", "automobile", "auto"),
    ("chair", "seat"),
    ("clutter", "clutter background"),
    ("computer", "laptop"),
    ("counter", "countertop", "counter other"),
    ("diningtable", "dining table"),
    ("harbor", "harbour"),
    ("impervious surface", "impervious surfaces"),
    ("low vegetation", "low veg"),
    ("minibike", "motorbike", "motorcycle"),
    ("pedestrian", "person", "human"),
    ("pole", "column pole"),
    ("pottedplant", "potted plant"),
    ("rider", "bicyclist", "cyclist"),
    ("sidewalk", "pavement"),
    ("sofa", "couch"),
    ("storage tank", "store tank"),
    ("traffic sign", "traffic sign front", "sign symbol"),
    ("tvmonitor", "tv", "television", "television receiver", "monitor"),
    ("windowpane", "window"),
)


def matching_classes(wanted: Sequence[str], known: Sequence[str]) -> dict[int, int]:
    """Returns the id of each wanted class -> the id of the known class of the same name, or of a synonym.

    Equal names have priority over synonyms; a wanted class with neither is omitted.

    Args:
        wanted: class names in the order of their ids.
        known: class names in the order of their ids.
    """
    exact = {_plain(name): index for index, name in reversed(list(enumerate(known)))}
    meant = {_meaning(name): index for index, name in reversed(list(enumerate(known)))}
    found = {}
    for index, name in enumerate(wanted):
        match = exact.get(_plain(name), meant.get(_meaning(name)))
        if match is not None:
            found[index] = match
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


_MEANINGS = {_plain(name): _plain(names[0]) for names in SYNONYMS for name in names}


def _meaning(name: str) -> str:
    plain = _plain(name)
    return _MEANINGS.get(plain, plain)
