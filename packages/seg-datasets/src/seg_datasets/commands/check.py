"""`seg datasets check`: reads every file of a dataset, and says what is wrong and what to do about it."""

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.errors import UsageError, counted

if TYPE_CHECKING:
    from seg_datasets.doctor.report import DataFinding, Report

__all__ = ["configure", "report_lines", "run"]

_PAGE = "seg_datasets.doctor.page"
_MOST_FILES = 5  # of a kind that are shown


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "check",
        help="read every image and mask, and say what is wrong and what to do about it",
        description=(
            "Reads every image and mask of a dataset, and says what is wrong and what to do about it. Exit code: 0 if "
            "all is well or there are warnings alone, 1 if there are errors, 2 if nothing could be checked."
        ),
    )
    parser.add_argument(
        "target", metavar="NAME|DIR", help="a name from `seg datasets`, with --root; or a folder with a dataset"
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the dataset NAME")
    parser.add_argument(
        "--split", action="append", metavar="SPLIT", help="split to check (repeatable); default: train, val and test"
    )
    parser.add_argument(
        "--classes", metavar="FILE|DATASET", help="classes of a folder: a .toml or .json file, or a known label set"
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes, instead of --classes")
    parser.add_argument(
        "--ignore-index", type=int, metavar="N", help="value of pixels without a class; default: of the classes, or 255"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the findings to FILE as JSON; without FILE, print JSON instead of the text",
    )
    if importlib.util.find_spec(_PAGE) is not None:
        parser.add_argument("--html", metavar="FILE", help="write the findings to FILE as a page with thumbnails")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings, too")


def run(arguments: argparse.Namespace) -> int:
    """Checks the dataset; returns the exit code."""
    from seg_core.files.json_text import to_json, write_json
    from seg_core.progress import make_progress
    from seg_datasets.doctor.check import check

    html = getattr(arguments, "html", None)
    for option, file in (("--json", arguments.json), ("--html", html)):
        if file not in (None, "-") and (not file or Path(file).is_dir()):
            raise UsageError(f"{option} {file!r} is a folder; name a file, such as report{option.replace('--', '.')}")
    progress = make_progress()
    try:
        report = check(
            arguments.target,
            arguments.root,
            splits=arguments.split,
            classes=arguments.classes,
            num_classes=arguments.num_classes,
            ignore_index=arguments.ignore_index,
            progress=lambda done, total: progress.part("checking", done, total),
        )
    finally:
        progress.close()
    if arguments.json == "-":
        print(to_json(report.to_dict(), indent=2))
    else:
        print("\n".join(report_lines(report)))
    if arguments.json not in (None, "-"):
        write_json(arguments.json, report.to_dict())
    if html is not None:
        importlib.import_module(_PAGE).write_page(report, html)
    return report.exit_code(arguments.strict)


def report_lines(report: "Report") -> Iterator[str]:
    """Yields the report as lines of text: by kind, errors first, and a line with numbers at the end."""
    for note in report.summary.get("notes", ()):
        yield f"note: {note}"
    for (severity, kind), group in groupby(report.findings, key=lambda found: (found.severity, found.kind)):
        yield from _group(severity, kind, list(group))
    splits = ", ".join(f"{count} {split}" for split, count in report.summary["splits"].items())
    facts = f"{counted(report.summary['files'], 'file')} ({splits}) in {report.summary['seconds']:.1f} s"
    errors = sum(found.severity == "error" for found in report.findings)
    if not report.findings:
        yield f"{report.name} in {report.root} is clean: {facts}"
    else:
        numbers = f"{counted(errors, 'error')}, {counted(len(report.findings) - errors, 'warning')}"
        yield f"{report.name} in {report.root}: {numbers}; {facts}"


def _group(severity: str, kind: str, found: Sequence["DataFinding"]) -> Iterator[str]:
    from seg_datasets.doctor.kinds import KINDS
    from seg_datasets.doctor.report import CONFIG_TABLE

    number = f" ({len(found)})" if len(found) > 1 else ""
    yield f"{severity}: {kind}{number}: {KINDS[kind].meaning}"
    remedies: dict[tuple[str, str], DataFinding] = {}
    for one in found[:_MOST_FILES]:
        others = [file for file in one.files if file != one.file]
        more = f" and {len(others) - _MOST_FILES} more" if len(others) > _MOST_FILES else ""
        also = f" (also {', '.join(others[:_MOST_FILES])}{more})" if others else ""
        yield f"  {one.file}: {one.detail}{also}"
        remedies.setdefault((one.fix, one.config), one)
    if len(found) > _MOST_FILES:
        yield f"  and {len(found) - _MOST_FILES} more files"
    for one in remedies.values():
        yield f"  fix: {one.fix}"
        if one.config:
            yield f"  config: {one.config_line}"
            yield f"    below [{CONFIG_TABLE}]; or: seg train ... {one.train_option}"
    yield ""
