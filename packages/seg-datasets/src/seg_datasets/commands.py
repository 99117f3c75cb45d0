"""`seg datasets`: the data sets of the installed packages, and what one of them expects on disk."""

import argparse
import inspect

from seg_core.catalog import DatasetEntry
from seg_core.command import Command
from seg_core.metadata import resolve_metadata
from seg_core.registry import DATASETS

__all__ = ["DATASETS_COMMAND"]


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="show one data set: classes, splits, expected layout, licence, citation")
    show.add_argument("name", metavar="NAME", help="a name from `seg datasets`")


def _run(arguments: argparse.Namespace) -> int:
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
    lines = ["  ".join([*(f"{t:<{w}}" for t, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows]
    return "\n".join([*lines, "", "`seg datasets show NAME` prints classes, expected layout, licence and citation."])


def _num_classes(entry: DatasetEntry) -> str:
    return "yours" if entry.label_set is None else str(resolve_metadata(entry.label_set).num_classes)


def _details(name: str) -> str:
    entry = DATASETS.entry(name)
    lines = [f"{name}: {entry.summary}" if entry.summary else name, ""]
    if isinstance(entry, DatasetEntry):
        lines += [f"splits    {', '.join(entry.splits)}"]
        if entry.label_set is not None:
            metadata = resolve_metadata(entry.label_set)
            for title, text in (
                ("source", metadata.source),
                ("licence", metadata.licence),
                ("cite", metadata.citation),
            ):
                if text:
                    lines.append(f"{title:<9} {text}")
            width = max(map(len, metadata.labels))
            lines += ["", f"classes ({metadata.num_classes}; {metadata.ignore_index} is ignored)"]
            for index, (label, color) in enumerate(zip(metadata.labels, metadata.colors, strict=True)):
                lines.append(f"  {index:>3}  {label:<{width}}  rgb {','.join(map(str, color))}")
        else:
            lines.append("classes   yours: the argument metadata")
    dataset_class = DATASETS.get(name)
    layout = getattr(dataset_class, "layout", None) or inspect.getdoc(dataset_class) or "(not described)"
    lines += ["", "on disk" if not isinstance(entry, DatasetEntry) or entry.needs_root else "no files"]
    lines += [f"  {line}".rstrip() for line in layout.strip("\n").splitlines()]
    return "\n".join(lines)


DATASETS_COMMAND = Command(
    configure=_configure,
    run=_run,
    description="Lists the data sets of the installed packages; `show NAME` describes one.",
    epilog="examples:\n  seg datasets\n  seg datasets show CamVid",
)
