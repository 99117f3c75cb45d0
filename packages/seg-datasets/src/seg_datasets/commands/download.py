"""`seg datasets download`: downloads and unpacks a dataset with public archives."""

import argparse
from typing import Any

__all__ = ["configure", "run"]


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser("download", help="download and unpack a dataset with public archives")
    parser.add_argument("name", metavar="NAME", help="a name from `seg datasets`")
    parser.add_argument("folder", metavar="DIR", help="folder for the archives and the dataset")
    parser.add_argument("--split", default="train", help="the split to download, if it has its own archive")


def run(arguments: argparse.Namespace) -> int:
    """Downloads the dataset; returns the exit code."""
    from seg_datasets.factory import get_dataset

    dataset = get_dataset(arguments.name, arguments.folder, split=arguments.split, download=True)
    print(f"{arguments.name} {dataset.split}: {len(dataset)} images in {arguments.folder}")
    return 0
