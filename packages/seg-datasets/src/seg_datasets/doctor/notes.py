"""Notes about a dataset that are no faults: no val split, how it is divided, hidden files."""

import os
from collections.abc import Iterator, Sequence

from seg_core.errors import counted
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, first_few

__all__ = ["notes_of"]


def notes_of(source: Source, splits: Sequence[str] | None) -> Iterator[str]:
    """Yields sentences about the files of a dataset.

    Args:
        source: the dataset, with its files.
        splits: the splits that were asked for, or None.
    """
    names = [split.name for split in source.splits]
    if not source.is_official and splits is None:
        if "val" not in names:
            yield (
                "There is no val split, which training needs for its scores: add a folder or a list for val beside "
                f"that of {names[0]}, or put all images and masks into one pair of folders, of which a fifth is val"
            )
        elif not source.has_own_splits:
            parts = " and ".join(f"{len(split.images)} {split.name}" for split in source.splits)
            yield (
                f"The folder has no splits of its own: a hash of the names divides it into {parts} images; options "
                "val_fraction, seed, groups or a list of files change that"
            )
    if not source.is_official:
        yield from _hidden(source)


def _hidden(source: Source) -> Iterator[str]:
    """Yields the files beside images and masks that are not read as their names begin with a dot."""
    tables = [table for split in source.splits for table in (split.images, split.masks) if table is not None]
    folders = dict.fromkeys(os.path.dirname(path) for table in tables for path in table.paths)  # noqa: PTH120 - faster
    found = []
    for folder in folders:
        for entry in os.scandir(folder):
            # what begins with ._ was left by macOS, and is no image
            if not entry.name.startswith(".") or entry.name.startswith("._"):
                continue
            if os.path.splitext(entry.name)[1].lower() in (*IMAGE_SUFFIXES, *MASK_SUFFIXES):  # noqa: PTH122
                found.append(source.shown(entry.path))
    if found:
        yield (
            f"{counted(len(found), 'hidden file')} beside the images and masks {'is' if len(found) == 1 else 'are'} "
            f"not read, as the name begins with a dot: {first_few(sorted(found))}; rename what belongs to the dataset"
        )
