"""Faults between splits: the same image, nearly the same image, or frames of one sequence in both."""

import re
from collections.abc import Iterator
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_datasets.doctor.tree import FREE, Tree, mask_of
from seg_datasets.reading.pairs import Pair

__all__ = ["SEQUENCES", "duplicate", "frames", "near_duplicate"]

SEQUENCES = (FREE, "CamVid", "Cityscapes", "CityscapesCategory", "CityscapesClass")
"""Datasets whose names number the frames of sequences."""

_FEWEST_TRAIN, _FEWEST_OTHER = 4, 2
_END = re.compile(r"(.*?)([0-9]+)", re.DOTALL)


def duplicate(tree: Tree) -> str:
    """Copies a pair of train over one of another split."""
    source, target = tree.take(), tree.take(tree.other_split)
    tree.put(target.image, source.image.read_bytes())
    tree.put(mask_of(target), mask_of(source).read_bytes())
    return f"copied {source.image.name} of train and its mask to {target.image.name} of {tree.other_split}"


def near_duplicate(tree: Tree) -> str:
    """Copies a pair of train over one of another split, with all pixels a little brighter."""
    source, target = tree.take(), tree.take(tree.other_split)
    with Image.open(source.image) as opened:
        pixels = np.array(opened.convert("RGB"))
    brighter = Image.fromarray(pixels + (pixels < 255).astype(np.uint8))
    content = BytesIO()
    if tree.form.image_suffix in (".jpg", ".jpeg"):
        brighter.save(content, "JPEG", quality=100, subsampling=0)
    else:
        brighter.save(content, "PNG" if tree.form.image_suffix == ".png" else "TIFF")
    tree.put(target.image, content.getvalue())
    tree.put(mask_of(target), mask_of(source).read_bytes())
    return (
        f"copied {source.image.name} of train and its mask to {target.image.name} of {tree.other_split}, one gray "
        "level brighter"
    )


def frames(tree: Tree) -> str:
    """Renames all pairs of train and another split to consecutive frames of two sequences, which both splits share."""
    train, other = tree.splits["train"], tree.splits[tree.other_split]
    if len(train) < _FEWEST_TRAIN or len(other) < _FEWEST_OTHER:
        raise InvalidArgumentError(
            f"frames-across-splits needs {_FEWEST_TRAIN} images in train and {_FEWEST_OTHER} in {tree.other_split}, "
            f"got {len(train)} and {len(other)}; write more with images_per_split (--images)"
        )
    total = len(train) + len(other)
    of_other = {(2 * i + 1) * total // (2 * len(other)) for i in range(len(other))}
    queues = {"train": iter(train), tree.other_split: iter(other)}
    renamed: dict[str, list[Pair]] = {split: [] for split in queues}
    names = _sequences(tree)
    for place in range(total):
        split = tree.other_split if place in of_other else "train"
        name = next(names[int(2 * place >= total)])
        renamed[split].append(_rename(tree, split, next(queues[split]), name))
    tree.splits.update(renamed)
    for split, pairs in renamed.items():
        _relist(tree, split, pairs)
    return f"renamed the images of train and {tree.other_split} to consecutive frames of two sequences"


def _sequences(tree: Tree) -> list[Iterator[str]]:
    """Returns the names of the frames of two sequences; none of them is that of a file in the tree."""
    examples = tree.edition.layout.examples["train"][:2]
    starts = ("seq01_000000", "seq02_000000") if tree.name == FREE else examples
    keys = [_key(tree, split, pair) for split, pairs in tree.splits.items() for pair in pairs]
    found = []
    for start in starts:
        match = _END.fullmatch(start)
        assert match is not None
        prefix, digits = match[1], len(match[2])
        numbered = (_END.fullmatch(key) for key in (start, *keys))
        last = max(int(own[2]) for own in numbered if own is not None and own[1] == prefix)
        found.append(_numbered(prefix, last + 1, digits))
    return found


def _numbered(prefix: str, first: int, digits: int) -> Iterator[str]:
    return (f"{prefix}{number:0{digits}}" for number in count(first))


def _key(tree: Tree, split: str, pair: Pair) -> str:
    steps = _steps(tree, split, pair)
    name = pair.image.name.removesuffix(steps[-1].split("*")[-1])
    return f"{pair.image.parent.name}/{name}" if "*" in steps[-2] else name


def _steps(tree: Tree, split: str, pair: Pair) -> list[str]:
    """Returns the steps of the glob pattern that an image matches."""
    patterns = tree.edition.layout.splits[split].images
    return next(pattern for pattern in patterns if pattern.endswith(pair.image.suffix)).split("/")


def _rename(tree: Tree, split: str, pair: Pair, key: str) -> Pair:
    """Moves the files of a pair to another key."""
    steps = _steps(tree, split, pair)
    old = pair.image.name.removesuffix(steps[-1].split("*")[-1])
    folder, _, name = key.rpartition("/")
    moved = []
    for path in (pair.image, mask_of(pair)):
        parent = path.parent.parent / folder if "*" in steps[-2] else path.parent
        target = parent / path.name.replace(old, name, 1)
        content = path.read_bytes()
        tree.remove(path)
        tree.put(target, content)
        moved.append(target)
    return Pair(moved[0], moved[1])


def _relist(tree: Tree, split: str, pairs: list[Pair]) -> None:
    listing = tree.edition.layout.splits[split].listing
    path = None if listing is None else tree.edition.layout.locate(tree.root, listing)
    if path is not None:
        tree.put(path, "".join(f"{Path(pair.image).stem}\n" for pair in pairs).encode())
