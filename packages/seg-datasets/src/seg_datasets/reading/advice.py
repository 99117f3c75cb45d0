"""Says what is wrong with files that no option makes usable: several masks per image, shifts, other formats."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from seg_core.errors import UserError
from seg_core.parsing import read_json
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, first_few
from seg_datasets.reading.roles import is_mask
from seg_datasets.reading.splits import SplitFile, names_in_list

__all__ = ["conversion_advice", "lists_advice", "several_masks", "shifted_numbers"]

_MOST_LISTS = 40
_LONGEST_LINE = 1 << 16
_MOST_JSON = 1 << 24  # bytes; of a larger file the beginning tells the kind
_FEW = 10  # fewer than one of so many images
_LOSSY = (".jpg", ".jpeg", ".webp")
_LIST_NAME = re.compile(
    r"(?<![a-z])(?:train|training|trainval|val|valid|validation|test|testing|dev|folds?|splits?)(?![a-z])",
    re.IGNORECASE,
)


def several_masks(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """Returns a sentence if images have several numbered masks each, such as one per object; else "".

    Numbered masks are a_0 and a_1, or a_mask and a_mask_1, for the image a; or several masks in a folder of their own
    beside a single image, as in a/images/a.png and a/masks/0.png.

    Args:
        images: key -> image.
        masks: key -> mask, all of them.
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    known = set(images)
    for key in masks:
        if key in known:
            found[key][""].append(key)
            continue
        for place in reversed([match.start() for match in re.finditer(r"[_\-. ]", key)]):
            if (image := key[:place]) in known:
                found[image][re.sub(r"[_\-. 0-9]+$", "", key[place:])].append(key)
                break
    several = {image: members for image, tails in found.items() if len(members := max(tails.values(), key=len)) > 1}
    if _FEW * len(several) < len(images):  # masks of images that are missing, or a few that are told as left out
        several = {}
    if not several:
        by_folder: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list))
        for files, folders in zip((images, masks), by_folder, strict=True):
            for key in files:
                folders[key.rpartition("/")[0]].append(key)
        alone = {folder: keys[0] for folder, keys in by_folder[0].items() if len(keys) == 1 and folder}
        several = {image: by_folder[1].get(folder, []) for folder, image in alone.items()}
        several = {image: members for image, members in several.items() if len(members) > 1}
        if 2 * len(several) < len(images):
            return ""
    image, members = next(iter(several.items()))
    return (
        f"{len(several)} of {len(images)} images have several masks, as {images[image].name} has "
        f"{first_few(masks[key].name for key in members)}. One mask per image is read: merge the masks of an image "
        "into one file with one id per class, named as the image"
    )


def shifted_numbers(images: Collection[str], masks: Collection[str]) -> str:
    """Returns a sentence if the numbers of images and masks are the same but for a constant, or ""."""
    shifts = set()
    ends = []
    if len(images) != len(masks) or len(images) < 2 or set(images) == set(masks):
        return ""
    numbered = []
    for keys in (images, masks):
        split = [re.fullmatch(r"(.*?)([0-9]+)", key, re.DOTALL) for key in keys]
        if not all(split):
            return ""
        numbered.append(sorted((match[1], int(match[2]), match[0]) for match in split if match))
    for image, mask in zip(*numbered, strict=True):
        if image[0] != mask[0]:
            return ""
        shifts.add(mask[1] - image[1])
        ends.append((image[2], mask[2]))
    if len(shifts) != 1 or shifts == {0}:  # 0 is a matter of zeros before numbers
        return ""
    return (
        f"The numbers look shifted by {abs(shifts.pop())}: images go from {ends[0][0]} to {ends[-1][0]}, masks from "
        f"{ends[0][1]} to {ends[-1][1]}. Compare the mask {ends[0][1]} with the images {ends[0][0]} and {ends[0][1]}; "
        "if it shows the first, rename the masks, as files of the same name would be wrong pairs"
    )


