"""A contact sheet of a dataset: images with their masks over them, and a legend."""

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seg_core.checks import check_integer, is_integer
from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UnknownNameError, counted, nearest
from seg_core.files.atomic import check_folder
from seg_core.files.image_writing import check_format, write_image
from seg_core.files.mask_sources import sample_name, wrong_ids_message
from seg_core.files.scan import OnProgress, scan_dataset
from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS
from seg_core.plots.legend import add_legend, draw_name
from seg_core.plots.overlay import image_array, overlay
from seg_datasets.doctor.opening import Opened, open_splits
from seg_datasets.doctor.targets import Target
from seg_datasets.reading.class_files import Metadata
from seg_datasets.reading.image_sizes import ImageSizes
from seg_datasets.reading.paired import PairedDataset

__all__ = ["MOST_IMAGES", "preview"]

MOST_IMAGES = 100
"""Number of images on a sheet, at most."""

_CELL = 320 * 240  # pixels of an image on the sheet
_ASPECTS = (0.2, 12.0)  # of width to height; images beyond are fitted into such a cell
_SHEET = 1.4  # width to height that the sheet should have
_ALPHA = 0.45
_GAP = 10  # pixels
_TITLE, _CAPTION = 20, 12  # sizes of letters, in pixels
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 32, 32), (110, 110, 110)
_EMPTY = (236, 236, 236)  # of a cell around an image of another shape


@dataclass(frozen=True)
class _Cell:
    """An image with its mask on the sheet, and what its whole mask holds."""

    pixels: npt.NDArray[np.uint8]
    caption: str
    counts: npt.NDArray[np.int64]
    num_pixels: int


def preview(
    target: Target,
    root: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    split: str | None = None,
    count: int = 12,
    class_name: str | None = None,
    seed: int = 0,
    classes: Metadata | None = None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: OnProgress | None = None,
    **options: Any,
) -> npt.NDArray[np.uint8]:
    """Returns a contact sheet: images of a split with the colors of their classes over them, file names and a legend.

    The images are spread over the split: one is drawn from each of `count` equal parts of it. The legend lists the
    classes that occur on the sheet with their shares of its pixels; pixels without a class are hatched in gray. Each
    image takes about 77,000 pixels of the sheet, whatever its size.

    Args:
        target: a name from `list_datasets()`, or a folder; see `stats`.
        root: folder of a dataset that is given by name.
        out: the sheet is written to this file, in the format of its suffix; None writes nothing.
        split: the split; None for train, or the first that is there.
        count: number of images, 1 to 100; of a split with fewer all are shown.
        class_name: shows images that contain this class only.
        seed: which images of the split; the same seed gives the same images.
        classes: the classes of a folder, see `stats`.
        num_classes: number of classes of a folder, instead of `classes`.
        ignore_index: value of the pixels without a class in a folder; None for that of the classes, or 255.
        progress: called with the number of masks read and their total, where masks are read beforehand: of a folder
            to find out how, and to search for a class.
        **options: options of the dataset, as in `get_dataset`.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or no image contains the class.
        UnknownNameError: if there is no such class.
        DatasetNotFoundError, CorruptFileError, LabelOutOfRangeError: as `stats`.
        WriteError: if `out` cannot be written.
    """
    if not is_integer(count, 1) or count > MOST_IMAGES:
        raise InvalidArgumentError(f"count must be an integer from 1 to {MOST_IMAGES}, got {count!r}")
    check_integer("seed", seed, 0)
    if out is not None:
        check_format(out, (1, 1))
        check_folder(Path(out).parent, f"out {os.fspath(out)}")
    wanted = None if split is None else [split]
    opened = open_splits(target, root, wanted, classes, num_classes, ignore_index, options, progress)
    name, dataset = next(iter(opened.datasets.items()))
    candidates: Sequence[int] = range(len(dataset))
    if class_name is not None:
        candidates = _with_class(opened, name, class_name, progress)
    chosen = _spread_over(candidates, count, seed)
    what = f"{len(chosen)} of {counted(len(candidates), 'image')}"
    title = f"{_titled(opened)} {name}: {what}" + ("" if class_name is None else f" with class {class_name}")
    sheet = _sheet(dataset, chosen, title)
    if out is not None:
        write_image(out, sheet)
    return sheet


