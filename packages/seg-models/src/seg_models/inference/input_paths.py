"""Classifies paths and URLs: an image, a folder, a glob pattern, a video; lists the files of folders and patterns.

Separate from `inputs`, which reads the images, since this module imports neither torch nor Pillow: `seg predict` checks
its arguments with these functions before it spends seconds on importing torch.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError, counted
from seg_core.files.suffixes import IMAGE_SUFFIXES
from seg_core.files.urls import quoted_url

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "FoundFiles",
    "is_folder",
    "is_pattern",
    "is_url",
    "is_video",
    "list_files",
    "url_stem",
    "url_suffix",
]

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
# arrays that are read tile by tile
ARRAY_SUFFIXES = (".npy", ".zarr")
# files of systems, which nobody misses; names that begin with a dot are hidden anyway
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_KINDS_SHOWN = 6
_FOLDERS_SHOWN = 3


@dataclass(frozen=True)
class FoundFiles:
    """The images and videos of a folder or a glob pattern.

    Attributes:
        paths: their paths, sorted.
        root: the folder, or the part of the pattern without wildcards; all `paths` are below it.
        left_out: number of files of other kinds, by suffix in lower case; hidden files and those of the system are not
            counted.
        folders: folders that were not searched, each with the reason in parentheses.
    """

    paths: list[Path]
    root: Path
    left_out: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)

    @property
    def folders_text(self) -> str:
        """Such as "left out folder photos/.cache (a hidden folder)"; empty if there are none."""
        if not self.folders:
            return ""
        others = (
            f" and {counted(len(self.folders) - _FOLDERS_SHOWN, 'other')}" if len(self.folders) > _FOLDERS_SHOWN else ""
        )
        return f"left out folder{'s' if self.folders[1:] else ''} {', '.join(self.folders[:_FOLDERS_SHOWN])}{others}"

    @property
    def left_out_text(self) -> str:
        """Such as "left out 3 files: 2 .txt, 1 .csv"; empty if there are none."""
        if not self.left_out:
            return ""
        kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in self.left_out.most_common()]
        others = f" and {counted(len(kinds) - _KINDS_SHOWN, 'other kind')}" if len(kinds) > _KINDS_SHOWN else ""
        return f"left out {counted(self.left_out.total(), 'file')}: {', '.join(kinds[:_KINDS_SHOWN])}{others}"


def is_url(source: object) -> bool:
    """Returns whether `source` is an http or https URL."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def url_suffix(url: str) -> str:
    """Returns the suffix of the file that a URL names, in lower case; a query does not count."""
    try:
        return Path(unquote(urlsplit(url).path)).suffix.lower()
    except ValueError:  # no URL; the download tells so
        return ""


def url_stem(url: str) -> str:
    """Returns the name of the file of a URL without its suffix; "" if it names none.

    Raises:
        InvalidArgumentError: if it is no URL, or the name is one that no file can have.
    """
    name = Path(unquote(urlsplit(quoted_url(url)).path)).name
    if not name.isprintable():
        raise InvalidArgumentError(
            f"the URL {url!a} names a file with characters that cannot be seen; download it, and give its path"
        )
    return Path(name).stem


def is_folder(source: str | os.PathLike[str]) -> bool:
    """Returns whether `source` is a folder of images; a zarr array, which is a folder too, is not."""
    # os.path returns False for names that no file can have, for which Path raises
    return os.path.isdir(source) and Path(source).suffix.lower() not in ARRAY_SUFFIXES  # noqa: PTH112


def is_video(source: str | os.PathLike[str]) -> bool:
    """Returns whether a path or a URL has the suffix of a video."""
    if is_url(source):
        return url_suffix(os.fspath(source)) in VIDEO_SUFFIXES
    return Path(source).suffix.lower() in VIDEO_SUFFIXES and not is_pattern(source)


def is_pattern(source: str | os.PathLike[str]) -> bool:
    """Returns whether `source` is a glob pattern such as `"*.jpg"`, and not an existing file of that name."""
    # os.path as in `is_folder`
    return glob.has_magic(os.fspath(source)) and not os.path.exists(source)  # noqa: PTH110


