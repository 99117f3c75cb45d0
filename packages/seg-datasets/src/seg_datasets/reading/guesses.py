"""Looks for images and masks anywhere below a folder, by what the names of folders and files say."""

import itertools
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg_core.errors import UserError
from seg_core.files.opening import opened
from seg_datasets.reading.advice import several_masks
from seg_datasets.reading.differences import Hint, find_hint, options_text, try_layout
from seg_datasets.reading.file_table import matched
from seg_datasets.reading.folder_layouts import FolderLayout
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, describe_folder, first_few
from seg_datasets.reading.roles import (
    fold_of,
    has_role,
    is_aside,
    is_mask,
    mask_affix,
    roles_rank,
    says_images,
    split_template,
)
from seg_datasets.reading.splits import SPLITS
from seg_datasets.reading.text import shown

__all__ = ["left_out", "search_folders"]

_DEPTH = 4
_MOST_FOLDERS = 20000
_MOST_NAMED = 12
_MOST_SIDES = 10  # sets of images, and of masks, that are tried with each other
_SUFFIXES = frozenset({*IMAGE_SUFFIXES, *MASK_SUFFIXES})
_LOSSY = (".jpg", ".jpeg", ".webp")


@dataclass
class _Side:
    """Files that may be the images, or the masks."""

    template: str
    head: str = ""
    tail: str = ""
    is_literal: bool = False  # the name is `head`, as in a1/label.png and a2/label.png
    suffix: str = ""  # of all files, if they have one
    paths: list[Path] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)

    def folder(self) -> str:
        """Returns the pattern of all files in the folders."""
        steps = self.template.split("/")
        while len(steps) > 1 and steps[-1] == "*":  # a folder is read with those below it
            steps.pop()
        folder = "/".join(steps)
        if "*" not in folder:
            return folder
        return f"{folder}/**/*" if folder != self.template else f"{folder}/*"

    def pattern(self, with_suffix: bool = True) -> str:
        """Returns the pattern of these files among others in the folders."""
        name = self.head if self.is_literal else f"{self.head}*{self.tail}"
        return f"{'' if self.template == '.' else f'{self.template}/'}{name}{self.suffix * with_suffix}"


def search_folders(root: Path) -> tuple[Hint | None, str]:
    """Looks for images and masks anywhere below a folder.

    A layout needs a reason: the name of a folder or a file says mask (label, gt, ...) on one side only, or files of one
    name are beside each other as JPEG and PNG. It never leaves out more images than it pairs.

    Returns:
        The layout that pairs most images, or None; and a sentence about what to do without one, "" if there are no
        images.
    """
    counts, sides = _sides(root)
    images, masks = sides
    scored: list[tuple[tuple[int, ...], Hint]] = []
    for image, mask in itertools.product(images, masks):
        if (found := _tried(root, image, mask, images, masks)) is not None:
            scored.append(found)
    described = "; ".join(describe_folder(root / place, tuple(_SUFFIXES), "images") for place in counts[:_MOST_NAMED])
    if len(counts) > _MOST_NAMED:
        described += f"; and {len(counts) - _MOST_NAMED} more folders"
    advice = f"Name the folders with images=... and masks=...; there are {described}" if described else ""
    if not scored:
        several = next(filter(None, itertools.starmap(_several, itertools.product([root], images, masks))), "")
        return None, several or advice
    best = max(score for score, _ in scored)
    equal = list({hint.layout: hint for score, hint in scored if score == best}.values())
    if len(equal) > 1:
        fitting = "; or ".join(options_text(hint.layout) for hint in equal[:4])
        return None, f"Several layouts fit equally well, choose one: {fitting}"
    hint = equal[0]
    if _leaves_most(root, hint.layout, images):
        return None, advice
    told, may_skip = _unpaired(root, hint)
    others = list(filter(None, [told, left_out(root, hint.layout)]))
    return replace(hint, others="; ".join(others), may_skip=may_skip), advice


def _several(root: Path, image: _Side, mask: _Side) -> str:
    """Returns a sentence if images have several masks each, or ""."""
    layout = _layout(image, mask, (image, mask))
    try:
        files = layout.files(root, "train" if layout.has_split_folders else "all") if layout is not None else None
    except UserError:
        return ""
    return several_masks(files.images, files.masks) if files is not None else ""


