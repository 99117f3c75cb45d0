"""Compares the sizes of images, by their headers, with those of their masks."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seg_core.errors import CorruptFileError, counted
from seg_core.files.channel_files import channels_size
from seg_core.files.images import Header, check_image, read_header
from seg_core.files.scan import MaskSummary
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_datasets.reading.pairs import first_few

__all__ = ["ImageSizes", "is_scaled", "spread"]

_MOST_HEADERS = 2000
_SAME_SHAPE = 0.02  # relative difference of the scales of both sides


class ImageSizes:
    """Headers of images, of a spread sample if there are many.

    Args:
        paths: the images.
        max_pixels: larger images are an error.
        channels: the channels of the images.

    Raises:
        UserError: if an image cannot be opened, or is of a kind that a dataset does not read, such as 16 bits.
    """

    def __init__(self, paths: Sequence[Path], max_pixels: int, channels: ImageChannels = RGB_CHANNELS) -> None:
        step = max(-(-len(paths) // _MOST_HEADERS), 1)
        self.headers: dict[Path, Header] = {}
        for path in paths[::step]:
            if not channels.is_rgb8:
                self.headers[path] = _header(path)
                continue
            header = read_header(path)
            if header.unlike or header.width * header.height > max_pixels:
                check_image(path, max_pixels=max_pixels)
            self.headers[path] = header

    def sizes(self, orientation: str) -> dict[Path, tuple[int, int]]:
        """Returns height and width of images as they are read."""
        return {
            path: (header.width, header.height)
            if header.orientation >= 5 and orientation == "apply"
            else (header.height, header.width)
            for path, header in self.headers.items()
        }

    def problem(
        self, names: Sequence[Sequence[str]], summaries: Mapping[str, MaskSummary], orientation: str, root: Path
    ) -> tuple[str, str]:
        """Compares sizes of images and masks.

        Args:
            names: paths of each sample: the file of the image, or its files, then the mask.
            summaries: path of a mask -> its size.
            orientation: how the orientation tag of images is handled.
            root: folder that messages name files from.

        Returns:
            A sentence, "" if all sizes are equal, and the `orientation` with which they are, or "".
        """
        own = self.sizes(orientation)
        pairs = [
            (Path(image), (summaries[mask].height, summaries[mask].width))
            for image, *_, mask in names
            if mask in summaries and Path(image) in own
        ]
        unlike = [(image, size) for image, size in pairs if own[image] != size]
        if not unlike:
            return "", ""
        other = "stored" if orientation == "apply" else "apply"
        others = self.sizes(other)
        if all(others[image] == size for image, size in pairs):
            number = counted(len(unlike), "image")
            done = "drawn on the images as stored" if other == "stored" else "drawn on the upright images"
            text = f"{number} of {len(pairs)} have an orientation tag, and the masks were {done}: orientation='{other}'"
            return text, other
        image, (height, width) = unlike[0]
        own_height, own_width = own[image]
        text = (
            f"{counted(len(unlike), 'mask')} ha{'s' if len(unlike) == 1 else 've'} another size than "
            f"{'its' if len(unlike) == 1 else 'their'} image: the mask of {_shown(image, root)} has {width}x{height} "
            f"pixels, the image {own_width}x{own_height}"
        )
        if len(unlike) > 1:
            text += f" (images: {first_few(_shown(path, root) for path, _ in unlike)})"
        if all(own[image] == size[::-1] for image, size in unlike):
            return f"{text}. Width and height are exchanged: rotate the masks as their images, or the images", ""
        if all(is_scaled(own[image], size) for image, size in unlike):
            return (
                f"{text}. The masks are scaled: resize each to the size of its image, by Image.open(MASK).resize("
                "Image.open(IMAGE).size, Image.Resampling.NEAREST).save(OUT)"
            ), ""
        return f"{text}. Were images or masks cropped, or do they belong to others?", ""


def _header(path: Path) -> Header:
    """Returns the header of an image of any channels; an array has no orientation."""
    try:
        return read_header(path)
    except CorruptFileError:
        height, width = channels_size(path)
        return Header(path.suffix[1:], width, height, 1, "")


def spread(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns smallest, median and largest (height, width) of images, each of height and width alone."""
    heights, widths = ([size[axis] for size in sizes] for axis in (0, 1))
    ways: tuple[Callable[[list[int]], int], ...] = (min, statistics.median_low, max)
    return tuple((way(heights), way(widths)) for way in ways)


def is_scaled(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Returns whether two sizes (height, width) have the same shape."""
    down, across = (one / two for one, two in zip(size, other, strict=True))
    return abs(down / across - 1) <= _SAME_SHAPE


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
