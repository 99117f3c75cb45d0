"""Images of several files, for `--stack` of `seg predict`: which files of its arguments are one image."""

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_core.errors import ImageNotFoundError, UsageError, counted
from seg_models.inference.input_paths import is_folder, is_pattern, is_url, is_video, list_files

__all__ = ["Stack", "find_stacks"]

_SHOWN = 3


@dataclass(frozen=True)
class Stack:
    """The files of one image, in the order of the arguments.

    Attributes:
        files: their paths or URLs.
        folder: folder of the first, below the folder or glob pattern that gave it.
    """

    files: tuple[str, ...]
    folder: Path = Path()


def find_stacks(sources: Sequence[str], out: Path) -> list[Stack]:
    """Returns the images whose bands are in several files.

    If all sources are files, they are one image. Else each is a folder (with its subfolders) or a glob pattern, and
    files of the same name in all of them are one image: the path below the folder, without its suffix; of a glob
    pattern the path below its first wildcard, without what follows its last one.

    Args:
        sources: files, or folders and glob patterns.
        out: output folder, which is not searched.

    Raises:
        UsageError: if there is one source only, a file does not exist, or a name is not in all folders.
    """
    if "-" in sources:
        raise UsageError("--stack cannot read names from stdin; name the folders or glob patterns of each band")
    if len(sources) < 2:
        raise UsageError("--stack joins files of several folders, glob patterns or files; name one for each band file")
    several = [is_folder(source) or is_pattern(source) for source in sources if not is_url(source)]
    if not any(several):
        for source in sources:
            if not is_url(source) and not Path(source).exists():
                raise UsageError(f"there is no image {source} (current folder: {Path.cwd()}); check the path")
        _check_images(sources)
        return [Stack(tuple(sources))]
    if len(several) < len(sources) or not all(several):
        raise UsageError(
            "--stack takes either the files of one image, or folders and glob patterns alone; name a folder or a glob "
            "pattern for each band file"
        )
    found = [_named(source, out) for source in sources]
    for source, files in zip(sources[1:], found[1:], strict=True):
        _check_missing(sources[0], source, found[0].keys() - files.keys())
        _check_missing(source, sources[0], files.keys() - found[0].keys())
    first = found[0]
    return [Stack(tuple(files[name][0] for files in found), first[name][1]) for name in first]


def _check_missing(source: str, other: str, missing: Collection[str]) -> None:
    if missing:
        names = ", ".join(sorted(missing)[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise UsageError(
            f"--stack: {counted(len(missing), 'image')} of {source} not found in {other}: {names}; the files of one "
            "image must have the same name in all folders"
        )


def _named(source: str, out: Path) -> dict[str, tuple[str, Path]]:
    """Returns the name of each image of a folder or glob pattern -> its file, and its folder below the source."""
    try:
        listed = list_files(source, recursive=True, without=out)
    except ImageNotFoundError as error:
        raise UsageError(str(error)) from error
    tail = "" if is_folder(source) else _after_last_wildcard(Path(source).name)
    named: dict[str, tuple[str, Path]] = {}
    for path in listed.paths:
        inside = path.relative_to(listed.root)
        text = os.fspath(inside)
        name = text.removesuffix(tail) if tail else os.fspath(inside.with_suffix(""))
        if name in named:
            raise UsageError(
                f"--stack: {named[name][0]} and {path} have the same name, {name}; name them by a glob pattern with a "
                "suffix, such as '*.tif'"
            )
        named[name] = (os.fspath(path), inside.parent)
    _check_images([file for file, _ in named.values()])
    return named


def _after_last_wildcard(name: str) -> str:
    """Returns the literal end of a glob pattern: "_B4.tif" of "*_B4.tif"; only a suffix if it has no other."""
    last = max((place for place, letter in enumerate(name) if letter in "*?]"), default=-1)
    return "" if last < 0 or glob.has_magic(name[last + 1 :]) else name[last + 1 :]


def _check_images(files: Sequence[str]) -> None:
    for file in files:
        if is_video(file):
            raise UsageError(f"--stack: {file} is a video; only images have bands in several files")
