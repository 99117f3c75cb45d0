"""Examines the files of a mask with one per class."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seg_datasets.doctor.examine_states import STATE_OF, STATES, ids_in

__all__ = ["PlaneFault", "examine_planes"]

PlaneFault = tuple[int, str, str]
"""Class, state and sentence of a file that cannot be read as it is; its state may be `"size-mismatch"`, too."""


def examine_planes(examine: Callable[[Any, int, str], None], chunk: Any, row: int, paths: Sequence[str]) -> None:
    """Adds what is kept of a mask with a file per class; every file is read, also after one that cannot be.

    Args:
        examine: adds what is kept of one mask file to a row of a chunk.
        chunk: a `seg_datasets.doctor.examine.Chunk`.
        row: row of the pair.
        paths: the file of each class, "" for a class without.
    """
    record = chunk.rows[row]
    held: dict[int, frozenset[int]] = {}
    sizes: dict[int, tuple[int, ...]] = {}
    faults: list[PlaneFault] = []
    bits, depths = np.zeros_like(record["ids"]), list[tuple[int, bool]]()
    for place, path in enumerate(paths):
        if not path:
            continue
        record["mask"], record["ids"] = STATE_OF["ok"], 0
        examine(chunk, row, path)
        name = STATES[record["mask"]]
        text, large = chunk.notes.pop((row, "mask"), ""), chunk.large.pop(row, frozenset())
        if name != "ok":
            faults.append((place, name, text))
        if name in ("ok", "rgb-mask"):
            held[place] = frozenset(ids_in(record["ids"])) | large
            sizes[place] = tuple(record["mask_size"].tolist())
            bits |= record["ids"]
            depths.append((int(record["bits"]), bool(record["gray"])))
    if sizes:
        # where they differ, that of the image is right, or that of most
        own = tuple(record["image_size"].tolist())
        usual = own if own in sizes.values() else Counter(sizes.values()).most_common(1)[0][0]
        record["mask_size"] = usual
        faults += [(place, "size-mismatch", _unlike(size, usual)) for place, size in sizes.items() if size != usual]
        record["bits"], record["gray"] = min(depths)
    unread = [name for _, name, _ in faults if name != "rgb-mask"]
    record["mask"] = STATE_OF["rgb-mask" if faults else "ok"]
    if unread:
        record["mask"] = STATE_OF.get(unread[0], STATE_OF["unreadable-mask"])
    if faults:
        chunk.plane_faults[row] = tuple(faults)
    record["ids"] = bits
    chunk.planes[row] = tuple(held.get(place, frozenset()) for place in range(len(paths)))
    if large := frozenset(raw for ids in held.values() for raw in ids if raw > 255):
        chunk.large[row] = large


def _unlike(size: tuple[int, ...], usual: tuple[int, ...]) -> str:
    return f"has {size[1]}x{size[0]} pixels (width x height), the masks of other classes {usual[1]}x{usual[0]}"