def conversion_advice(root: Path) -> str:
    """Returns a sentence about annotations below a folder that are no masks yet, or "": JPEG, GIF, polygons, boxes."""
    lossy: list[Path] = []
    gifs: list[Path] = []
    others: dict[str, list[Path]] = defaultdict(list)
    stems: set[str] = set()
    has_masks = False
    for number, (place, folders, names) in enumerate(os.walk(root)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if number > 1000:
            break
        below = Path(place).relative_to(root).parts
        for name in sorted(names):
            stem, suffix = Path(name).stem, Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES:
                stems.add(stem)
            of_masks = is_mask(stem) or (bool(below) and is_mask(below[-1]))
            if suffix == ".gif" and of_masks:
                gifs.append(Path(place, name))
            elif suffix in _LOSSY and of_masks:
                lossy.append(Path(place, name))
            elif suffix in MASK_SUFFIXES and of_masks:
                has_masks = True
            elif suffix in (".json", ".txt", ".xml"):
                others[suffix].append(Path(place, name))
    if lossy and not has_masks:
        return (
            f"Masks in JPEG or WebP ({first_few([lossy[0].name])}) are not read, as its compression changes ids near "
            "edges. Convert them: round each pixel to the nearest id (for 0 and 255, compare with 128), save as PNG "
            "under the same name, and check that no other ids are left"
        )
    if gifs and not has_masks:
        return (
            f"Masks in GIF ({first_few([gifs[0].name])}) are not read, as programs give the colors of each GIF other "
            "numbers. Convert them to gray values in PNG, in Python with "
            "PIL.Image.open('a.gif').convert('L').save('a.png')"
        )
    if has_masks:
        return ""
    kind = next(filter(None, (_kind_of_json(path) for path in others[".json"][:5])), "")
    example = others[".json"][:1]
    if not kind and any(path.stem in stems and _is_yolo(path) for path in others[".txt"][:20]):
        kind, example = "YOLO", [path for path in others[".txt"] if path.stem in stems][:1]
    if not kind and any(path.stem in stems for path in others[".xml"]):
        kind, example = "XML", [path for path in others[".xml"] if path.stem in stems][:1]
    if not kind:
        return ""
    return (
        f"{example[0].relative_to(root).as_posix()} holds polygons or boxes ({kind}), not masks: draw them into masks "
        "first, one PNG per image with one class id per pixel"
    )


def _kind_of_json(path: Path) -> str:
    try:
        content = _content(path)
    except (OSError, ValueError):
        return ""
    if not isinstance(content, dict):
        return ""
    if "shapes" in content:
        return "labelme"
    return "COCO" if {"images", "annotations"} <= content.keys() else ""


def _content(path: Path) -> Any:
    """Returns the value in a JSON file; of a large one, such as COCO's of 450 MB, the keys near its beginning."""
    if path.stat().st_size <= _MOST_JSON:
        return read_json(path)
    with path.open("rb") as file:
        start = file.read(1 << 16)
    return dict.fromkeys(("images", "annotations")) if b'"annotations"' in start or b'"images"' in start else None


def _is_yolo(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            words = file.readline(_LONGEST_LINE).split()
        return len(words) >= 5 and all(float(word) >= 0 for word in words)
    except (OSError, ValueError):
        return False


def lists_advice(root: Path, images: Iterable[str], used: SplitFile | None) -> str:
    """Returns a sentence about lists of images below a folder that are not used, or "".

    Args:
        root: the folder.
        images: keys of the images.
        used: lists that are used; then the others are not told.
    """
    if used is not None:
        return ""
    keys = list(images)
    found: list[str] = []
    candidates = (
        path
        for pattern in ("*", "*/*", "*/*/*")
        for path in sorted(root.glob(pattern))
        if path.suffix.lower() in (".txt", ".csv") and _LIST_NAME.search(path.stem) and not path.name.startswith(".")
    )
    for path in islice(candidates, _MOST_LISTS):
        try:
            names = names_in_list(path, keys)
        except (UserError, OSError):
            continue
        if names:
            found.append(path.relative_to(root).as_posix())
    if not found:
        return ""
    return (
        f"lists of images were found and not used: {first_few(found)}. To use them, set split_file, as in "
        "split_file = { train = 'train.txt', val = 'val.txt' }; a list has one name per line and no header"
    )