def _unpaired(root: Path, hint: Hint) -> tuple[str, bool]:
    """Returns a sentence about what a layout reads and does not pair, or "", and whether it may be skipped."""
    if hint.pairs == hint.images:
        return "", False
    files = hint.layout.files(root, "train" if hint.layout.has_split_folders else "all")
    alone = [path.name for path in files.images.where(~matched(files.images, files.masks)[0]).values()]
    if more := [name for name in alone if is_mask(Path(name).stem)]:
        return (
            f"{len(more)} files look like further masks of images that have one ({first_few(more)}): one mask per "
            "image is read, so merge the masks of an image into one file first"
        ), False
    return f"images without a mask: {len(alone)} ({first_few(alone)})", True


def left_out(root: Path, layout: FolderLayout) -> str:
    """Returns a sentence about the files with images below a folder that a layout does not read, or ""."""
    used: set[Path] = set()
    for split in SPLITS if layout.has_split_folders else ("all",):
        used |= _read(root, layout, split)
    (images, of_train, _), (masks, *_) = split_template(layout.images), split_template(layout.masks)
    if of_train == "train" and "{split}" in masks:  # test images are told elsewhere
        used |= _read(root, replace(layout, images=images, masks=masks), "test")
    others: Counter[str] = Counter()
    examples = {}
    for folder, names in _walk(root):
        place = folder.relative_to(root).as_posix()
        unused = [name for name in names if folder / name not in used]
        if unused:
            others[place] += len(unused)
            examples[place] = unused[0]
    if not others:
        return ""
    named = ", ".join(f"{count} in {place} such as {shown(examples[place])}" for place, count in others.most_common(5))
    more = f" and {len(others) - 5} more folders" if len(others) > 5 else ""
    total = others.total()
    return f"{total} other {'image is' if total == 1 else 'images are'} left out: {named}{more}"


# ---- sets of images and of masks -------------------------------------------------------------------------------------


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields folders with the names of the images in them; hidden ones are left out."""
    for number, (folder, folders, names) in enumerate(os.walk(root)):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < _DEPTH else []
        found = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES]
        if found:
            yield Path(folder), sorted(found)
        if number >= _MOST_FOLDERS:
            return


def _sides(root: Path) -> tuple[list[str], tuple[list[_Side], list[_Side]]]:
    places = {folder.relative_to(root).as_posix(): names for folder, names in _walk(root)}
    templates = _templates(list(places))
    stems: dict[str, Counter[str]] = defaultdict(Counter)
    for place, names in places.items():
        stems[templates[place][0]].update({Path(name).stem for name in names})
    found: tuple[dict[tuple[str, ...], _Side], ...] = ({}, {})
    common = os.path.commonpath([f"/{place}" for place in places]).strip("/") if places else ""
    for place, names in places.items():
        template, split = templates[place]
        below = place[len(common) :] if len(places) > 1 else ""
        in_masks = is_mask(below.rsplit("/", 1)[-1]) or (is_mask(below) and not says_images(below.rsplit("/", 1)[-1]))
        for name in names:
            stem, suffix = Path(name).stem, Path(name).suffix.lower()
            head, tail = mask_affix(stem)
            literal = stem if stems[template][stem] > 1 and not any(map(str.isdecimal, stem)) else ""
            to_masks = in_masks or bool(head or tail)
            if to_masks and suffix not in MASK_SUFFIXES:
                continue
            if not to_masks and (is_aside(below) or is_aside(stem) or suffix not in IMAGE_SUFFIXES):
                continue
            # in one folder, JPEG images may be beside their masks in PNG
            kind = "" if to_masks else ("lossy" if suffix in _LOSSY else "lossless")
            head = literal or (head if stem != head else "")
            side = found[to_masks].setdefault(
                (template, head, tail, literal, kind), _Side(template, head, tail, bool(literal), suffix)
            )
            side.suffix = side.suffix if side.suffix == suffix else ""
            side.paths.append(root / place / name)
            side.splits.add(split)
    images, masks = (
        sorted(side.values(), key=lambda one: (-len(one.paths), one.template))[:_MOST_SIDES] for side in found
    )
    beside = {image.template for image in images if image.suffix in _LOSSY}
    masks += [image for image in images if image.suffix in MASK_SUFFIXES and image.template in beside]
    return list(places), (images, masks)


def _templates(places: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns folder -> its pattern and its split; folders that differ by a name without a role have one pattern."""
    split_of = {place: split_template(place) for place in places}
    splits = {split for _, split, _ in split_of.values()} - {""}
    if "train" not in splits or len(splits) < 2:  # there is nothing that {split} would tell apart
        split_of = {place: (place, "", "") for place in places}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for template, _, _ in split_of.values():
        key = tuple(step if has_role(step) or "{split}" in step else "*" for step in template.split("/"))
        groups[key].append(template)
    named: dict[str, str] = {}
    of_masks = {
        (template.rpartition("/")[0], template)
        for template, _, _ in split_of.values()
        if is_mask(template.rpartition("/")[2])
    }
    for key, members in groups.items():
        for member in members:
            # folders beside one of masks may be images and others of the same scenes, as rgb and depth
            beside = {parent for parent, name in of_masks if name != member}
            is_side = member.rpartition("/")[0] in beside
            named[member] = "/".join(
                own
                if step != "*"
                or (is_side and place == len(key) - 1)
                or len({other.split("/")[place] for other in members}) == 1
                else "*"
                for place, (step, own) in enumerate(zip(key, member.split("/"), strict=True))
            )
    return {place: (named[template], split) for place, (template, split, _) in split_of.items()}


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _layout(image: _Side, mask: _Side, every: Sequence[_Side]) -> FolderLayout | None:
    """Returns the layout of two sets of files, or None if nothing says which of them are the masks."""
    if image is mask or ("{split}" in mask.template and "{split}" not in image.template):
        return None
    if fold_of(image.template) != fold_of(mask.template):
        return None
    alone = Counter(side.template for side in {id(side): side for side in every}.values())
    patterns = [
        side.folder()
        if alone[side.template] == 1 and side.template != "."
        else side.pattern(side is mask or side.is_literal or not (mask.head or mask.tail))
        for side in (image, mask)
    ]
    try:
        return FolderLayout(images=patterns[0], masks=patterns[1])
    except UserError:
        return None


