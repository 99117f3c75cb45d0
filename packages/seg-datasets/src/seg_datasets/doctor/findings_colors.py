"""Findings about masks in colors where ids are expected, and about the order of palettes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from seg_core.errors import counted
from seg_core.labels.palette import Color
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.checked import PARAMS, WITH_FILE, CheckedSplit, finding
from seg_datasets.doctor.mask_files import MaskPixels
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.mask_kinds import MOST_COLOR_MASKS, MOST_COLORS, PaletteFile, spread
from seg_datasets.reading.palette_orders import find_conflict

__all__ = ["color_findings"]

_Place = tuple[CheckedSplit, str]
"""A split and a mask of it."""


def color_findings(
    source: Source, splits: Sequence[CheckedSplit], pixels: MaskPixels, palettes: dict[PaletteFile, int]
) -> Iterator[DataFinding]:
    """Yields masks of colors where ids are expected, and palettes in another order than the ids.

    Args:
        source: the dataset.
        splits: what was read of the files of its splits with masks.
        pixels: reads masks again.
        palettes: number of each palette of masks.
    """
    yield from _in_colors(source, splits, pixels)
    if not isinstance(source.dataset.mask_reader, ColorReader):
        yield from _palettes(source, splits, pixels, list(palettes))


def _in_colors(source: Source, splits: Sequence[CheckedSplit], pixels: MaskPixels) -> Iterator[DataFinding]:
    """Yields masks of colors where ids are expected; the colors of classes or palettes were indices once."""
    places = [(split, path) for split in splits for _, path, name, _ in split.mask_faults() if name == "color-mask"]
    if not places:
        return
    total = sum(len(split.rows("mask", *WITH_FILE)) for split in splits)
    # masks of ids cannot be read by colors, nor those whose classes overlap
    by_colors = not source.is_official and len(places) == total and source.dataset.metadata.task == MULTICLASS
    config = f"{PARAMS}.colors = true" if by_colors else ""
    advice = _advice(source, pixels, _all_colors(places, pixels)) if by_colors else ""
    expanded: dict[str, list[str]] = {}
    for split, path in places:
        colors = pixels.colors(path)
        shown = ", ".join(str(list(color)) for color in sorted(colors)[:5])
        more = f" and {len(colors) - 5} more" if len(colors) > 5 else ""
        what = f"the mask holds colors ({shown}{more}), and ids are expected"
        if pixels.are_of_palette(colors):
            what += ": they are those of a palette whose indices are the ids, so the palette was expanded"
            remedy = "save the palette image, or map each color to its id"
            yield finding(source, "expanded-palette", [path], what, remedy)
            expanded.setdefault(split.name, []).append(path)
            continue
        if len(colors) > MOST_COLORS:
            what += "; so many are those of an image, or of smoothed edges"
        remedy = f"read the masks by their colors with colors=True{advice}"
        if not by_colors:
            remedy = "map each color to its id and save a gray PNG"
        yield finding(source, "color-mask", [path], what, remedy, config)
    for name, paths in expanded.items():
        yield finding(
            source,
            "color-mask",
            paths,
            f"{counted(len(paths), 'mask')} of {name} hold{'s' * (len(paths) == 1)} the colors of a palette, which "
            "cannot be read as ids: training stops at them",
            "save the palette images, or map each color to its id",
        )


def _palettes(
    source: Source, splits: Sequence[CheckedSplit], pixels: MaskPixels, palettes: Sequence[PaletteFile]
) -> Iterator[DataFinding]:
    """Yields palettes in another order than the ids, or than those of most masks."""
    has_colors = source.dataset.metadata.task == MULTICLASS
    config = f"{PARAMS}.colors = true" if has_colors and not source.is_official else ""
    remedy = "read the masks by their colors with colors=True{}, or save them with the palette in the order of the ids"
    if not has_colors:
        remedy = "save them with one palette, in which index 0 is the background and 1 the object"
    told = False
    for split in splits:
        for row in split.rows("mask", "ok").tolist():
            if text := split.examined.notes.get((row, "mask")):
                told = True
                yield finding(source, "permuted-palette", [split.mask(row)], text, remedy.format(""), config)
    if told or len(palettes) < 2:
        return
    masks = {
        Path(split.mask(row)): (palettes[split.examined.rows["palette"][row]], ids)
        for split in splits
        if not split.pairs.has_planes
        for row, ids in split.id_sets
        if split.examined.rows["palette"][row] >= 0
    }
    conflict = find_conflict(
        {path: palette for path, (palette, _) in masks.items()},
        {path: ids for path, (_, ids) in masks.items()},
        source.root,
    )
    if conflict is None:
        return
    wrong = set(conflict.paths)
    # in the order of the ids of the other masks
    used = {
        raw: palette.colors[raw]
        for path, (palette, ids) in masks.items()
        if path not in wrong
        for raw in sorted(ids)
        if raw < len(palette.colors) and raw not in palette.hidden and raw != 255
    }
    colors = list(dict.fromkeys(color for _, color in sorted(used.items())))
    yield finding(
        source,
        "permuted-palette",
        [str(path) for path in conflict.paths],
        conflict.text,
        remedy.format(_advice(source, pixels, colors)),
        config,
    )


def _all_colors(places: Sequence[_Place], pixels: MaskPixels) -> list[Color]:
    """Returns the colors of masks, ascending; of many masks those of some."""
    found: set[Color] = set()
    for path in spread([Path(path) for _, path in places], MOST_COLOR_MASKS):
        found |= pixels.colors(str(path))
        if len(found) > MOST_COLORS:
            break
    return sorted(found)


def _advice(source: Source, pixels: MaskPixels, colors: Sequence[Color]) -> str:
    """Returns what `colors = true` needs besides: the colors of the classes, unless these have some."""
    if source.is_official or pixels.class_colors():
        return ""
    metadata = source.metadata
    if len(colors) > MOST_COLORS:
        return ", and write the color of each class into classes.toml"
    listed = ", ".join(str(list(color)) for color in colors)
    if metadata is not None:
        return f", and add the color of each class to classes.toml, in the order of its labels: colors = [{listed}]"
    names = ", ".join(f'"class_{index}"' for index in range(len(colors)))
    return f", and write classes.toml with your names: labels = [{names}] and, in another line, colors = [{listed}]"
