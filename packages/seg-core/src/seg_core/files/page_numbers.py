"""Which frames or pages of an image file are images of their own."""

import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

from PIL import Image

from seg_core.files.storage import HEIGHT, OVERVIEW, SUBFILE, TRANSPARENCY, WIDTH, tiff_size, tiff_tags

__all__ = ["num_pages", "page_numbers", "tiff_page_tags"]

_FRAME = 38  # bytes of a frame's header in a PNG


def num_pages(image: Image.Image) -> int:
    """Returns the number of frames or pages of the opened file of a mask; 1 for an image in memory.

    Pages of a TIFF of another size than the first, which cannot be masks of the same image, are not counted; nor are
    those that `page_numbers` leaves out.
    """
    sizes = _page_sizes(image)
    return sum(size == sizes[0] for size in sizes.values())


def page_numbers(image: Image.Image) -> list[int]:
    """Returns the numbers, for Pillow's `seek`, of the frames or pages of the opened file of an image.

    Pages of a TIFF that are smaller versions or the transparency of another page are left out, and so are previews in
    the file of a camera (MPO). An image in memory has the number 0.
    """
    sizes = _page_sizes(image)
    return [number for number, size in sizes.items() if not _is_smaller_version(size, sizes[0])]


def _page_sizes(image: Image.Image) -> dict[int, tuple[int, int]]:
    """Returns the size of each frame or page by its number, except for pages of a TIFF that belong to another one."""
    if not getattr(image, "is_animated", False):
        return {0: image.size}
    if image.format == "TIFF":
        return _tiff_page_sizes(image)
    count = int(getattr(image, "n_frames", 1))
    if image.format == "PNG" and count > _length_of(image) // _FRAME:
        raise OSError(f"its header tells of {count} frames, more than there is room for")
    if image.format != "MPO":
        return dict.fromkeys(range(count), image.size)
    place, sizes = image.tell(), {}
    for number in range(count):
        try:
            image.seek(number)
        except (EOFError, OSError, SyntaxError, ValueError):
            break  # a copy of the first image alone, whose header still lists the others
        sizes[number] = image.size
    image.seek(place)
    return sizes


def _length_of(image: Image.Image) -> int:
    file = image.fp  # type: ignore[attr-defined]  # only images from files have it
    place = file.tell()
    length: int = file.seek(0, os.SEEK_END)
    file.seek(place)
    return length


def _tiff_page_sizes(image: Image.Image) -> dict[int, tuple[int, int]]:
    file = image.fp  # type: ignore[attr-defined]  # only images from files have it
    place = file.tell()
    tags = tiff_tags(file)
    sizes, seen, number = {0: tiff_size(tags)}, {0}, 0
    while tags.next not in seen:  # a damaged file may lead back to an earlier page
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        number += 1
        if not tags.get(SUBFILE, 0) & (OVERVIEW | TRANSPARENCY):
            sizes[number] = (tags.get(WIDTH, 0), tags.get(HEIGHT, 0))
    file.seek(place)
    return sizes


def _is_smaller_version(size: tuple[int, int], of: tuple[int, int]) -> bool:
    """Returns whether an image of `size` may be an overview of another, by its aspect ratio up to rounding."""
    is_smaller = all(4 * length <= 3 * full for length, full in zip(size, of, strict=True))
    return is_smaller and abs(size[0] * of[1] - size[1] * of[0]) <= max(of)


def tiff_page_tags(file: IO[bytes]) -> Iterator[tuple[int, dict[int, Any]]]:
    """Yields the number and the tags of each page of a TIFF, without smaller versions and transparency of others."""
    tags = tiff_tags(file)
    first = (tags.get(WIDTH, 0), tags.get(HEIGHT, 0))
    yield 0, _found(tags)
    seen, number = {0}, 0
    while tags.next not in seen:  # a damaged file may lead back to an earlier page
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        number += 1
        size = (tags.get(WIDTH, 0), tags.get(HEIGHT, 0))
        if not tags.get(SUBFILE, 0) & (OVERVIEW | TRANSPARENCY) and not _is_smaller_version(size, first):
            yield number, _found(tags)


def _found(tags: Mapping[int, Any]) -> dict[int, Any]:
    """Returns the tags that have a value; damaged ones have none."""
    values = {tag: tags.get(tag) for tag in tags}
    return {tag: value for tag, value in values.items() if value is not None}
