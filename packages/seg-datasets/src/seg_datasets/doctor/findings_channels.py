"""Findings about images whose channels are not those that are described, or whose channels nobody has described."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from seg_core.errors import UserError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_datasets.doctor.checked import CheckedSplit, finding
from seg_datasets.doctor.kinds import ERROR
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.channel_advice import bands_of, describe_files
from seg_datasets.reading.channel_text import params_line

__all__ = ["KINDS_OF_CHANNELS", "channel_findings"]

KINDS_OF_CHANNELS = ("wrong-bit-depth", "mixed-channels", "alpha")
"""States of images that have other channels than the dataset reads."""

_Row = tuple[CheckedSplit, int, str, str]
_CONVERT = "reduce it to 8 bits in the range that suits the data: gdal_translate -ot Byte -scale LOW HIGH 0 255 IN OUT"


def channel_findings(source: Source, splits: Sequence[CheckedSplit]) -> Iterator[DataFinding]:
    """Yields images with other channels than the dataset reads.

    If all images are so and nothing describes them, each finding has the line of a config that does.
    """
    rows: list[_Row] = []
    others = 0
    for split in splits:
        unlike = [(split, row, kind, text) for row, kind, text in split.notes("image") if kind in KINDS_OF_CHANNELS]
        rows += unlike
        others += len(split.rows("image", "ok"))
    if not rows:
        return
    described = source.dataset.reading.channels
    if described != RGB_CHANNELS:
        yield from _unlike_description(source, rows, described, others)
        return
    suggested = None if source.is_official or others else _suggested(rows)
    for split, row, kind, text in rows:
        if suggested is not None:
            remedy = (
                "describe the channels of the images: write the line into the config, or its table as [channels] into "
                "classes.toml; names and range are those of the files, as far as these say them"
            )
            detail = f"the image {_found(text)}, and its channels are not described"
            config = params_line(suggested)
        else:
            config = ""
            detail = f"the image {_found(text)}"
            if others:
                detail += f"; {others} other images have 8-bit gray or color"
            remedy = _CONVERT if kind == "wrong-bit-depth" else "convert it to the channels of the others, or remove it"
        yield finding(source, kind, [split.image(row)], detail, remedy, config, severity=ERROR)


def _unlike_description(
    source: Source, rows: Sequence[_Row], described: ImageChannels, others: int
) -> Iterator[DataFinding]:
    suggested = None if source.is_official or others else _suggested(rows)
    for split, row, kind, text in rows:
        found, _, advice = text.partition("; ")
        detail = f"the image {found}"
        remedy = advice or f"correct channels, which describe the {described}, or the file"
        # what the files are decides only if none is as described, and the metadata do not say otherwise
        is_option = "channels" in source.options or "bands" in source.options
        config = params_line(suggested) if suggested is not None and is_option else ""
        yield finding(source, kind, [split.image(row)], detail, remedy, config, severity=ERROR)


def _suggested(rows: Sequence[_Row]) -> ImageChannels | None:
    """Returns a description that fits all images; None if they differ."""
    images = [[Path(path) for path in split.pairs[row].images] for split, row, _, _ in rows]
    try:
        found = describe_files(images)
        numbers = {len(bands_of(paths).channels) for paths in images}
    except UserError:
        return None
    return found if numbers == {found.count} else None


def _found(text: str) -> str:
    return text.partition("; ")[0]
