"""Files of data sets: pairing pictures with masks, and decoding them, with errors that name the file and the remedy."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import tv_tensors

from seg_core.errors import (
    CorruptFileError,
    DatasetNotFoundError,
    InvalidArgumentError,
    LabelOutOfRangeError,
    id_ranges,
    list_ids,
    nearest,
)
from seg_core.label_map import LabelMap

__all__ = [
    "IMAGE_SUFFIXES",
    "MASK_SUFFIXES",
    "MaskReader",
    "Pair",
    "check_choice",
    "check_root",
    "check_split",
    "describe_folder",
    "files_by_stem",
    "first_few",
    "open_picture",
    "read_image",
    "read_mask",
    "read_pair",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # formats that keep ids as they are: no JPEG, no WebP

MaskReader = Callable[[Path], npt.NDArray[Any]]
"""Gives the raw ids (H, W) that a mask file holds."""

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")
_EXIF_ORIENTATION = 0x0112
_MOST_NAMED = 5
_LARGEST = 180_000_000  # pixels; aerial pictures of iSAID have up to 13000x13000


@dataclass(frozen=True)
class Pair:
    """A picture and its mask on disk; a test picture may come without."""

    image: Path
    mask: Path | None

    def names(self) -> tuple[str, ...]:
        """Returns the paths as texts."""
        return (str(self.image),) if self.mask is None else (str(self.image), str(self.mask))


def check_root(root: str | os.PathLike[str], dataset: str) -> Path:
    """Returns `root` as a path, `~` expanded.

    Raises:
        InvalidArgumentError: if it is not a path.
        DatasetNotFoundError: if there is no such folder.
    """
    if not isinstance(root, str | os.PathLike):
        raise InvalidArgumentError(
            f"{dataset}: root must be the path of a folder, got {root!r}; `seg datasets show {dataset}` prints what is "
            "expected there"
        )
    path = Path(root).expanduser()
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise DatasetNotFoundError(
            f"{dataset}: root {path} {what} (current folder: {Path.cwd()}); `seg datasets show {dataset}` prints what "
            "is expected there"
        )
    return path


def check_choice(name: str, value: object, allowed: Sequence[str], note: str = "") -> None:
    """Checks that an argument has one of a few values.

    Args:
        name: of the argument.
        value: what was given.
        allowed: the values.
        note: a sentence for the end of the message.

    Raises:
        InvalidArgumentError: if it is none of them.
    """
    if isinstance(value, str) and value in allowed:
        return
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    shown = " or ".join(map(repr, allowed))
    raise InvalidArgumentError(f"{name} must be {shown}, got {value!r}.{hint}{note and ' '}{note}")


def check_split(split: str, allowed: Sequence[str], dataset: str) -> str:
    """Returns `split` if it is one of `allowed`.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if split not in allowed:
        hint = nearest(split, allowed) if isinstance(split, str) else ""
        raise InvalidArgumentError(f"{dataset} has no split {split!r}.{hint} Allowed: {', '.join(allowed)}")
    return split


def files_by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Returns stem -> file for the files of `folder` with one of `suffixes` (any case), sorted by stem.

    Hidden files are left out. A folder that does not exist holds nothing.

    Raises:
        DatasetNotFoundError: if two files share a stem, as a.png and a.jpg do: which one belongs to the mask?
    """
    found: dict[str, Path] = {}
    for name in _names(folder):
        path = folder / name
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DatasetNotFoundError(
                f"{folder} holds both {found[path.stem].name} and {name}: files are paired by their name without the "
                "suffix, which must be unique; remove or rename one of them"
            )
        found[path.stem] = path
    return dict(sorted(found.items()))


def describe_folder(folder: Path, suffixes: Collection[str], noun: str) -> str:
    """Returns what `folder` holds, for messages: `"/data/x: 0 pictures, 12 other files (.gif)"`."""
    if not folder.is_dir():
        return f"{folder}: no such folder"
    others = Counter(Path(name).suffix.lower() or "no suffix" for name in _names(folder))
    matching = sum(others.pop(suffix, 0) for suffix in suffixes)
    text = f"{folder}: {matching} {noun}"
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(3))
        text += f", {others.total()} other entries ({kinds})"
    return text


def first_few(names: Iterable[str]) -> str:
    """Returns names for a message: the first five, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more


def read_image(path: Path) -> tv_tensors.Image:
    """Returns a picture as uint8 (3, H, W), RGB.

    Grey, palette and CMYK pictures are converted, transparency is dropped. An EXIF orientation is not applied: masks
    have none, so both are taken as their pixels are stored.

    Raises:
        CorruptFileError: if the file is not a readable 8-bit picture.
        DatasetNotFoundError: if the file is gone.
    """
    picture = open_picture(path, "picture")
    if picture.mode not in _EIGHT_BIT_MODES:
        raise CorruptFileError(
            f"picture {path} has pixels of mode {picture.mode!r}; 8-bit grey or colour is needed: convert the file"
        )
    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow wants this step before a palette with transparency becomes RGB
    pixels = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    # (H, W, 3) seen as (3, H, W): no copy, and the layout that resizing is fastest on
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))


