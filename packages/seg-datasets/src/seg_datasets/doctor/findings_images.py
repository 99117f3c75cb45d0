"""Findings about images: unreadable, of another kind or size than the others, turned by a tag, and in two splits."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from seg_core.errors import counted
from seg_datasets.doctor.checked import PARAMS, CheckedSplit, finding, told_apart
from seg_datasets.doctor.findings_channels import KINDS_OF_CHANNELS, channel_findings
from seg_datasets.doctor.kinds import WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.image_sizes import is_scaled

__all__ = ["image_findings", "size_findings", "unreadable_images"]

_MOST_OUTLIERS = 0.05  # more are no outliers but a wide range
_TIMES_AREA = 9.0  # of the median
_TIMES_ASPECT = 4.0
_SPREAD = 3.0  # times the range of the middle half

_REMEDIES = {
    "empty-file": "replace the file, or move it and its mask away",
    "unreadable-image": "replace the file, or move it and its mask away",
}


def image_findings(source: Source, splits: Sequence[CheckedSplit]) -> list[DataFinding]:
    """Returns what is wrong with the images of a dataset, and with the sizes of their masks."""
    found: list[DataFinding] = []
    for split in splits:
        found += unreadable_images(source, split)
        found += _alpha(source, split)
        found += _channels(source, split)
        found += size_findings(source, split)
    found += channel_findings(source, splits)
    found += _outliers(source, splits)
    return found


def unreadable_images(source: Source, split: CheckedSplit) -> Iterator[DataFinding]:
    """Yields images that cannot be read, other than those of other channels."""
    for row, kind, text in split.notes("image"):
        if kind in KINDS_OF_CHANNELS:
            continue
        name = split.image(row)
        detail, remedy = told_apart("image", kind, text, _REMEDIES[kind])
        yield finding(source, kind, [name], detail, remedy)


def _alpha(source: Source, split: CheckedSplit) -> Iterator[DataFinding]:
    for row in np.flatnonzero(split.examined.rows["alpha"]).tolist():
        yield finding(
            source,
            "alpha",
            [split.image(row)],
            "the image has transparent pixels; alpha is dropped, so whatever color is below it is seen",
            "if a fourth band of a TIFF is data, such as near infrared, describe the channels, with "
            "bands = [1, 2, 3, 4]. Else draw it on a background: Image.alpha_composite(Image.new('RGBA', image.size, "
            "'white'), image).convert('RGB').save(OUT)",
        )


def _channels(source: Source, split: CheckedSplit) -> Iterator[DataFinding]:
    rows = split.rows("image", "ok")
    color = split.examined.rows["color"][rows]
    if not len(rows) or color.all() or not color.any():
        return
    is_fewer_gray = 2 * color.sum() >= len(rows)
    fewer = rows[~color if is_fewer_gray else color].tolist()
    noun, others = ("gray", "color") if is_fewer_gray else ("color", "gray")
    verb = "is" if len(fewer) == 1 else "are"
    yield finding(
        source,
        "mixed-channels",
        [split.image(row) for row in fewer],
        f"{len(fewer)} of {counted(len(rows), 'image')} of {split.name} {verb} {noun}, the others {others}: gray is "
        "repeated in three channels, which a network sees as images of another kind",
        "check that these belong here. Convert all images to one kind, such as Image.open(IN).convert('RGB').save(OUT) "
        "for all" + ("" if is_fewer_gray else ", or convert('L')"),
    )


# ---- sizes -----------------------------------------------------------------------------------------------------------


def size_findings(source: Source, split: CheckedSplit) -> Iterator[DataFinding]:
    """Yields masks of another size than their images, and images that a tag turns."""
    rows = split.examined.rows
    both = split.is_in("image", "ok") & split.is_in("mask", "ok", "rgb-mask")
    orientation = source.dataset.reading.orientation
    for row in np.flatnonzero(both & (rows["tag"] > 1)).tolist():
        yield from _turned(source, split, row, orientation)
    unlike = (rows["image_size"] != rows["mask_size"]).any(1)
    for row in np.flatnonzero(both & unlike & (rows["tag"] <= 1)).tolist():
        yield _mismatch(source, split, row)


def _turned(source: Source, split: CheckedSplit, row: int, orientation: str) -> Iterator[DataFinding]:
    """Yields the finding about an image that a tag turns; whether its mask was turned, too, its size may tell."""
    record = split.examined.rows[row]
    stored, mask = record["image_size"].tolist(), record["mask_size"].tolist()
    upright = stored[::-1] if record["tag"] >= 5 else stored
    if mask not in (stored, upright):
        yield _mismatch(source, split, row)
        return
    name = split.image(row)
    save = "save it upright without the tag: ImageOps.exif_transpose(Image.open(IN)).save(OUT)"
    if stored == upright or stored[0] == stored[1]:
        if "orientation" in source.options:  # somebody has looked
            return
        other = "stored" if orientation == "apply" else "apply"
        is_turned = "the image is turned by it" if orientation == "apply" else "it is ignored"
        detail = f"the image has orientation tag {record['tag']}: {is_turned}, and its mask has none"
        remedy = f"look at image and mask. If the mask fits only the other way, set orientation={other!r}; else {save}"
        yield finding(source, "orientation", [name], detail, remedy, _orientation(other), severity=WARNING)
        return
    fitting = "stored" if mask == stored else "apply"
    drawn = "as stored" if fitting == "stored" else "upright"
    detail = f"the image has orientation tag {record['tag']}, and its mask was drawn on the image {drawn}"
    if fitting == orientation:
        if "orientation" in source.options:
            return
        remedy = f"it is read so; set orientation={fitting!r} to say that this is meant, or {save}"
        if fitting == "stored":
            remedy = f"it is read so; set orientation={fitting!r} to say that this is meant, or remove the tag"
        yield finding(source, "orientation", [name], detail, remedy, _orientation(fitting), severity=WARNING)
        return
    remedy = f"set orientation={fitting!r}" + (f", or {save}" if fitting == "apply" else ", or remove the tag")
    # the sizes differ as they are read, at which training stops
    yield finding(source, "orientation", [name], detail, remedy, _orientation(fitting))


def _orientation(value: str) -> str:
    return f'{PARAMS}.orientation = "{value}"'


def _mismatch(source: Source, split: CheckedSplit, row: int) -> DataFinding:
    record = split.examined.rows[row]
    (height, width), (mask_height, mask_width) = record["image_size"].tolist(), record["mask_size"].tolist()
    detail = f"the mask has {mask_width}x{mask_height} pixels (width x height), its image {width}x{height}"
    if (mask_height, mask_width) == (width, height):
        remedy = "width and height are exchanged: rotate the mask as its image, or the image"
    elif is_scaled((height, width), (mask_height, mask_width)):
        remedy = "resize it: Image.open(MASK).resize(Image.open(IMAGE).size, Image.Resampling.NEAREST).save(OUT)"
    else:
        remedy = "one of them was cropped or belongs to another: replace the mask by that of this image"
    return finding(source, "size-mismatch", split.masks(row), detail, remedy)


def _outliers(source: Source, splits: Sequence[CheckedSplit]) -> Iterator[DataFinding]:
    """Yields images far larger, smaller, wider or taller than most, unless sizes vary widely anyway."""
    rows = [split.rows("image", "ok") for split in splits]
    starts = np.cumsum([0, *map(len, rows)])
    total = int(starts[-1])
    if total < 3:
        return
    sizes = np.concatenate(
        [s.examined.rows["image_size"][own] for s, own in zip(splits, rows, strict=True)], dtype=float
    )
    area, aspect = np.log(sizes.prod(1)), np.log(sizes[:, 1] / sizes[:, 0])
    odd = _far(area, _TIMES_AREA) | _far(np.abs(aspect), _TIMES_ASPECT)
    if not 0 < odd.sum() <= max(_MOST_OUTLIERS * total, 1):
        return
    height, width = np.median(sizes, 0).astype(int)
    for place in np.flatnonzero(odd).tolist():
        number = int(np.searchsorted(starts, place, "right")) - 1
        split, row = splits[number], int(rows[number][place - starts[number]])
        own = split.examined.rows["image_size"][row]
        yield finding(
            source,
            "size-outlier",
            [split.image(row)],
            f"the image has {own[1]}x{own[0]} pixels (width x height), and most have about {width}x{height}",
            "check that it belongs here; resize it and its mask as the others, or move both away",
        )


def _far(values: npt.NDArray[np.float64], times: float) -> npt.NDArray[np.bool_]:
    """Returns which logarithms are far from the median, by a factor and by the spread of the middle half."""
    # np.percentile would import a part of numpy that takes longer than a check of a thousand sizes
    low, median, high = np.interp(
        (len(values) - 1) * np.array([0.25, 0.5, 0.75]), np.arange(len(values)), np.sort(values)
    ).tolist()
    return np.abs(values - median) >= max(np.log(times), _SPREAD * (high - low))
