"""`seg datasets`: lists the datasets of the installed packages, and describes one."""

import argparse
import inspect
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from seg_core.catalog import DatasetEntry
from seg_core.command import Command
from seg_core.labels.comparison import family_of
from seg_core.labels.metadata import resolve_metadata
from seg_core.own_code import add_import_option, import_modules
from seg_core.registry import DATASETS
from seg_core.spec import documented_options, shown_default, takes
from seg_datasets.commands import check, compare, download, fake, preview, stats

__all__ = ["DATASETS_COMMAND"]

_ACTIONS = {
    "check": check,
    "download": download,
    "fake": fake,
    "stats": stats,
    "compare": compare,
    "preview": preview,
}


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="show one dataset: classes, splits, options, expected layout, license")
    show.add_argument("name", metavar="NAME", help="a name from `seg datasets`")
    add_import_option(show)
    for action in _ACTIONS.values():
        action.configure(actions)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.action in _ACTIONS:
        return _ACTIONS[arguments.action].run(arguments)
    if arguments.action == "show":
        import_modules(arguments.imports)
    print(_details(arguments.name) if arguments.action == "show" else _listing())
    return 0


def _listing() -> str:
    rows = [("name", "classes", "splits", "")]
    for name in DATASETS.names():
        entry = DATASETS.entry(name)
        if isinstance(entry, DatasetEntry):
            rows.append((name, _num_classes(entry), " ".join(entry.splits), entry.summary))
        else:
            rows.append((name, "?", "?", entry.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    return "\n".join(
        [*lines, "", "`seg datasets show NAME` prints the classes, expected layout, license and citation of one."]
    )


def _num_classes(entry: DatasetEntry) -> str:
    return "yours" if entry.label_set is None else str(resolve_metadata(entry.label_set).num_classes)


def _details(name: str) -> str:
    entry = DATASETS.entry(name)
    lines = [f"{name}: {entry.summary}" if entry.summary else name, ""]
    if isinstance(entry, DatasetEntry):
        lines += [f"splits    {', '.join(entry.splits)}"]
        if entry.download:
            lines += [f"download  seg datasets download {name} DIR"]
        if entry.label_set is not None:
            metadata = resolve_metadata(entry.label_set)
            for title, value in (
                ("source", metadata.source),
                ("license", metadata.license),
                ("cite", metadata.citation),
            ):
                if value:
                    lines.append(f"{title:<9} {value}")
            others = [f"{other.name} {other.num_classes}" for other in family_of(metadata.name) if other != metadata]
            if others:
                listed = ", ".join(others)
                lines.append(
                    f"related   label sets with other classes: {listed}; a network of one does not fit another"
                )
            width = max(map(len, metadata.labels))
            lines += ["", f"classes ({metadata.num_classes}; {metadata.ignore_index} is the ignore value)"]
            for index, (label, color) in enumerate(zip(metadata.labels, metadata.colors, strict=True)):
                lines.append(f"  {index:>3}  {label:<{width}}  rgb {','.join(map(str, color))}")
        elif takes(DATASETS.get(name), "metadata"):
            lines.append("classes   your own, given as metadata")
        else:
            lines.append("classes   those of the label set given as label_set")
    dataset_class = DATASETS.get(name)
    edition = getattr(dataset_class, "edition", None)
    layout = edition.layout.tree if edition is not None else getattr(dataset_class, "layout", None)
    layout = layout or inspect.getdoc(dataset_class) or "(not described)"
    lines += ["", *_options(dataset_class)]
    lines += ["", "on disk"]
    lines += [f"  {line}".rstrip() for line in layout.strip("\n").splitlines()]
    return "\n".join(lines)


def _options(dataset_class: Callable[..., Any]) -> list[str]:
    """Returns the lines about the options of a dataset, as wide as the terminal."""
    options = documented_options(dataset_class, without=("root", "split", "transforms"))
    if not options:
        return ["options   none"]
    heads = [f"{o.name} (required)" if o.is_required else f"{o.name} = {shown_default(o)}" for o in options]
    indent = " " * 6
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    lines = ["options (in Python as keyword arguments, in a config under [data.dataset] params)"]
    for head, option in zip(heads, options, strict=True):
        lines.append(f"  {head}")
        lines += textwrap.wrap(
            option.meaning or "(not described)", width, initial_indent=indent, subsequent_indent=indent
        )
    return lines


DATASETS_COMMAND = Command(
    configure=_configure,
    run=_run,
    description="Lists the datasets of the installed packages; `show NAME` describes one, `check` finds wrong files.",
    epilog=(
        "examples:\n  seg datasets\n  seg datasets show CamVid\n  seg datasets download VOC data/voc\n"
        "  seg datasets fake Cityscapes data/cityscapes\n  seg datasets check my_data --num-classes 3\n"
        "  seg datasets stats my_data\n  seg datasets compare my_data --split train --split val\n"
        "  seg datasets preview my_data --out sheet.png"
    ),
)
