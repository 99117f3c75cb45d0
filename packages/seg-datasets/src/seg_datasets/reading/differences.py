"""Explains why images and masks do not pair: what their names differ by, and which options pair them."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from seg_core.errors import UserError
from seg_datasets.reading.advice import several_masks, shifted_numbers
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_layouts import Files, FolderLayout
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES

__all__ = ["Hint", "find_hint", "options_text", "try_layout", "what_differs"]

_SAMPLES = 3  # images whose mask is looked for
_MOST_MASKS = 300  # that are compared with each
_MOST_TRIED = 12  # layouts


@dataclass(frozen=True)
class Hint:
    """A layout that pairs more files than the one that was tried.

    Attributes:
        layout: the layout.
        pairs: number of pairs with it.
        images, masks: numbers of files with it.
        others: a sentence about files that it leaves out, or "".
        may_skip: whether it may be used with `missing="skip"`.
    """

    layout: FolderLayout
    pairs: int
    images: int
    masks: int
    others: str = ""
    may_skip: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every image and every mask has its partner."""
        return self.pairs == self.images == self.masks

    def sentence(self, tried: FolderLayout) -> str:
        """Returns the advice: `"With mask_suffix='_mask' all 60 pair"`."""
        count = (
            f"all {self.pairs}" if self.is_complete else f"{self.pairs} of {self.images} images and {self.masks} masks"
        )
        options = options_text(self.layout, tried) + ", missing='skip'" * self.may_skip
        return f"With {options} {count} pair" + f"; {self.others}" * bool(self.others)


def options_text(layout: FolderLayout, other: FolderLayout | None = None) -> str:
    """Returns a layout as arguments; with `other` only those that differ from it."""
    names = ("images", "masks", "mask_suffix", "pair_by", "split_file")
    other = other or FolderLayout()
    changed = [name for name in names if getattr(layout, name) != getattr(other, name)]
    if {"images", "masks"} & set(changed):
        changed = list(dict.fromkeys(["images", "masks", *changed]))  # these are given together
    return ", ".join(f"{name}={getattr(layout, name)!r}" for name in changed)


def find_hint(root: Path, layout: FolderLayout, split: str, files: Files) -> Hint | None:
    """Returns the layout that pairs most files, tried on the files of a split; None if none is better than `layout`.

    Prefixes and suffixes of names are found by comparing a few images with the masks, and folders may be left out if
    names are unique.
    """
    if several_masks(files.images, files.masks):
        return None  # each of the suffixes pairs all images and drops the other masks
    best: Hint | None = None
    now = _num_pairs(files)
    for changed in itertools.islice(_layouts(layout, files), _MOST_TRIED):
        hint = try_layout(root, changed, split)
        # fewer than half are chance
        if hint is not None and hint.pairs > max(now, best.pairs if best else 0) and 2 * hint.pairs >= hint.images:
            best = hint
            if best.is_complete:
                break
    dropped = len(files.masks) - best.masks if best else 0
    if best and best.pairs == best.images and best.layout.mask_suffix and dropped > 0:
        best = replace(best, others=f"{dropped} other masks are left out")
    return best


