"""Findings about the names of files: files without a partner, names that collide, frames of one sequence."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from seg_core.files.name_list import NameList
from seg_core.labels.tasks import BINARY
from seg_datasets.doctor.findings_classes import missing_classes
from seg_datasets.doctor.kinds import ERROR, KINDS, WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source, SplitSource
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.frames import find_leak, shared_sequences
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, JPEG_SUFFIXES, MASK_SUFFIXES, first_few
from seg_datasets.reading.text import same_name

__all__ = ["file_findings"]

_PARAMS = "data.dataset.params"
_LOSSY_REMEDY = (
    "Save the mask as PNG from the original ids; if these are lost, round each pixel to the nearest id first"
)

_OFFICIAL_SPLITS = (
    "The official splits are so: name it beside the scores, or copy the files into a folder of your own and split them "
    "by sequence, with groups of FolderDataset"
)


def file_findings(source: Source) -> list[DataFinding]:
    """Returns what is wrong with the names of the files of a dataset."""
    found: list[DataFinding] = []
    for split in source.splits:
        found += _without_partner(source, split)
        found += _lossy(source, split)
    found += _collisions(source)
    found += _frames(source)
    return found


# ---- partners --------------------------------------------------------------------------------------------------------


def _without_partner(source: Source, split: SplitSource) -> Iterator[DataFinding]:
    severity = WARNING if source.skips else ERROR
    skip = "" if source.skips else f'{_PARAMS}.missing = "skip"'
    for name in split.absent:
        where = split.name if split.listing is None else source.shown(split.listing)
        who = f"the {split.name} split has" if split.listing is None else f"{where} lists"
        remedy = source.again or "add the image, or remove the line from the list"
        yield DataFinding(
            "missing-image",
            severity,
            where,
            f"{who} {name}, of which there is no image",
            f"{remedy[0].upper()}{remedy[1:]}",
            skip,
            (where,),
        )
    for key, (path, pattern) in sorted(split.partial.items()):
        remedy = source.again or "add or rename the missing file, or move the others of this image away"
        yield DataFinding(
            "missing-image",
            severity,
            source.shown(path),
            f"the image {key} of {split.name} lacks a file: none of that name in {pattern}",
            f"{remedy[0].upper()}{remedy[1:]}",
            skip,
            (source.shown(path),),
        )
    if split.masks is None:
        return
    absent = {same_name(name) for name in split.absent}
    example = _example(source, split.images, split.masks)
    has_mask, has_image = matched(split.images, split.masks)
    for key, path in split.images.where(~has_mask).items():
        if key in split.lossy:
            continue
        image = source.shown(path)
        remedy = source.again or "add the mask, or move the image away"
        beside = _beside(split, key)
        yield DataFinding(
            "missing-mask",
            severity,
            image,
            f"the image has no mask in {split.name}{example}{beside}",
            f"{remedy[0].upper()}{remedy[1:]}",
            skip,
            (image,),
        )
    yield from missing_classes(source, split)
    for key, path in split.masks.where(~has_image).items():
        if key.rsplit("/", 1)[-1] in absent or key in split.partial:
            continue  # told above, by the list or by the file that lacks
        mask = source.shown(path)
        remedy = source.again or "add the image, or move the mask away"
        yield DataFinding(
            "missing-image",
            severity,
            mask,
            f"the mask has no image in {split.name}",
            f"{remedy[0].upper()}{remedy[1:]}",
            skip,
            (mask,),
        )


def _example(source: Source, images: FileTable, masks: FileTable) -> str:
    """Returns which mask another image has, so that a wrong name is seen."""
    has_mask, has_image = matched(images, masks)
    if not has_mask.any():
        return ""
    image, mask = images.paths[int(has_mask.argmax())], masks.paths[int(has_image.argmax())]
    return f" ({source.shown(image)} has {source.shown(mask)})"


def _beside(split: SplitSource, key: str) -> str:
    """Returns the file of another format that stands where the mask is expected."""
    if not split.masks:
        return ""
    folder = next(iter(split.masks.values())).parent
    stem = key.rsplit("/", 1)[-1]
    for suffix in (".gif", ".npy", ".json", ".xml", ".txt", ".svg"):
        if (folder / f"{stem}{suffix}").is_file():
            return f"; {stem}{suffix} beside the masks is not read as one: convert it to PNG"
    return ""


def _lossy(source: Source, split: SplitSource) -> Iterator[DataFinding]:
    for path in split.lossy.values():
        name = source.shown(path)
        remedy, config = source.again or _LOSSY_REMEDY, ""
        if source.dataset.metadata.task == BINARY and path.suffix.lower() in JPEG_SUFFIXES:
            remedy, config = "read the masks with this threshold, or save them as PNG", f"{_PARAMS}.threshold = 128"
        yield DataFinding(
            "jpeg-mask",
            KINDS["jpeg-mask"].severity,
            name,
            f"the mask is a {path.suffix.lower()} file, which is not read: lossy compression changes ids near edges",
            f"{remedy[0].upper()}{remedy[1:]}",
            config,
            (name,),
        )


# ---- names -----------------------------------------------------------------------------------------------------------


def _collisions(source: Source) -> Iterator[DataFinding]:
    images = [split.images.paths for split in source.splits]
    masks = [split.masks.paths for split in source.splits if split.masks is not None]
    told: set[str] = set()
    yield from _alike(source, images, masks, IMAGE_SUFFIXES, "image", told)
    yield from _alike(source, masks, images, MASK_SUFFIXES, "mask", told)


def _alike(
    source: Source,
    paths: Sequence[NameList],
    others: Sequence[NameList],
    suffixes: Collection[str],
    noun: str,
    told: set[str],
) -> Iterator[DataFinding]:
    """Yields files in one folder that would be the same image, or the mask of the same image.

    Args:
        source: the dataset.
        paths: the files that it reads.
        others: files that are something else, although they are beside these.
        suffixes: of the files that may be meant.
        noun: `"image"` or `"mask"`.
        told: names that were told before, in lower case; others are added. Masks are named as their images.
    """
    for folder in sorted({path.rpartition(os.sep)[0] for path in chain(*paths)}):
        # names are kept of the few stems that occur twice alone, as folders may hold many files
        values, counts = np.unique(
            np.fromiter((hash(stem) for stem, _ in _stems(folder, suffixes)), np.int64), return_counts=True
        )
        twice = set(values[counts > 1].tolist())
        if not twice:
            continue
        known, apart = _names_in(folder, paths), _names_in(folder, others)
        groups: dict[str, list[str]] = defaultdict(list)
        for stem, name in _stems(folder, suffixes):
            if hash(stem) in twice and name not in apart:
                groups[stem].append(name)
        for stem, names in groups.items():
            if len(names) > 1 and not known.isdisjoint(names) and stem not in told:
                told.add(stem)
                names.sort()
                files = tuple(source.shown(Path(folder, name)) for name in names)
                yield DataFinding(
                    "name-collision",
                    KINDS["name-collision"].severity,
                    files[0],
                    f"{first_few(names)} {_how(names)}, so it is not clear which one is the {noun}",
                    f"Remove or rename all but one of them: names of {noun}s differ by more than case and suffix",
                    "",
                    files,
                )


def _stems(folder: str, suffixes: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields the stem as other systems compare it, and the name, of each file with one of the suffixes."""
    with os.scandir(folder) as entries:  # a list of the names would take more memory than all that is kept
        for entry in entries:
            stem, dot, suffix = entry.name.rpartition(".")
            if f"{dot}{suffix.lower()}" in suffixes and stem[:1] not in ("", "."):
                yield same_name(stem).casefold(), entry.name