# ---- which images ----------------------------------------------------------------------------------------------------


def _with_class(opened: Opened, split: str, class_name: str, progress: OnProgress | None) -> list[int]:
    """Returns the images of a split that contain a class."""
    dataset = opened.datasets[split]
    labels = dataset.metadata.labels
    if class_name not in labels:
        raise UnknownNameError(
            f"unknown class {class_name!r} of {opened.name}.{nearest(class_name, labels)} Its classes: "
            f"{', '.join(labels)}"
        )
    wanted = dataset.metadata.class_id(class_name)
    scan = scan_dataset(dataset, progress=progress)
    scan.check_ids()
    found: list[int] = np.flatnonzero(scan.pixels[:, wanted]).tolist()
    if not found:
        present = [label for label, pixels in zip(dataset.metadata.labels, scan.pixels.sum(0), strict=True) if pixels]
        raise InvalidArgumentError(
            f"class {class_name!r} is in no mask of {opened.name} {split}; choose another split or one of the classes "
            f"that are: {', '.join(present) or 'none'}"
        )
    return found


def _spread_over(candidates: Sequence[int], count: int, seed: int) -> list[int]:
    """Returns one of each of `count` equal parts of the candidates, drawn at random; all if there are fewer."""
    if len(candidates) <= count:
        return list(candidates)
    bounds = np.linspace(0, len(candidates), count + 1).astype(int)
    rng = np.random.default_rng(seed)
    return [candidates[int(rng.integers(low, high))] for low, high in itertools.pairwise(bounds)]