def read_mask(path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids that a mask file holds, (H, W): palette indices, grey values, or 16-bit values as they are.

    Raises:
        CorruptFileError: if the file is not a readable picture of one channel.
        DatasetNotFoundError: if the file is gone.
    """
    picture = open_picture(path, "mask")
    if picture.mode not in _MASK_MODES:
        raise CorruptFileError(
            f"mask {path} is a colour picture (mode {picture.mode!r}); a mask holds one class id per pixel: an index "
            "PNG with 8 or 16 bits (grey or palette). Convert the colours to ids first"
        )
    ids = np.array(picture)
    if picture.mode == "I" and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 2**16:
        raise CorruptFileError(
            f"mask {path} holds 32-bit values from {ids.min()} to {ids.max()}; ids lie in 0 to 65535: convert the file"
        )
    return ids.astype(np.uint16, copy=False) if picture.mode.startswith("I") else ids.astype(np.uint8, copy=False)


def read_pair(
    pair: Pair, label_map: LabelMap, remedy: str, mask_reader: MaskReader | None = None
) -> tuple[tv_tensors.Image, tv_tensors.Mask | None]:
    """Returns picture uint8 (3, H, W) and mask (H, W) of train ids, uint8 where they fit, else int32.

    Args:
        pair: the two files.
        label_map: raw ids of the mask -> train ids.
        remedy: what a user should do about an id that `label_map` does not list, for the message.
        mask_reader: gives the raw ids of a mask file; `read_mask` if None.

    Raises:
        CorruptFileError: if a file cannot be read or the two differ in size.
        LabelOutOfRangeError: if the mask holds an id that `label_map` does not list.
        DatasetNotFoundError: if a file is gone.
    """
    image = read_image(pair.image)
    if pair.mask is None:
        return image, None
    raw = (mask_reader or read_mask)(pair.mask)
    if raw.shape != image.shape[-2:]:
        raise CorruptFileError(_size_message(pair, raw.shape, image.shape[-2:]))
    try:
        ids = label_map(raw)
    except LabelOutOfRangeError:
        raise LabelOutOfRangeError(_range_message(pair.mask, raw, label_map, remedy)) from None
    if ids.dtype != np.uint8:
        ids = ids.astype(np.int32)  # torch's uint16 lacks most operations
    return image, tv_tensors.Mask(torch.from_numpy(ids))


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def open_picture(path: Path, noun: str) -> Image.Image:
    """Returns a decoded picture, in the mode of its file.

    Raises:
        CorruptFileError: if it cannot be decoded.
        DatasetNotFoundError: if the file is gone.
    """
    try:
        with _large_pictures_allowed(), Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise DatasetNotFoundError(f"{noun} {path} is gone since the folder was listed; was it moved?") from None
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise a dozen types for damaged files, struct.error, zlib.error and SyntaxError among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorruptFileError(
            f"{noun} {path} cannot be read: {reason or type(error).__name__}; replace the file, or remove it together "
            "with its partner"
        ) from error


@contextlib.contextmanager
def _large_pictures_allowed() -> Iterator[None]:
    """Lets Pillow open official pictures without its warning; twice that size stays an error, against bombs."""
    before = Image.MAX_IMAGE_PIXELS
    if before is not None:
        Image.MAX_IMAGE_PIXELS = max(before, _LARGEST)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _range_message(path: Path, raw: npt.NDArray[Any], label_map: LabelMap, remedy: str) -> str:
    ids, counts = np.unique(raw, return_counts=True)
    listed = np.isin(ids, list(label_map.mapping))
    wrong = list_ids(ids[~listed], counts[~listed])
    allowed = id_ranges(label_map.mapping)
    return f"mask {path} holds ids that are not allowed: {wrong}. Allowed: {allowed}; {remedy}"


def _size_message(pair: Pair, mask_size: Sequence[int], image_size: Sequence[int]) -> str:
    (mask_height, mask_width), (height, width) = mask_size, image_size
    message = (
        f"mask {pair.mask} has {mask_width}x{mask_height} pixels (width x height), its picture {pair.image.name} "
        f"{width}x{height}"
    )
    with _large_pictures_allowed(), Image.open(pair.image) as picture:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation != 1:
        return message + (
            f"; the picture has EXIF orientation {orientation}, which is not applied: save it upright, without the tag"
        )
    return message + "; both must have the same size: was one of them resized or exchanged?"
