"""Finds names of classes in files that other tools write beside the masks."""

import contextlib
import csv
import json
from pathlib import Path

from seg_core.errors import UserError
from seg_core.labels.palette import Color
from seg_core.text import read_text
from seg_datasets.reading.class_files import CLASS_FILES

__all__ = ["describe_names"]

_FILES = ("_classes.csv", "labelmap.txt", "class_names.txt", "codes.txt", "label_names.txt", "classes.txt")
_MOST = 300
_LONGEST = 80  # characters; a longer line is no name


def describe_names(root: Path, count: int, with_colors: bool) -> str:
    """Returns a sentence about names of classes in the folder or one below, with the lines to write; "" without any.

    Args:
        root: the folder.
        count: number of classes that the masks hold.
        with_colors: whether masks hold colors, so that names alone say nothing.
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for path in (folder / name for folder in folders for name in _FILES):
        if not path.is_file():
            continue
        with contextlib.suppress(UserError, ValueError, csv.Error):  # a file of another content
            labels, colors = _parse(path)
            if not 1 < len(labels) <= _MOST or len(set(labels)) < len(labels) or max(map(len, labels)) > _LONGEST:
                continue
            lines = f"labels = {json.dumps(labels, ensure_ascii=False)}"
            if with_colors and colors:
                lines += f" and, below it, colors = {json.dumps([list(color) for color in colors])}"
            elif with_colors:
                lines += " and, below it, colors = [[...], ...], the color of each"
            fits = "" if len(labels) == count else f" ({len(labels)} names for {count} classes: correct them)"
            return (
                f"class names found in {path.relative_to(root).as_posix()}, not used: write {CLASS_FILES[0]} into "
                f"{root} with {lines}{fits}"
            )
    return ""


def _parse(path: Path) -> tuple[list[str], list[Color]]:
    """Returns names and colors in the order of the ids; colors are empty if the file has none.

    Raises:
        ValueError: if the file has another content.
        UserError: if it cannot be read.
    """
    lines = [line.strip() for line in read_text(path, "names of classes").splitlines() if line.strip()]
    if path.suffix == ".csv":  # Pixel Value, Class
        rows = [row for row in csv.reader(lines, skipinitialspace=True) if len(row) == 2 and row[0].strip().isdigit()]
        names = {int(number): name.strip() for number, name in rows}
        if sorted(names) != list(range(len(names))):
            raise ValueError("ids with gaps")
        return [names[index] for index in range(len(names))], []
    if path.name == "labelmap.txt":  # label:red,green,blue:parts:actions
        fields = [line.split(":") for line in lines if not line.startswith("#")]
        colors: list[Color] = []
        for field in fields:
            if len(field) < 2:
                raise ValueError("no color")
            red, green, blue = map(int, field[1].split(","))
            colors.append((red, green, blue))
        return [field[0] for field in fields], colors
    return lines, []