def _tried(
    root: Path, image: _Side, mask: _Side, images: Sequence[_Side], masks: Sequence[_Side]
) -> tuple[tuple[int, ...], Hint] | None:
    """Returns a layout of two sets of files, and how good it is; None if it does not pair most of the images."""
    if mask in images and (mask.template != image.template or image.suffix not in _LOSSY):
        return None  # nothing says that these are masks
    if (layout := _layout(image, mask, (*images, *masks))) is None:
        return None
    split = "train" if layout.has_split_folders else "all"
    try:
        files = layout.files(root, split)
    except UserError:
        return None
    hint = try_layout(root, layout, split)
    if files.images and files.masks and (hint is None or not hint.is_complete):
        hint = find_hint(root, layout, split, files) or hint
    if hint is None or not hint.pairs or 2 * hint.pairs < hint.images:
        return None
    bands = _channels(files.masks) == 1 and _channels(files.images) > 1
    name = f"{mask.template}/{mask.head}{mask.tail}"
    return (hint.pairs, says_images(image.template), -roles_rank(name), bands, -len(options_text(hint.layout))), hint


def _leaves_most(root: Path, layout: FolderLayout, images: Sequence[_Side]) -> bool:
    """Returns whether a layout leaves out more images than it reads; those of test do not count."""
    read = set.union(*(_read(root, layout, split) for split in SPLITS))
    candidates = {path for side in images for path in side.paths}
    others = {path for side in images if "test" not in side.splits for path in side.paths} - read
    return len(others) > len(candidates & read)


def _read(root: Path, layout: FolderLayout, split: str) -> set[Path]:
    """Returns the images and masks that a layout reads."""
    try:
        files = layout.files(root, split)
    except UserError:
        return set()
    planes = (path for paths in files.planes.values() for path in paths if path is not None)
    return {*files.images.values(), *files.masks.values(), *planes}


def _channels(files: Mapping[str, Path]) -> int:
    """Returns the number of channels of the first file; a palette index is one."""
    first = next(iter(files.values()), None)
    if first is None:
        return 0
    try:
        with opened(first, "image", None, sys.maxsize) as (image, _):
            return len(image.getbands())
    except UserError:
        return 0
