"""`seg datasets preview`: writes a contact sheet of a dataset."""

import argparse
from typing import Any

from seg_datasets.commands.arguments import TARGET_HELP, add_classes, classes_of, reading_progress

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  seg datasets preview my_data --out sheet.png
  seg datasets preview CamVid --root data/camvid --split val --class Bicyclist --out bicyclists.png
"""


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "preview",
        help="write a contact sheet: images with their masks over them, and a legend",
        description="Writes a contact sheet: images of a split with their masks over them, file names and a legend\n"
        "with the classes' shares of the pixels of these images. Pixels without a class are hatched.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="NAME|DIR", help=TARGET_HELP)
    parser.add_argument("--out", required=True, metavar="FILE", help="the sheet, such as sheet.png")
    parser.add_argument("--root", metavar="DIR", help="folder of a dataset that is given by name")
    parser.add_argument("--split", metavar="SPLIT", help="the split (default: train, or the first that is there)")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="number of images, 1 to 100 (12)")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="only images that contain this class")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which images of the split (0)")
    add_classes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the sheet; returns the exit code."""
    from seg_datasets.doctor.preview import preview

    with reading_progress() as progress:
        sheet = preview(
            arguments.target,
            arguments.root,
            arguments.out,
            arguments.split,
            arguments.count,
            arguments.class_name,
            arguments.seed,
            progress=progress,
            **classes_of(arguments),
        )
    print(f"wrote {arguments.out}: {sheet.shape[1]}x{sheet.shape[0]} pixels")
    return 0
