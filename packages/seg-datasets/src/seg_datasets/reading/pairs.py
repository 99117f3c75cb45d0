"""Pairing image and mask files by name."""

import operator
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any, overload

from seg_core.errors import DatasetNotFoundError
from seg_core.files.name_list import NameList
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.text import same_name, shown

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "JPEG_SUFFIXES",
    "MASK_SUFFIXES",
    "Names",
    "Pair",
    "PairList",
    "describe_folder",
    "files_by_stem",
    "first_few",
    "pair_by_key",
    "start_of_paths",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npy", ".zarr")
"""Images too, where their channels are described: nothing in such a file says what they are."""
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless formats only, as JPEG and WebP change ids
JPEG_SUFFIXES = (".jpg", ".jpeg")
"""Masks too, where a threshold tells object and background apart."""

Names = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Paths of an image, of its mask or "", of the other files of the image, and of those of the mask, "" without one."""

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its mask file; None if the image has no mask, as in a test split.

    Attributes:
        image: the image; of an image of several files the first.
        mask: the mask, or None.
        more: the other files of the image, whose bands follow those of the first.
        planes: of a mask with a file per class these files, None of a class without; `mask` is the first that is
            there. Empty for a mask in one file.
    """

    image: Path
    mask: Path | None
    more: tuple[Path, ...] = ()
    planes: tuple[Path | None, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All files of the image, in the order of their bands."""
        return (self.image, *self.more)

    def names(self) -> tuple[str, ...]:
        """Returns the paths as strings: the files of the image, then the mask, or its files, if there are any."""
        masks = [path for path in self.planes or (self.mask,) if path is not None]
        return tuple(map(str, (*self.images, *masks)))


class PairList(Sequence[Pair]):
    """An immutable sequence of pairs that worker processes share, see `NameList`; a pair is created on access.

    It equals any list, tuple or `PairList` of the same pairs.

    Args:
        pairs: the pairs.
    """

    __slots__ = ("_images", "_masks", "_more", "_planes")

    def __init__(self, pairs: Iterable[Pair]) -> None:
        # the string of a path is never empty
        more: list[tuple[str, ...]] = []
        planes: list[tuple[str, ...]] = []

        def rows() -> Iterator[tuple[str, str]]:
            for place, pair in enumerate(pairs):
                for names, paths in ((more, pair.more), (planes, pair.planes)):
                    if paths:
                        names.extend([()] * (place - len(names)))
                        names.append(tuple("" if path is None else str(path) for path in paths))
                yield str(pair.image), "" if pair.mask is None else str(pair.mask)

        self._images, self._masks = NameList.pair(rows())
        self._more, self._planes = (_columns(names, len(self._images)) for names in (more, planes))

    @classmethod
    def of(
        cls, images: NameList, masks: NameList, more: Sequence[NameList] = (), planes: Sequence[NameList] = ()
    ) -> "PairList":
        """Returns pairs of paths; a mask is `""` if there is none, and so is a further file of an image or a mask."""
        pairs = cls(())
        pairs._images, pairs._masks, pairs._more = images, masks.sharing(images), tuple(more)
        pairs._planes = tuple(planes)
        return pairs

    @property
    def has_planes(self) -> bool:
        """Whether masks have a file per class."""
        return bool(self._planes)

    def where(self, keep: Iterable[Any]) -> "PairList":
        """Returns the pairs for which `keep`, one value per pair, is true."""
        kept = [bool(value) for value in keep]
        images, masks = NameList.pair(compress(zip(self._images, self._masks, strict=True), kept))
        more, planes = ([names.where(kept) for names in column] for column in (self._more, self._planes))
        return PairList.of(images, masks, more, planes)

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "PairList": ...

    def __getitem__(self, index: "int | slice") -> "Pair | PairList":
        """Returns pair `index`, or a `PairList` of a slice.

        Raises:
            IndexError: if there is no such pair.
        """
        if isinstance(index, slice):
            return PairList(self[place] for place in range(len(self))[index])
        more, planes = ([names[index] for names in column] for column in (self._more, self._planes))
        return _pair(self._images[index], self._masks[index], *more, planes=planes)

    def __iter__(self) -> Iterator[Pair]:
        if self._planes:
            return map(self.__getitem__, range(len(self)))
        return map(_pair, self._images, self._masks, *self._more)

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, PairList | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list, which it may equal

    def __repr__(self) -> str:
        return f"PairList({list(self)!r})"

    def strings(self, index: int) -> Names:
        """Returns the paths of `self[index]` as strings, without creating paths."""
        image, mask = self._images[index], self._masks[index]
        if not self._more and not self._planes:
            return image, mask, (), ()
        more, planes = (tuple(names[index] for names in column) for column in (self._more, self._planes))
        return image, mask, tuple(filter(None, more)), planes if any(planes) else ()

    def names(self, index: int) -> tuple[str, ...]:
        """Returns `self[index].names()`, without creating paths."""
        image, mask = self._images[index], self._masks[index]
        if self._planes:
            return self[index].names()
        if self._more:
            return tuple(filter(None, (image, *(names[index] for names in self._more), mask)))
        return (image, mask) if mask else (image,)


def _columns(rows: list[tuple[str, ...]], count: int) -> tuple[NameList, ...]:
    """Returns the first, second, ... name of each of `count` rows, "" where a row is shorter or missing."""
    rows.extend([()] * (count - len(rows)) if rows else ())
    return tuple(
        NameList(names[place] if place < len(names) else "" for names in rows)
        for place in range(max(map(len, rows), default=0))
    )


def _pair(image: str, mask: str, *more: str, planes: Sequence[str] = ()) -> Pair:
    files = tuple(Path(path) if path else None for path in planes) if any(planes) else ()
    return Pair(Path(image), Path(mask) if mask else None, tuple(map(Path, filter(None, more))), files)


def pair_by_key(
    images: Mapping[str, Path],
    masks: Mapping[str, Path] | None,
    where: str,
    missing: str,
    advice: str = "",
    explain: Callable[[], str] = str,
) -> PairList:
    """Pairs images and masks with the same key; returns them sorted by key.

    Args:
        images: key -> image.
        masks: key -> mask; None if there are no masks at all (a test split).
        where: dataset, split and folder, for messages.
        missing: `"error"` or `"skip"`.
        advice: where to get the missing files, for the message.
        explain: called if files have no partner; returns how their names differ and what to do, or "".

    Raises:
        DatasetNotFoundError: if an image has no mask or a mask has no image and `missing` is `"error"`, or if no image
            has a mask; the message names the first few.
    """
    images = FileTable.of(images)
    if masks is None:
        return PairList.of(images.paths, NameList("" for _ in images))
    masks = FileTable.of(masks)
    has_mask, has_image = matched(images, masks)
    paired, unpaired_images, unpaired_masks = images.where(has_mask), images.where(~has_mask), masks.where(~has_image)
    if unpaired_images or unpaired_masks:
        parts = [
            f"{noun} without {partner}: {len(unpaired)} ({first_few(path.name for path in unpaired.values())})"
            for unpaired, noun, partner in (
                (unpaired_images, "images", "a mask"),
                (unpaired_masks, "masks", "an image"),
            )
            if unpaired
        ]
        message = f"{where}: {len(images)} images and {len(masks)} masks do not pair; {', '.join(parts)}"
        if missing == "error" or not paired:
            if explanation := explain():
                raise DatasetNotFoundError(f"{message}. {explanation}")
            if not paired and len(images) == len(masks):
                message += ". If each mask belongs to an image, give both the same name"
            remedies = ["Files are paired by name: add or remove the files listed"]
            remedies += ["leave them out with missing='skip'"] * bool(paired) + [advice] * bool(advice)
            raise DatasetNotFoundError(f"{message}. {_either(remedies)}")
        # if most are left out, names probably differ by something that an option takes away
        # and if as many images as masks are, their numbers may be shifted
        is_odd = 2 * len(paired) < max(len(images), len(masks)) or len(unpaired_images) == len(unpaired_masks)
        hint = f". {explain()}" if is_odd else ""
        warnings.warn(f"{message}; these are left out{hint.rstrip('. ')}", stacklevel=5)
    return PairList.of(paired.paths, masks.where(has_image).paths)


def files_by_stem(folder: Path, suffixes: Collection[str], *, first: bool = False) -> FileTable:
    """Returns stem -> file for the files in `folder` with one of `suffixes` (upper or lower case), sorted by stem.

    Stems are in composed Unicode, so that names from macOS and from other systems are equal. Hidden files are left out.
    The result is empty if the folder does not exist.

    Args:
        folder: the folder.
        suffixes: of the files, in lower case.
        first: whether of two files that share a stem the first is taken, instead of an error.

    Raises:
        DatasetNotFoundError: if two files share a stem, as a.png and a.jpg do: it is unclear which one has the mask.
    """

    def found() -> Iterator[tuple[str, str]]:
        start = start_of_paths(folder)
        for name in _names(folder):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of a path they are slower
            if suffix.lower() in suffixes:
                yield same_name(stem), start + name

    def same(_: str, one: str, other: str) -> DatasetNotFoundError:
        return DatasetNotFoundError(
            f"{folder} contains both {Path(one).name} and {Path(other).name}: files are paired by their name without "
            "the suffix, so it must be unique; remove or rename one of them"
        )

    return FileTable(found(), None if first else same)


def start_of_paths(folder: Path) -> str:
    """Returns what a name in a folder follows in the string of its path."""
    return str(folder / "_")[:-1]


def describe_folder(folder: Path, suffixes: Collection[str], noun: str) -> str:
    """Describes the content of `folder` for messages: `"/data/x: 0 images, 12 other entries (.gif)"`."""
    if not folder.is_dir():
        return f"{folder}: no such folder"
    others = Counter(Path(name).suffix.lower() or "no suffix" for name in _names(folder))
    matching = sum(others.pop(suffix, 0) for suffix in suffixes)
    description = f"{folder}: {matching} {noun}"
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(3))
        description += f", {others.total()} other entries ({kinds})"
    return description


def first_few(names: Iterable[str]) -> str:
    """Returns the first five names and the number of the others, for messages.

    Names with characters that are not visible are quoted, with these as escapes.
    """
    names = iter(names)
    listed = [shown(name) for name in islice(names, _MOST_NAMED)]
    others = sum(1 for _ in names)
    return ", ".join(listed) + (f" and {others} more" if others else "")


def _either(remedies: list[str]) -> str:
    return remedies[0] if len(remedies) == 1 else f"{', '.join(remedies[:-1])}, or {remedies[-1]}"


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - a path each is slow
    names.sort()
    return names