def _names_in(folder: str, paths: Sequence[NameList]) -> set[str]:
    parts = (path.rpartition(os.sep) for path in chain(*paths))
    return {name for own, _, name in parts if own == folder}


def _how(names: Collection[str]) -> str:
    stems = {Path(name).stem for name in names}
    if len(stems) == 1:
        return "differ only by the suffix"
    if len({same_name(stem) for stem in stems}) == 1:
        return "differ only by the form of Unicode characters"
    return "differ only by upper and lower case, which other systems do not tell apart"


# ---- sequences -------------------------------------------------------------------------------------------------------


def _frames(source: Source) -> Iterator[DataFinding]:
    by_name: Mapping[str, SplitSource] = {split.name: split for split in source.splits}
    train = by_name.get("train")
    for name in ("val", "test"):
        other = by_name.get(name)
        if train is None or other is None:
            continue
        leak = find_leak(train.images, other.images)
        if leak is None:
            yield from _shared(source, train, other)
            continue
        files = tuple(map(source.shown, other.images.paths))
        config = ""
        remedy = "Move all files of a sequence, or all parts of an image, to one split"
        if source.is_official:
            remedy = _OFFICIAL_SPLITS
        elif not source.has_own_splits and leak.groups:
            remedy, config = leak.remedy, f"{_PARAMS}.groups = {_quoted(leak.groups)}"
        elif not leak.groups:
            remedy = leak.remedy
        yield DataFinding(
            "frames-across-splits",
            KINDS["frames-across-splits"].severity,
            name,
            f"files of {name} look like {leak.what} that train has too ({first_few(sorted(other.images))}), so scores "
            f"on {name} will be too good",
            remedy,
            config,
            files,
        )


def _shared(source: Source, train: SplitSource, other: SplitSource) -> Iterator[DataFinding]:
    """Yields that both splits have frames of one sequence, although these are no neighbors."""
    prefixes = shared_sequences(train.images, other.images)
    if not prefixes:
        return
    names = first_few(f"{prefix}..." for prefix in prefixes)
    files = tuple(source.shown(path) for key, path in other.images.items() if key.startswith(tuple(prefixes)))
    yield DataFinding(
        "frames-across-splits",
        KINDS["frames-across-splits"].severity,
        other.name,
        f"{len(files)} of {len(other.images)} images of {other.name} are frames of sequences that train has too "
        f"({names}), though no neighbors: scores on {other.name} say little about other sequences",
        _OFFICIAL_SPLITS if source.is_official else "Move all frames of a sequence to one split",
        "",
        files,
    )


def _quoted(text: str) -> str:
    """Returns a string of TOML that needs no escapes, if it can be one."""
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