def _titled(opened: Opened) -> str:
    return opened.root.resolve().name if opened.name == "FolderDataset" and opened.root is not None else opened.name


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _sheet(dataset: Any, indices: Sequence[int], title: str) -> npt.NDArray[np.uint8]:
    metadata: DatasetMetadata = dataset.metadata
    width, height, columns = _grid(dataset, indices)
    cells = [_cell(dataset, index, width, height) for index in indices]
    rows = math.ceil(len(cells) / columns)
    title_font, font = ImageFont.load_default(_TITLE), ImageFont.load_default(_CAPTION)
    row, head = height + _CAPTION + 2 * _GAP, 2 * _TITLE + 2 * _GAP
    total = np.sum([cell.counts for cell in cells], 0)
    num_pixels = sum(cell.num_pixels for cell in cells)
    own = draw_name(title, title_font, "?") or ""
    shown = (
        "shares of the pixels of these images are in the legend"
        if num_pixels
        else "there are no masks: the images alone"
    )
    least = max(title_font.getlength(own), 0) + 2 * _GAP
    canvas = Image.new(
        "RGB", (max(columns * (width + _GAP) + _GAP, math.ceil(least)), head + rows * row + _GAP), _PAPER
    )
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP + _TITLE // 2), own, _INK, title_font, anchor="lm")
    draw.text((_GAP, _GAP + _TITLE + _GAP), shown, _FAINT, font, anchor="lm")
    for place, cell in enumerate(cells):
        left, top = _GAP + place % columns * (width + _GAP), head + place // columns * row
        # the margin is the edge of an image that is as white as the paper
        draw.rectangle((left - 1, top - 1, left + width, top + height), _EMPTY)
        own_height, own_width = cell.pixels.shape[:2]
        canvas.paste(Image.fromarray(cell.pixels), (left + (width - own_width) // 2, top + (height - own_height) // 2))
        caption = _fitted(draw_name(cell.caption, font, "?") or "", font, width)
        draw.text((left, top + height + _GAP // 2 + _CAPTION // 2), caption, _INK, font, anchor="lm")
    present = np.flatnonzero(total).tolist()
    ids = [metadata.ignore_index if place == metadata.num_classes else place for place in present]
    shares = {i: _percent(total[place] / num_pixels) for i, place in zip(ids, present, strict=True)}
    return add_legend(np.array(canvas), ids, metadata, shares)


def _grid(dataset: Any, indices: Sequence[int]) -> tuple[int, int, int]:
    """Returns width and height of a cell, which suit most images, and the number of columns."""
    if isinstance(dataset, PairedDataset):
        files = [Path(dataset.file_names(index)[0]) for index in indices]
        images = ImageSizes(files, dataset.reading.max_pixels, dataset.reading.channels)
        sizes = list(images.sizes(dataset.reading.orientation).values())
    else:
        sizes = [tuple(image.shape[-2:]) for image, _ in (dataset[index] for index in indices)]
    aspect = min(max(float(np.median([across / down for down, across in sizes])), _ASPECTS[0]), _ASPECTS[1])
    width, height = round(math.sqrt(_CELL * aspect)), round(math.sqrt(_CELL / aspect))

    def odd(columns: int) -> float:
        rows = math.ceil(len(indices) / columns)
        empty = 1 - len(indices) / (rows * columns)
        return abs(math.log(columns * width / (rows * (height + _CAPTION + 2 * _GAP)) / _SHEET)) + 4 * empty

    return width, height, min(range(1, len(indices) + 1), key=odd)


def _cell(dataset: Any, index: int, width: int, height: int) -> _Cell:
    metadata: DatasetMetadata = dataset.metadata
    image, mask = dataset[index]
    pixels = np.ascontiguousarray(image_array(image, metadata.channels))
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    # pixels of a tiny image stay squares, which are looked for
    small = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if scale >= 2 else None))
    counts = np.zeros(metadata.num_classes + 1, np.int64)
    if mask is not None and metadata.task != MULTICLASS:
        planes = np.asarray(mask)[None] if metadata.task == BINARY else np.asarray(mask)
        counts[:-1] = (planes == 1).sum((1, 2))
        counts[-1] = (planes == metadata.ignore_index).all(0).sum()
        resized = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.NEAREST)) for p in planes]
        own = resized[0] if metadata.task == BINARY else np.stack(resized)
        small = overlay(small, own, metadata, _ALPHA, contours=True, hatch_ignored=True, channels=RGB_CHANNELS)
    elif mask is not None:
        ids = np.asarray(mask).astype(np.int32)
        places = np.where(ids == metadata.ignore_index, metadata.num_classes, ids)
        if ids.size and not 0 <= places.min() <= places.max() <= metadata.num_classes:
            found = dict(zip(*(values.tolist() for values in np.unique(ids, return_counts=True)), strict=True))
            allowed = [*range(metadata.num_classes), metadata.ignore_index]
            name = f"of {sample_name(dataset, index)}"
            raise LabelOutOfRangeError(wrong_ids_message(name, found, allowed, "correct the mask or the metadata"))
        counts += np.bincount(places.ravel(), minlength=len(counts))
        own = np.array(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
        small = overlay(small, own, metadata, _ALPHA, contours=True, hatch_ignored=True, channels=RGB_CHANNELS)
    names = getattr(dataset, "file_names", None)
    caption = os.path.basename(names(index)[0]) if names is not None else f"sample {index}"  # noqa: PTH119 - any text
    height, width = (0, 0) if mask is None else mask.shape[-2:]
    return _Cell(small, caption, counts, height * width)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 5e-5 else "< 0.01 %"


def _fitted(text: str, font: Any, width: int) -> str:
    """Returns a text that is at most `width` pixels long; of a longer one the middle is left out."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and font.getlength(_without_middle(text, kept)) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    # more of the end, where names of one folder differ
    end = math.ceil(2 * kept / 3)
    return f"{text[: kept - end]}...{text[len(text) - end :]}"
