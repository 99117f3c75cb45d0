"""`seg datasets fake`: writes a tiny fake dataset in the official layout, clean or with chosen faults."""

import argparse
import textwrap
from typing import Any

from seg_core.labels.tasks import MULTICLASS, TASKS
from seg_datasets.doctor.kinds import KINDS

__all__ = ["configure", "run"]


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "fake",
        help="write a tiny fake dataset with the official names and folders, clean or with faults",
        epilog=_kinds(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="a name from `seg datasets`")
    parser.add_argument("folder", metavar="DIR", help="folder to write to; must be empty or new")
    parser.add_argument("--edition", help="version of the dataset, such as v1.2; default: the first")
    parser.add_argument(
        "--size", nargs=2, type=int, default=(96, 128), metavar=("HEIGHT", "WIDTH"), help="size of the images in pixels"
    )
    parser.add_argument(
        "--images", type=int, metavar="N", help="images per split; default: a few, and as many as the faults need"
    )
    parser.add_argument(
        "--channels",
        type=int,
        default=3,
        metavar="N",
        help="channels of the images of a FolderDataset; its classes then differ in the last channel alone",
    )
    parser.add_argument(
        "--bits", type=int, default=8, metavar="BITS", help="bits of a channel: 8, 16, or 32 for floating-point numbers"
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        default=MULTICLASS,
        help="of a FolderDataset: binary draws thin vessels, multilabel discs that overlap (multiclass)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND",
        dest="faults",
        help="plant a fault of this kind, in files of its own; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the dataset; returns the exit code."""
    from seg_datasets.doctor.fake import write_fake

    written = write_fake(
        arguments.name,
        arguments.folder,
        edition=arguments.edition,
        size=tuple(arguments.size),
        images_per_split=arguments.images,
        faults=arguments.faults,
        channels=arguments.channels,
        bits=arguments.bits,
        task=arguments.task,
    )
    print(f"wrote a fake {arguments.name} to {written.folder}")
    for planted in written.planted:
        print(f"  {planted.kind}: {planted.detail}")
    return 0


def _kinds() -> str:
    width = max(map(len, KINDS))
    lines = [f"  {name:<{width}}  {kind.meaning}" for name, kind in KINDS.items()]
    note = "A fault that the files of a dataset cannot have is an error that names the datasets that can."
    example = (
        "examples:\n  seg datasets fake CamVid data/odd --fault size-mismatch --fault jpeg-mask"
        "\n  seg datasets fake FolderDataset data/bands --channels 4 --bits 16 --images 12"
        "\n  seg datasets fake FolderDataset data/vessels --task binary --images 24 --size 64 64"
    )
    return "\n".join(["kinds of faults:", *lines, "", *textwrap.wrap(note, 80), "", example])
