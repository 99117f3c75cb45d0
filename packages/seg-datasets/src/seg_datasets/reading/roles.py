"""What the names of folders and files say about their role: images, masks, or neither."""

import re

__all__ = ["fold_of", "has_role", "is_aside", "is_mask", "mask_affix", "roles_rank", "says_images", "split_template"]

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MASK_PARTS = ("mask", "label", "annot", "segment", "groundtruth", "trimap")
_MASK_WORDS = frozenset({"gt", "gts", "seg", "segs", "ann", "anns", "lbl", "target", "targets", "truth", "manual"})
_NOT_MASKS = ("unlabel", "unmask", "unannot")
_ASIDE = frozenset({"viz", "vis", "visual", "visualization", "visualizations", "overlay", "overlays", "preview"})
_LATER = _ASIDE | {"color", "colors", "instance", "instances", "depth"}  # of several masks, less likely the ids
_FOLD = re.compile(r"(?<![a-z])(?:fold|cv)[_\-. ]?[0-9]+$", re.IGNORECASE)  # the same files are in each
# the name of a split in that of a folder: train, train_images, trainannot
_SPLIT = {
    "train": re.compile(r"(?<![a-z])(?:training|train)(?=annot|mask|label|gt|[^a-z]|$)", re.IGNORECASE),
    "val": re.compile(r"(?<![a-z])(?:validation|valid|val)(?=annot|mask|label|gt|[^a-z]|$)", re.IGNORECASE),
    "test": re.compile(r"(?<![a-z])(?:testing|test)(?=annot|mask|label|gt|[^a-z]|$)", re.IGNORECASE),
}


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


def is_mask(name: str) -> bool:
    """Returns whether a name says that it is that of a mask: a_gtFine_labelIds, SegmentationClass, trainannot."""
    return any(
        word in _MASK_WORDS or (any(part in word for part in _MASK_PARTS) and not word.startswith(_NOT_MASKS))
        for word in _words(name)
    )


def says_images(name: str) -> bool:
    """Returns whether a name says that it is that of images."""
    return any(word in name.lower() for word in ("image", "img", "photo", "rgb"))


def has_role(name: str) -> bool:
    """Returns whether the name of a folder says what is in it, so that others beside it hold something else."""
    return is_mask(name) or says_images(name) or is_aside(name) or bool(_FOLD.search(name))


def fold_of(place: str) -> tuple[str, ...]:
    """Returns the steps of a path that name a fold: images and masks are in the same one."""
    return tuple(step for step in place.split("/") if _FOLD.search(step))


def is_aside(name: str) -> bool:
    """Returns whether a name says that it is made to look at, such as a_overlay."""
    return bool(_words(name) & _ASIDE)


def roles_rank(name: str) -> int:
    """Returns 1 for masks that are less likely those of the ids, such as a_gtFine_color; else 0."""
    return int(bool(_words(name) & _LATER))


def mask_affix(stem: str) -> tuple[str, str]:
    """Returns what the name of a mask has before and after that of its image; ("", "") if it does not say so.

    `a_01_mask` has `("", "_mask")`, `mask_01` has `("mask_", "")`.
    """
    steps = list(re.finditer(r"[^_\-. ]+", stem))
    for place, step in enumerate(steps):
        if not is_mask(step[0]):
            continue
        if place:
            start = steps[place - 1].end()
            return "", stem[start:]
        head = re.match(r"[^_\-. 0-9]+[_\-. ]*", stem)
        return (head[0] if head else ""), ""
    return "", ""


def split_template(place: str) -> tuple[str, str, str]:
    """Returns a path with `{split}` for the name of a split in it, the split, and the name; else itself, "" and ""."""
    for split, pattern in _SPLIT.items():
        found = pattern.findall(place)
        if len(found) == 1:
            return pattern.sub("{split}", place), split, found[0]
    return place, "", ""
