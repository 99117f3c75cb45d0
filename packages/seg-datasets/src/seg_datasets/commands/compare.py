"""`seg datasets compare`: compares two datasets, or two splits of one."""

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from seg_core.progress import print_table
from seg_datasets.commands.arguments import (
    TARGET_HELP,
    add_classes,
    add_json,
    check_json,
    classes_of,
    reading_progress,
    write_result,
)
from seg_datasets.commands.stats import color_text, percent

if TYPE_CHECKING:
    from seg_datasets.doctor.compare import Comparison

__all__ = ["configure", "run"]

_EPILOG = """\
Classes are compared by their names. Shares are of the pixels that have a class. The distance is the Jensen-Shannon
distance of the shares, to base 2: 0 if both sides have the same shares, 1 if they have no class in common.

Of a binary or multilabel task the share of a class is that of the pixels that are not ignored for it. Each class has a
distance of its own, of the shares of pixels with and without it, and the largest is that of both sides.

The JSON has the keys sides (name, images, height and width as smallest, quartiles and largest, different_sizes, mean,
std, ignored_share), classes (name, shares, difference, images: the fraction that contains it; null where a side has no
such class), jensen_shannon_distance and warnings. Of a binary or multilabel task sides have the key task too, and
classes distance, of which jensen_shannon_distance is the largest.

examples:
  seg datasets compare my_data --split train --split val
  seg datasets compare old_data new_data
  seg datasets compare CamVid BDD100K --root data/camvid --root data/bdd100k
"""


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "compare",
        help="compare the classes, sizes and colors of two datasets, or of two splits of one",
        description="Compares the classes, sizes and colors of two datasets, or of two splits of one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help=TARGET_HELP)
    parser.add_argument("b", metavar="B", nargs="?", help="the other one; without it, two splits of A are compared")
    parser.add_argument(
        "--root",
        action="append",
        metavar="DIR",
        help="folder of a dataset that is given by name; if both are, give it twice, in their order",
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="SPLIT",
        help="without B, the two splits (default: train and val); with B, the splits to count on both sides (default: "
        "all with masks)",
    )
    add_classes(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the comparison; returns the exit code."""
    from seg_datasets.doctor.compare import compare

    check_json(arguments)
    with reading_progress() as progress:
        found = compare(
            arguments.a, arguments.b, arguments.root, arguments.split, progress=progress, **classes_of(arguments)
        )
    write_result(arguments, found.to_dict(), lambda: _show(found))
    for sentence in found.warnings:
        print(f"seg: warning: {sentence}", file=sys.stderr)
    return 0


def _show(found: "Comparison") -> None:
    first, second = (side.name for side in found.sides)
    last = ("distance",) if found.is_per_class else ()
    print_table(
        ("class", f"{first} pixels", f"{second} pixels", "difference", f"{first} images", f"{second} images", *last),
        [
            (
                row.label,
                *(_share(share) for share in row.shares),
                "" if row.difference is None else f"{100 * row.difference:+.3f}",
                *("" if fraction is None else f"{100 * fraction:.1f} %" for fraction in row.images),
                *("" if row.distance is None else f"{row.distance:.4f}" for _ in last),
            )
            for row in found.classes
        ],
    )
    print()
    distance = "not defined" if math.isnan(found.distance) else f"{found.distance:.4f}"
    what = "Jensen-Shannon distance of the class shares"
    if found.is_per_class:
        name = found.most_different
        of_class = "a class" if name is None else f"a class, {name}"
        what = f"Largest Jensen-Shannon distance of {of_class}, by pixels with and without it"
    print(f"{what}: {distance} (0: the same, 1: nothing in common)\n")
    sides = [side.stats for side in found.sides]
    quantiles = [side.quantiles() for side in found.sides]
    rows = [
        ("images", *(f"{side.num_images:,}" for side in sides)),
        ("ignored pixels", *(percent(side.ignored_share) for side in sides)),
        *(
            (f"{axis}: smallest, quartiles, largest", *(_sizes(own[axis]) for own in quantiles))
            for axis in quantiles[0]
        ),
        ("different sizes", *(f"{len(side.sizes):,}" for side in sides)),
        (_mean_of(found), *(color_text(side.mean) for side in sides)),
        ("standard deviation", *(color_text(side.std) for side in sides)),
    ]
    print_table(("", first, second), rows)


def _mean_of(found: "Comparison") -> str:
    described = next((side.stats.channels for side in found.sides if side.stats.channels is not None), None)
    return f"mean of {'red, green, blue' if described is None else ', '.join(described.channels.names)}"


def _share(share: float | None) -> str:
    if share is None:
        return "no such class"
    return percent(share) if share else "absent"


def _sizes(values: list[int]) -> str:
    return f"all {values[0]}" if values[0] == values[-1] else " ".join(map(str, values))
