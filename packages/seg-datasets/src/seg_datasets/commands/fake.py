"""`seg datasets fake`: writes a tiny fake dataset in the official layout."""

import argparse
from typing import Any

__all__ = ["configure", "run"]


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser("fake", help="write a tiny fake dataset with the official names and folders")
    parser.add_argument("name", metavar="NAME", help="a name from `seg datasets`")
    parser.add_argument("folder", metavar="DIR", help="folder to write to; must be empty or new")
    parser.add_argument("--edition", help="version of the dataset, such as v1.2; default: the first")
    parser.add_argument(
        "--size", nargs=2, type=int, default=(96, 128), metavar=("HEIGHT", "WIDTH"), help="size of the images in pixels"
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the dataset; returns the exit code."""
    from seg_datasets.doctor.fake import fake

    folder = fake(arguments.name, arguments.folder, edition=arguments.edition, size=tuple(arguments.size))
    print(f"wrote a fake {arguments.name} to {folder}")
    return 0
