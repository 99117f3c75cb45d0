"""Guesses the label map of masks whose ids are not the class ids: one too high, or spread over 0 to 255."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.tasks import MULTICLASS

__all__ = [
    "IdsFault",
    "PlaneFault",
    "find_ids_fault",
    "find_plane_faults",
    "label_map_line",
    "mixed_map",
    "mixed_masks",
    "suggest_label_map",
]

_ENOUGH = 3  # masks expected to hold both ids; that none does is then no accident (probability 5%)


@dataclass(frozen=True)
class IdsFault:
    """What is wrong with the ids of masks.

    Attributes:
        kind: `"all-ignored"` (no pixel has a class), `"binary-0-255"` (0 and 255 alone, as image editors write two
            classes), `"off-by-one"` (ids 1 to K for K classes, perhaps beside 0), `"class-absent"` (one of two classes
            and the ignored value, which is probably the other class), or `"id-out-of-range"`. In a binary or multilabel
            task the classes are 0 and 1, and no ids are one too high.
        label_map: the map that probably mends it, or None.
    """

    kind: str
    label_map: LabelMap | None = None


def find_ids_fault(
    ids: Collection[int], num_classes: int, ignore_index: int = 255, task: str = MULTICLASS
) -> IdsFault | None:
    """Returns what is wrong with the ids that masks store, or None if all are classes or ignored.

    >>> find_ids_fault({1, 2, 3}, num_classes=3)
    IdsFault(kind='off-by-one', label_map=LabelMap({1: 0, 2: 1, 3: 2}, ignore_index=255, unlisted='error'))
    >>> find_ids_fault({0, 255}, num_classes=1, task="binary")
    IdsFault(kind='binary-0-255', label_map=LabelMap({0: 0, 255: 1}, ignore_index=255, unlisted='error'))

    Args:
        ids: the ids that all masks together contain, 0 to 65535.
        num_classes: number of classes K.
        ignore_index: value of the pixels without a class.
        task: `"multiclass"`, `"binary"` or `"multilabel"`; masks of the last two hold 0, 1 and `ignore_index`.
    """
    found = set(ids)
    if found == {ignore_index}:
        return IdsFault("all-ignored")
    if task != MULTICLASS:
        return _fault_of_two(found, ignore_index)
    label_map = suggest_label_map(found, num_classes, ignore_index)
    if found == {0, 255}:
        # a single class beside ignored pixels may be so, and 255 may be a class of many
        return IdsFault("binary-0-255", label_map) if 2 <= num_classes <= 255 else None
    is_wrong = bool(found - set(range(num_classes)) - {ignore_index})
    if label_map is None:
        return IdsFault("id-out-of-range") if is_wrong else None
    if not is_wrong:
        return IdsFault("class-absent", label_map)
    is_shifted = all(raw - 1 == target for raw, target in label_map.mapping.items() if isinstance(target, int))
    return IdsFault("off-by-one" if is_shifted else "id-out-of-range", label_map)


def _fault_of_two(found: set[int], ignore_index: int) -> IdsFault | None:
    """Returns what is wrong with the ids of masks that should hold 0, 1 and the ignored value."""
    is_wrong = bool(found - {0, 1, ignore_index})
    if found == {0, 255}:
        return IdsFault("binary-0-255", LabelMap({0: 0, 255: 1}, ignore_index=ignore_index))
    if found == {0, ignore_index}:
        return IdsFault("class-absent", LabelMap({0: 0, ignore_index: 1}, ignore_index=ignore_index))
    if not is_wrong:
        return None
    others = sorted(found - {ignore_index})
    has_ignored = ignore_index in found
    # a trimap, of which the middle and the highest may be ignored; and a single id may be either
    if len(others) != 2 or (has_ignored and others in ([0, 127], [0, 128])):
        return IdsFault("id-out-of-range")
    mapping: dict[int, Any] = {others[0]: 0, others[1]: 1} | ({ignore_index: IGNORE} if has_ignored else {})
    return IdsFault("id-out-of-range", LabelMap(mapping, ignore_index=ignore_index))


def suggest_label_map(ids: Collection[int], num_classes: int, ignore_index: int = 255) -> LabelMap | None:
    """Returns the label map that probably converts ids to the classes 0 to K - 1, or None.

    - Ids 1 to K are one too high: each is mapped to the class below.
    - Ids 0 to K are one too many: 0 is ignored, as in ADE20K, and the others are mapped to the class below. With more
      than three classes, a few of these ids may be missing.
    - As many ids as classes, such as 0, 128 and 255 for three, are the classes in ascending order. The ignored value
      counts as one of them if the others are one too few.
    - With two classes, 0, 127 or 128, and 255 are a trimap, of which the middle and the highest may be ignored: None.
    - With two classes, one class id and the ignored value are the two classes, as in masks of 0 and 255.

    >>> suggest_label_map({0, 255}, num_classes=2)
    LabelMap({0: 0, 255: 1}, ignore_index=255, unlisted='error')

    Args:
        ids: the ids that all masks together contain, 0 to 65535.
        num_classes: number of classes K.
        ignore_index: value of the pixels without a class.

    Returns:
        The map, which also lists `ignore_index` if it is among the ids; None if the ids are class ids, nothing above
        fits, or there is one class: which id it is, and that two classes are needed, no map can tell.
    """
    if num_classes < 2:
        return None
    found = sorted(set(ids) - {ignore_index})
    has_ignored = ignore_index in ids
    if not found:
        return None
    if found[-1] < num_classes:
        if num_classes != 2 or len(found) != 1 or not has_ignored:
            return None
        return LabelMap({found[0]: found[0], ignore_index: 1 - found[0]}, ignore_index=ignore_index)
    if num_classes == 2 and has_ignored and found in ([0, 127], [0, 128]):
        return None
    mapping: dict[int, Any]
    is_nearly_all = len(found) == num_classes + 1 or (num_classes > 3 and len(found) > num_classes // 2)
    if found[-1] == num_classes and (found[0] > 0 or is_nearly_all):
        mapping = {0: IGNORE} if found[0] == 0 else {}
        mapping |= {raw: raw - 1 for raw in range(1, num_classes + 1)}
    elif len(found) == num_classes:
        mapping = {raw: index for index, raw in enumerate(found)}
    elif has_ignored and len(found) + 1 == num_classes:
        mapping = {raw: index for index, raw in enumerate(sorted(ids))}
    else:
        return None
    if has_ignored:
        mapping.setdefault(ignore_index, IGNORE)
    return LabelMap(mapping, ignore_index=ignore_index)


def mixed_masks(masks: Sequence[Collection[int]], ignore_index: int = 255) -> tuple[list[int], list[int]] | None:
    """Returns which masks of two classes store the object as 1 and which as the ignored value, if both kinds occur.

    Read as class ids, the objects of the second kind are ignored. Ignored pixels are usually found beside objects, or
    are spread over the masks whether or not they hold an object. So masks are of two kinds if (almost) none holds both
    1 and the ignored value, and most hold one of them, or so many that by chance some would hold both.

    >>> mixed_masks([{0, 1}, {0}, {0, 1}, {0, 255}])
    ([0, 2], [3])

    Args:
        masks: the ids of each mask.
        ignore_index: value of the pixels without a class.

    Returns:
        Places of the masks with 1, and of those with 0 and `ignore_index`; None if the masks are of one kind.
    """
    with_one = [place for place, ids in enumerate(masks) if 1 in ids and ignore_index not in ids]
    with_ignored = [place for place, ids in enumerate(masks) if {*ids} == {0, ignore_index}]
    with_both = sum(1 in ids and ignore_index in ids for ids in masks)
    fewer, either = min(len(with_one), len(with_ignored)), len(with_one) + len(with_ignored)
    if not fewer or 20 * with_both > fewer:
        return None
    if 2 * either < len(masks) and len(with_one) * len(with_ignored) < _ENOUGH * len(masks):
        return None
    return with_one, with_ignored


def mixed_map(ignore_index: int = 255) -> LabelMap:
    """Returns the label map that reads masks of both kinds of `mixed_masks`."""
    return LabelMap({0: 0, 1: 1, ignore_index: 1}, ignore_index=ignore_index)


@dataclass(frozen=True)
class PlaneFault:
    """A class of a multilabel task whose objects are stored as the ignored value, in all masks or in some.

    Attributes:
        plane: index of the class.
        ones: places of the masks with 1 in its plane and no ignored value; empty if no mask has 1.
        others: places of the masks with the ignored value and without 1.
        label_map: the map that reads both kinds; None if other planes hold 1 beside ignored pixels, which it would read
            as objects.
    """

    plane: int
    ones: Sequence[int]
    others: Sequence[int]
    label_map: LabelMap | None


def find_plane_faults(masks: Sequence[Sequence[Collection[int]]], ignore_index: int = 255) -> list[PlaneFault]:
    """Returns the classes whose objects are stored as the ignored value, beside others that are stored as 1.

    If all planes of all masks are so, `find_ids_fault` tells it. An area that is ignored in all planes of a mask, as
    that outside of the field of view, is no object.

    >>> find_plane_faults([[{0, 1}, {0, 255}], [{0, 1}, {0}]])
    [PlaneFault(plane=1, ones=(), others=(0,), label_map=LabelMap({0: 0, 1: 1, 255: 1}, ignore_index=255, \
unlisted='error'))]

    Args:
        masks: the ids of each plane of each mask; all masks have the same number of planes.
        ignore_index: value of the pixels without a class.
    """
    everywhere = [all(ignore_index in ids for ids in planes) for planes in masks]
    # of such masks an object in another plane says that the ignored value is meant
    areas = [whole and any(1 in ids for ids in planes) for whole, planes in zip(everywhere, masks, strict=True)]
    found = []
    for plane in range(max(map(len, masks), default=0)):
        own = [
            {*planes[plane]} - ({ignore_index} if is_area else set())
            for planes, is_area in zip(masks, areas, strict=True)
        ]
        others = [place for place, ids in enumerate(own) if ignore_index in ids]
        if any(1 in planes[plane] for planes in masks):
            if (mixed := mixed_masks(own, ignore_index)) is not None:
                found.append((plane, *mixed))
        elif any(0 in ids for ids in own) and any(not everywhere[place] for place in others):
            found.append((plane, [], others))
    faulty = {plane for plane, _, _ in found}
    are_ignored = any(
        1 in ids and ignore_index in ids for planes in masks for plane, ids in enumerate(planes) if plane not in faulty
    )
    label_map = None if are_ignored else mixed_map(ignore_index)
    return [PlaneFault(plane, tuple(ones), tuple(others), label_map) for plane, ones, others in found]


def label_map_line(label_map: LabelMap) -> str:
    """Returns a label map as a line of a config.

    >>> label_map_line(LabelMap({0: IGNORE, 1: 0, 2: 1}))
    'label_map = { 0 = "ignore", 1 = 0, 2 = 1 }'
    """
    pairs = (f"{raw} = {t}" if isinstance(t, int) else f'{raw} = "ignore"' for raw, t in label_map.mapping.items())
    return f"label_map = {{ {', '.join(pairs)} }}"
