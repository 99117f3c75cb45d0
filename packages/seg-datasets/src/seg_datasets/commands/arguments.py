"""Arguments that several actions of `seg datasets` share: the dataset, its classes, and where the JSON goes."""

import argparse
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg_core.command import parse_settings
from seg_core.errors import UsageError
from seg_core.files.atomic import check_folder
from seg_core.files.json_text import to_json, write_json
from seg_core.progress import make_progress

__all__ = [
    "TARGET_HELP",
    "add_classes",
    "add_json",
    "check_json",
    "check_out",
    "classes_of",
    "reading_progress",
    "write_result",
]

TARGET_HELP = "a name from `seg datasets` (with --root), or a folder: your own images and masks, or a dataset's layout"


# what the doctor's functions take themselves
_NOT_OPTIONS = ("classes", "ignore_index", "num_classes", "progress", "splits", "target", "transforms")


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments about the classes of a folder, and `-s`."""
    parser.add_argument(
        "--classes",
        metavar="FILE|DATASET",
        help="the classes of a folder: a .toml or .json file, or a label set such as CamVid; default: classes.toml in "
        "it, or a guess by its masks, by which check calls no id wrong",
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes, instead of --classes")
    parser.add_argument(
        "--ignore-index",
        type=int,
        metavar="ID",
        help="value of the pixels of a folder's masks that have no class (default: of the classes, or 255)",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set an option of the dataset, as in -s missing=skip; may be repeated; see `seg datasets show NAME`",
    )


def classes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what `add_classes` added, as keyword arguments of the doctor's functions.

    Raises:
        UsageError: if a word of `-s` is not KEY=VALUE.
    """
    options = parse_settings(arguments.set, "missing=skip")
    elsewhere = {"root": "--root", "split": "--split", "metadata": "--classes"}
    for key in options:
        if key in elsewhere:
            raise UsageError(f"-s {key} cannot be set here; use {elsewhere[key]}")
        if key in _NOT_OPTIONS:
            raise UsageError(f"-s {key} is no option of a dataset; `seg datasets show NAME` lists the options")
    return {
        "classes": arguments.classes,
        "num_classes": arguments.num_classes,
        "ignore_index": arguments.ignore_index,
        **options,
    }


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write everything to FILE as JSON; without FILE, print JSON instead of the text",
    )


def check_json(arguments: argparse.Namespace) -> None:
    """Checks the FILE of `--json` before the work starts.

    Raises:
        UsageError: if it is a folder.
        WrongTargetError: if its folder is a file.
    """
    if isinstance(arguments.json, str):
        check_out("--json", arguments.json)


def check_out(option: str, file: str) -> None:
    """Checks the file of an option that names what is written, before the work starts.

    Raises:
        UsageError: if it is a folder.
        WrongTargetError: if its folder is a file.
    """
    if not file or Path(file).is_dir():
        raise UsageError(f"{option} {file!r} is a folder; add the file's name")
    check_folder(Path(file).parent, f"{option} {file}")


def write_result(arguments: argparse.Namespace, values: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Writes a result: as JSON if `--json` asks for it, else by `show`, or both.

    Raises:
        WriteError: if the file cannot be written.
    """
    if arguments.json is True:
        print(to_json(values, indent=2))
        return
    show()
    if arguments.json is not None:
        write_json(arguments.json, values)


@contextmanager
def reading_progress(what: str = "reading") -> Iterator[Callable[[int, int], object]]:
    """Gives the function that shows how many files were read, under the name of what is done."""
    progress = make_progress()
    try:
        yield functools.partial(progress.part, what)
    finally:
        progress.close()