def list_files(
    source: str | os.PathLike[str], *, recursive: bool = False, without: str | os.PathLike[str] | None = None
) -> FoundFiles:
    """Returns the images and videos of a folder, or of those that match a glob pattern.

    A pattern that ends in a suffix, such as `"*.dat"`, finds all files of that suffix, whatever they are.

    Args:
        source: folder or glob pattern.
        recursive: whether the images in subfolders of a folder are found too; hidden subfolders are not searched. In a
            pattern, `**` does this.
        without: a folder below the source that is not searched, such as that of the results; None for none.

    Raises:
        ImageNotFoundError: if there are no images or videos.
        CorruptFileError: if a folder cannot be listed.
    """
    if is_folder(source):
        root = Path(source)
        folders: list[str] = []
        found = _sorted_out(_files_below(root, recursive, without, folders), root, folders)
        if not found.paths:
            raise ImageNotFoundError(f"folder {root} has no images or videos{_advice(found, recursive)}")
        return found
    pattern = os.fspath(source)
    matches = [Path(path) for path in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute
    root = _fixed_part(pattern)
    files = [path for path in matches if path.is_file()]
    folders = []
    if without is not None and not root.resolve().is_relative_to(Path(without).resolve()):
        # "photos/**/*.png" would match the results of an earlier run in photos/
        inside = {path for path in files if path.resolve().is_relative_to(Path(without).resolve())}
        if inside:
            files, folders = [path for path in files if path not in inside], [f"{without} (the output folder)"]
            if not files:
                raise ImageNotFoundError(
                    f"only files of the output folder {without} match {pattern!r}; check the glob pattern"
                )
    suffix = Path(pattern).suffix
    is_any_kind = bool(suffix) and not glob.has_magic(suffix)
    found = FoundFiles(sorted(files), root, folders=folders) if is_any_kind else _sorted_out(files, root, folders)
    if not found.paths:
        if matches and not files:
            raise ImageNotFoundError(
                f"{pattern!r} matches folders only; add a pattern of files, such as {pattern}/*.jpg"
            )
        left_out = f" ({found.left_out_text})" if found.left_out else ""
        raise ImageNotFoundError(
            f"no file matches {pattern!r}; check the glob pattern"
            if not files
            else f"no image or video matches {pattern!r}{left_out}; check the glob pattern"
        )
    return found


def _sorted_out(files: Iterator[Path] | list[Path], root: Path, folders: list[str]) -> FoundFiles:
    found = FoundFiles([], root, folders=folders)
    for path in sorted(files):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
            found.paths.append(path)
        elif path.name.lower() not in _SYSTEM_FILES:
            found.left_out[suffix] += 1
    return found


def _files_below(
    root: Path, recursive: bool, without: str | os.PathLike[str] | None, left_out: list[str]
) -> Iterator[Path]:
    """Yields the files of a folder that are not hidden; a folder that a link leads back to is searched once.

    Args:
        root: the folder.
        recursive: whether its subfolders are searched.
        without: a folder that is not searched, or None.
        left_out: receives the folders that are not searched, with the reason.
    """
    seen: set[str] = set()
    excluded = None if without is None else os.path.realpath(without)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(folder) as entries:
                for entry in entries:
                    is_hidden = entry.name.startswith(".")
                    if not entry.is_dir():
                        if not is_hidden:
                            yield Path(entry.path)
                    elif not (recursive and is_folder(entry.path)):
                        continue
                    elif is_hidden:
                        left_out.append(f"{entry.path} (a hidden folder)")
                    elif excluded == os.path.realpath(entry.path):
                        left_out.append(f"{entry.path} (the output folder)")
                    else:
                        waiting.append(Path(entry.path))
        except OSError as error:
            raise CorruptFileError(
                f"folder {folder} cannot be listed: {error.strerror or error}; check its permissions"
            ) from error


def _advice(found: FoundFiles, recursive: bool) -> str:
    """Returns what a folder without images has instead, and what to do."""
    if not recursive:
        below = _sorted_out(_files_below(found.root, True, None, []), found.root, [])
        if below.paths:
            ((suffix, _),) = Counter(path.suffix for path in below.paths).most_common(1)
            folders = len({path.parent for path in below.paths})
            pattern = Path(glob.escape(os.fspath(found.root))) / "**" / f"*{suffix}"
            return (
                f" itself, but {len(below.paths)} in {counted(folders, 'subfolder')}; pass a pattern that searches "
                f'them: "{pattern}"'
            )
    left_out = f"; {found.left_out_text}" if found.left_out else ""
    searched = ", also not in its subfolders" if recursive else ""
    return f" ({', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}){searched}{left_out}; choose another folder"


def _fixed_part(pattern: str) -> Path:
    """Returns the folder of a glob pattern up to its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)