def what_differs(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """Returns a sentence about names that no option pairs, or "": several masks per image, shifts, zeros, folders."""
    if told := several_masks(images, masks) or shifted_numbers(images, masks):
        return told
    alone, others = map(list, _alone(images, masks))
    if not alone or not others:
        return ""

    def plain(key: str) -> str:
        return re.sub(r"[0-9]+", lambda run: run[0].lstrip("0") or "0", key.casefold())

    by_plain = {plain(key): key for key in others}
    alike = [(key, by_plain[plain(key)]) for key in alone if plain(key) in by_plain]
    if len(alike) == len(alone) and len({plain(key) for key in alone}) == len(alone) and len(by_plain) == len(others):
        image, mask = alike[0]
        return (
            f"Numbers in their names have different numbers of zeros ({images[image].name} and {masks[mask].name}): "
            "rename the files so that both have the same"
        )
    names = {key.rsplit("/", 1)[-1] for key in others}
    if sum(key.rsplit("/", 1)[-1] in names for key in alone) == len(alone):
        return (
            "They are in different folders, and names in these are not unique: give both the same folders, as in "
            f"images/{alone[0]} and masks/{alone[0]}"
        )
    return ""


# ---- layouts to try --------------------------------------------------------------------------------------------------


def try_layout(root: Path, layout: FolderLayout, split: str) -> Hint | None:
    """Returns how many files of a split a layout pairs; None if it cannot be used for them."""
    try:
        files = layout.files(root, split)
    except UserError:
        return None  # such as names that are not unique
    return Hint(layout, _num_pairs(files), len(files.images), len(files.masks))


def _num_pairs(files: Files) -> int:
    return int(matched(files.images, files.masks)[0].sum())


def _alone(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[FileTable, FileTable]:
    """Returns the images without a mask and the masks without an image."""
    tables = FileTable.of(images), FileTable.of(masks)
    has_mask, has_image = matched(*tables)
    return tables[0].where(~has_mask), tables[1].where(~has_image)


@dataclass(frozen=True)
class _Affixes:
    """What stands before and after the common part in the names of images and masks."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""


def _layouts(layout: FolderLayout, files: Files) -> Iterator[FolderLayout]:
    """Yields layouts that may pair the files, the likely ones first."""
    # files with the same name in different ones of the same folders are other files
    by_name = _folders_of(files.images).isdisjoint(_folders_of(files.masks))
    if by_name:
        yield replace(layout, pair_by="name")
    for affixes in _affixes(files):
        changed = _with_affixes(layout, files, affixes)
        if changed is not None:
            yield changed
            if by_name:
                yield replace(changed, pair_by="name")


def _folders_of(files: Mapping[str, Path]) -> set[str]:
    return {key.rpartition("/")[0] for key in files}


def _affixes(files: Files) -> list[_Affixes]:
    """Returns the affixes that make most names equal, the best first."""
    image_names, mask_names = ([key.rsplit("/", 1)[-1] for key in table] for table in _alone(files.images, files.masks))
    if not image_names or not mask_names:
        return []
    step = max(len(image_names) // _SAMPLES, 1)
    found: dict[_Affixes, None] = {}
    for image in image_names[::step][:_SAMPLES]:
        for mask in mask_names[:_MOST_MASKS]:
            if (affixes := _compare(image, mask)) is not None:
                found[affixes] = None
        for mask in mask_names[_MOST_MASKS:]:
            if mask.startswith(image):
                found[_Affixes(mask_suffix=mask[len(image) :])] = None
            elif mask.endswith(image):
                found[_Affixes(mask_prefix=mask[: -len(image)])] = None
    masks = set(mask_names)

    def pairs(affixes: _Affixes) -> int:
        start, end = affixes.image_prefix, affixes.image_suffix
        count = 0
        for name in image_names:
            if len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end):
                core = name[len(start) : len(name) - len(end)]
                count += f"{affixes.mask_prefix}{core}{affixes.mask_suffix}" in masks
        return count

    counted = [(pairs(affixes), affixes) for affixes in found]
    # of equal counts the one with the shortest affixes, which is the longest common part
    ranked = sorted(counted, key=lambda item: (-item[0], sum(map(len, vars(item[1]).values()))))
    return [affixes for count, affixes in ranked[:_SAMPLES] if count]


def _compare(image: str, mask: str) -> _Affixes | None:
    """Returns the affixes around the longest common part of two names; None if it would divide a number."""
    block = SequenceMatcher(None, image, mask, autojunk=False).find_longest_match()
    core = image[block.a : block.a + block.size]
    inner = core.strip("_-. ")
    start = core.find(inner)
    # a separator belongs to the affix beside it: _image and _mask, not image and mask
    left = start if (block.a and block.b) or not inner else 0
    right = start + len(inner) if block.a + block.size < len(image) and block.b + block.size < len(mask) else len(core)
    affixes = _Affixes(
        image[: block.a + left],
        image[block.a + right :],
        mask[: block.b + left],
        mask[block.b + right :],
    )
    core = core[left:right]
    divided = core[:1].isdecimal() and any(
        text[-1:].isdecimal() for text in (affixes.image_prefix, affixes.mask_prefix)
    )
    divided |= core[-1:].isdecimal() and any(
        text[:1].isdecimal() for text in (affixes.image_suffix, affixes.mask_suffix)
    )
    return None if divided or not core else affixes


def _with_affixes(layout: FolderLayout, files: Files, affixes: _Affixes) -> FolderLayout | None:
    if not any((affixes.image_prefix, affixes.image_suffix, affixes.mask_prefix)):
        return replace(layout, mask_suffix=f"{affixes.mask_suffix}{layout.mask_suffix}")
    images = _pattern(layout.images, files.images, affixes.image_prefix, affixes.image_suffix)
    masks = _pattern(layout.masks, files.masks, affixes.mask_prefix, affixes.mask_suffix + layout.mask_suffix)
    return None if images is None or masks is None else replace(layout, images=images, masks=masks, mask_suffix="")


def _pattern(pattern: str, files: Mapping[str, Path], prefix: str, suffix: str) -> str | None:
    """Returns a pattern for the files of another one whose names have a prefix and a suffix."""
    kinds = {path.suffix.lower() for path in files.values()}
    kind = kinds.pop() if len(kinds) == 1 else ""
    steps = pattern.strip("/").split("/")
    if "*" not in pattern:
        steps += ["**"] * any("/" in key for key in files) + ["*"]
    name = steps[-1]
    if name.lower().endswith((*IMAGE_SUFFIXES, *MASK_SUFFIXES)):
        name, kind = name[: name.rindex(".")], name[name.rindex(".") :]
    if name.count("*") != 1:
        return None
    return "/".join([*steps[:-1], name.replace("*", f"{prefix}*{suffix}") + kind])
