"""`seg datasets check`: reads every file of a dataset, and says what is wrong and what to do about it."""

import argparse
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from seg_core.errors import counted
from seg_datasets.commands.arguments import (
    TARGET_HELP,
    add_classes,
    add_json,
    check_json,
    check_out,
    classes_of,
    reading_progress,
    write_result,
)

if TYPE_CHECKING:
    from seg_datasets.doctor.report import Report

__all__ = ["configure", "report_lines", "run"]

_EPILOG = """\
Exit code: 0 if all is well or there are warnings alone, 1 if there are errors, 2 if nothing could be checked.

examples:
  seg datasets check my_data --num-classes 3
  seg datasets check CamVid --root data/camvid --split train --html report.html
"""


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "check",
        help="read every image and mask, and say what is wrong and what to do about it",
        description="Reads every image and mask of a dataset, and says what is wrong and what to do about it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="NAME|DIR", help=TARGET_HELP)
    parser.add_argument("--root", metavar="DIR", help="folder of a dataset that is given by name")
    parser.add_argument(
        "--split", action="append", metavar="SPLIT", help="a split; may be repeated (default: train, val and test)"
    )
    add_classes(parser)
    add_json(parser)
    parser.add_argument("--html", metavar="FILE", help="write the findings to FILE as a page with thumbnails")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings, too")


def run(arguments: argparse.Namespace) -> int:
    """Checks the dataset; returns the exit code."""
    from seg_datasets.doctor.check import check
    from seg_datasets.doctor.page import write_page

    check_json(arguments)
    if arguments.html is not None:
        check_out("--html", arguments.html)
    with reading_progress("checking") as progress:
        report = check(arguments.target, arguments.root, arguments.split, progress=progress, **classes_of(arguments))
    write_result(arguments, report.to_dict(), lambda: print("\n".join(report_lines(report))))
    if arguments.html is not None:
        write_page(report, arguments.html)
    return report.exit_code(arguments.strict)


def report_lines(report: "Report") -> Iterator[str]:
    """Yields the report as lines of text: by kind, errors first, and a line with numbers at the end."""
    from seg_datasets.doctor.report import kind_lines

    for note in report.summary.get("notes", ()):
        yield f"note: {note}"
    for (severity, kind), group in groupby(report.findings, key=lambda found: (found.severity, found.kind)):
        yield from kind_lines(severity, kind, list(group))
        yield ""
    splits = ", ".join(f"{count} {split}" for split, count in report.summary["splits"].items())
    facts = f"{counted(report.summary['files'], 'file')} ({splits}) in {report.summary['seconds']:.1f} s"
    errors = sum(found.severity == "error" for found in report.findings)
    if not report.findings:
        yield f"{report.name} in {report.root} is clean: {facts}"
    else:
        numbers = f"{counted(errors, 'error')}, {counted(len(report.findings) - errors, 'warning')}"
        yield f"{report.name} in {report.root}: {numbers}; {facts}"
