"""Official folder trees as data: where the files of a split are, and how they are found and paired."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, nearest
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.arguments import check_missing, check_root
from seg_datasets.reading.converted import is_converted, without_converted
from seg_datasets.reading.pairs import Pair, first_few, pair_by_key
from seg_datasets.reading.text import read_lines, same_name

__all__ = ["Found", "Layout", "SplitFiles", "find_matches", "read_listing"]


@dataclass(frozen=True)
class SplitFiles:
    """Where the files of one split are.

    A glob pattern is a path below the dataset's folder, such as `leftImg8bit/train/*/*_leftImg8bit.png`. Each `*`
    matches one or more characters of one name. The matched characters, joined by `/`, are the key of a file: an image
    and the mask with the same key belong together. Of several patterns the first that matches any file is used. Files
    that converters of other toolkits write beside these are left out, see `seg_datasets.reading.converted`.

    Attributes:
        images: glob patterns of the images.
        masks: glob patterns of the masks; empty if the split has none.
        more_images: a glob pattern for each further file of an image, whose bands follow those of the first.
        listing: path of a `.txt` file with one name per line that decides which files belong to the split.
        keys: the keys that belong to the split, if no file on disk lists them; empty for all.
        exclude: endings of names that match a pattern of `images` but are not images.
        needs_listing: whether the split requires its listing.
        masks_optional: whether the split may come without masks.
        warning: warning to emit when the split is opened; empty for none.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...] = ()
    listing: str | None = None
    keys: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    needs_listing: bool = False
    masks_optional: bool = False
    warning: str = ""
    more_images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """The files of a split, before they are paired.

    Attributes:
        images: key -> image.
        masks: key -> mask; None if the split has no masks.
        listing: the list that decides which files belong to the split, or None.
        listed: number of names that the split must have; 0 if nothing lists them.
        absent: those of these names that have no image.
        is_split: whether there are images, the masks that the split needs, and its listing; if not, `images` and
            `masks` are what was found instead.
    """

    images: Mapping[str, Path]
    masks: Mapping[str, Path] | None
    listing: Path | None = None
    listed: int = 0
    absent: Sequence[str] = ()
    is_split: bool = True


@dataclass(frozen=True)
class Layout:
    """The layout of a dataset on disk.

    Attributes:
        dataset: its name.
        source: how to obtain it, for messages: `"get A.zip from https://..."`.
        tree: human-readable tree of the folders and files.
        splits: split -> where its files are; splits are listed in this order.
        examples: split -> keys of some of its files, with the official names.
        aliases: other name of a split -> split.
        prefixes: folders below the root that are tried in order, for the folders that archives are unpacked into.
        top: the one of `prefixes` that the official archives create.
        archives: what `download=True` downloads; empty if the license or a registration does not allow it.
    """

    dataset: str
    source: str
    tree: str
    splits: Mapping[str, SplitFiles]
    examples: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)
    top: str = ""
    archives: tuple[Archive, ...] = ()

    def split_name(self, split: str) -> str:
        """Returns the name of a split, aliases resolved.

        Raises:
            InvalidArgumentError: if there is no such split.
        """
        if isinstance(split, str):
            name = self.aliases.get(split, split)
            if name in self.splits:
                return name
        known = [*self.aliases, *self.splits]
        hint = nearest(split, known) if isinstance(split, str) else ""
        aliases = ", ".join(f"{alias} for {name}" for alias, name in self.aliases.items())
        raise InvalidArgumentError(
            f"{self.dataset} has no split {split!r}.{hint} Allowed: {', '.join(self.splits)}"
            + (f"; also {aliases}" if aliases else "")
        )

    def find(self, root: str | os.PathLike[str], split: str, missing: str = "error") -> list[Pair]:
        """Returns the files of a split, sorted by key.

        Args:
            root: the dataset's folder, or a folder above it.
            split: one of `splits`.
            missing: how to handle an image or mask without its partner: `"error"` raises, `"skip"` leaves it out
                with a warning.

        Raises:
            InvalidArgumentError: if `missing` has another value.
            DatasetNotFoundError: if there is no such folder, the split has no files, or an image or mask has no
                partner.
            CorruptFileError: if the listing is empty.
        """
        check_missing(missing)
        folder = check_root(root, self.dataset)
        found = self.look(root, split)
        images, masks = found.images, found.masks or {}
        if not found.is_split:
            raise DatasetNotFoundError(self._not_found(folder, split, len(images), len(masks)))
        if found.absent:
            self._report_absent(found, split, missing)
        where = f"{self.dataset} {split} in {folder}"
        alone = [path for key, path in masks.items() if key not in images and is_converted(key)]
        if alone and not images.keys() & masks.keys():
            raise DatasetNotFoundError(self._only_converted(folder, split, alone))
        pairs = pair_by_key(images, found.masks, where, missing, f"{self.source} again")
        if not pairs:
            raise DatasetNotFoundError(self._not_found(folder, split, len(images), len(masks)))
        return self._with_more(folder, split, pairs, images, missing) if self.splits[split].more_images else pairs

    def _with_more(
        self, folder: Path, split: str, pairs: list[Pair], images: Mapping[str, Path], missing: str
    ) -> list[Pair]:
        """Returns pairs with the further files of their images.

        Raises:
            DatasetNotFoundError: if one is missing, unless such images are left out.
        """
        files = self.splits[split]
        more = self.more_files(folder, split)
        key_of = {path: key for key, path in images.items()}
        found, lacking = [], []
        for pair in pairs:
            others = tuple(table[key_of[pair.image]] for table in more if key_of[pair.image] in table)
            if len(others) == len(more):
                found.append(replace(pair, more=others))
            else:
                lacking.append(pair.image.name)
        if lacking:
            message = (
                f"{self.dataset} {split} in {folder}: {len(lacking)} of {len(pairs)} images lack a file of "
                f"{' or '.join(files.more_images)}: {first_few(lacking)}"
            )
            if missing == "error" or not found:
                raise DatasetNotFoundError(f"{message}. To fix this, {self.source}")
            warnings.warn(f"{message}; these are left out", stacklevel=6)
        return found

    def more_files(self, folder: Path, split: str) -> list[Mapping[str, Path]]:
        """Returns key -> file for each pattern of `more_images` of a split."""
        files = self.splits[split]
        return [self.files(folder, (pattern,), files.keys, first=True) for pattern in files.more_images]

    def look(self, root: str | os.PathLike[str], split: str, *, first: bool = False) -> Found:
        """Returns the images and masks of a split, which need not pair.

        Args:
            root: the dataset's folder, or a folder above it.
            split: one of `splits`.
            first: whether of two files with the same key the first is taken, instead of an error.

        Raises:
            DatasetNotFoundError: if there is no such folder, or two files have the same key.
            CorruptFileError: if the listing is empty.
        """
        files, folder = self.splits[split], check_root(root, self.dataset)
        images = self.files(folder, files.images, files.keys, files.exclude, first=first)
        masks = self.files(folder, files.masks, files.keys, first=first)
        without_masks = not files.masks or (files.masks_optional and not masks)
        listing = self.listing(folder, split)
        if not images or not (masks or without_masks) or (files.needs_listing and listing is None):
            return Found(images, masks, listing, is_split=False)
        wanted = None if listing is None else read_listing(listing)
        if files.keys:
            wanted = set(map(same_name, files.keys))
        if wanted is None:
            return Found(images, None if without_masks else masks)
        images = {key: path for key, path in images.items() if _name(key) in wanted}
        masks = {key: path for key, path in masks.items() if _name(key) in wanted}
        absent = sorted(wanted - {_name(key) for key in images})
        return Found(images, None if without_masks else masks, listing, len(wanted), absent)

    def locate(self, root: str | os.PathLike[str], name: str) -> Path | None:
        """Returns the file `name` in the first of `prefixes` that has it, or None."""
        folder = check_root(root, self.dataset)
        return next((path for prefix in self.prefixes if (path := folder / prefix / name).is_file()), None)

    def listing(self, folder: Path, split: str) -> Path | None:
        """Returns the list of the files of a split, or None if it has none."""
        name = self.splits[split].listing
        return None if name is None else self.locate(folder, name)

    def files(
        self,
        folder: Path,
        patterns: tuple[str, ...],
        keys: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        *,
        first: bool = False,
    ) -> dict[str, Path]:
        """Returns key -> file for the first of several glob patterns that matches, see `SplitFiles`.

        Args:
            folder: the dataset's folder, or a folder above it.
            patterns: the glob patterns.
            keys: the keys that are wanted; empty for all.
            exclude: endings of names to leave out.
            first: whether of two files with the same key the first is taken, instead of an error.

        Raises:
            DatasetNotFoundError: if two files have the same key.
        """
        wanted = set(map(same_name, keys))
        others: dict[str, Path] = {}
        for prefix in self.prefixes:
            for pattern in patterns:
                found = find_matches(folder / prefix, pattern, exclude, first=first)
                if any(_name(key) in wanted for key in found) if wanted else found:
                    return found
                # only unwanted files match, as `*_noBoundary.tif` does for `*.tif`; another pattern may match better
                others = others or found
        return others

    def _report_absent(self, found: Found, split: str, missing: str) -> None:
        what = f"{found.listing} lists" if found.listing else "the split has"
        message = (
            f"{self.dataset} {split}: {what} {found.listed} images, {len(found.absent)} of which are missing: "
            f"{first_few(found.absent)}"
        )
        if missing == "error":
            raise DatasetNotFoundError(f"{message}; leave them out with missing='skip', or {self.source} again")
        warnings.warn(f"{message}; they are left out", stacklevel=5)

    def _not_found(self, folder: Path, split: str, num_images: int, num_masks: int) -> str:
        files = self.splits[split]
        expected = f"images {' or '.join(files.images)} ({num_images} found)"
        if files.masks:
            expected += f", masks {' or '.join(files.masks)} ({num_masks} found)"
        if files.listing and (files.needs_listing or self.listing(folder, split)):
            found = "found" if self.listing(folder, split) else "not found"
            expected += f", the list {files.listing} ({found})"
        below = [prefix for prefix in self.prefixes if prefix]
        entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        content = f"it contains {first_few(entries)}" if entries else "it is empty"
        if files.masks and not num_masks and (alone := self._converted_masks(folder, files)):
            return self._only_converted(folder, split, alone)
        downloadable = any(not archive.splits or split in archive.splits for archive in self.archives)
        download = " download=True does all of this." if downloadable else ""
        return (
            f"{self.dataset} {split}: looked in {folder}"
            + (f" and below it in {first_few(below)}" if below else "")
            + f" for {expected}; {content}. To fix this, {self.source}, and pass the unpacked folder as root."
            f"{download} `seg datasets show {self.dataset}` prints the expected tree"
        )

    def _converted_masks(self, folder: Path, files: SplitFiles) -> list[Path]:
        """Returns the converted files in the folders of the masks."""
        steps = dict.fromkeys(pattern.rsplit("/", 1)[0] + "/*.png" for pattern in files.masks if "/" in pattern)
        found = (find_matches(folder / prefix, step) for prefix in self.prefixes for step in steps)
        return [path for paths in found for key, path in paths.items() if is_converted(key)]

    def _only_converted(self, folder: Path, split: str, masks: list[Path]) -> str:
        expected = f"expected masks {' or '.join(self.splits[split].masks)} (0 found)"
        found = (
            f"{len(masks)} masks that a converter of another toolkit wrote ({first_few(path.name for path in masks)})"
        )
        return (
            f"{self.dataset} {split} in {folder}: {expected}, and found only {found}; they have other ids. "
            f"To fix this, {self.source} again, so that the official masks are there too, or read the converted ones "
            "with FolderDataset, with the metadata of their ids and mask_suffix for the ending of their names"
        )


def read_listing(path: Path) -> set[str]:
    """Returns the names in a list of files, without folders and suffix.

    A line contains a name (`2007_000032`) or the paths of an image and its mask, often from another machine
    (`/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png`). So only the file name of the first path is used.

    Raises:
        CorruptFileError: if the list is empty, or not in UTF-8 or an encoding with a mark.
    """
    names = (re.split(r"[\\/]", line.split()[0])[-1] for line in read_lines(path))
    # names may contain dots, so only known suffixes are removed
    stems = {re.sub(r"\.(png|jpe?g|tiff?|bmp|mat)$", "", name, flags=re.IGNORECASE) for name in map(same_name, names)}
    if not stems:
        raise CorruptFileError(f"{path} lists no files; restore it from the archive it came with")
    return stems


def _name(key: str) -> str:
    """Returns the last element of a key, from the file name; lists and `SplitFiles.keys` have no folders."""
    return key.rsplit("/", 1)[-1]


def find_matches(
    folder: Path, pattern: str, exclude: tuple[str, ...] = (), suffixes: tuple[str, ...] = (), *, first: bool = False
) -> dict[str, Path]:
    """Returns key -> file for the files that match a glob pattern, sorted by key.

    Each `*` matches one or more characters of one name, and `**` as a whole step any number of folders. What they
    match, joined by `/` and in composed Unicode, is the key. Upper and lower case do not matter in the steps with a
    star; hidden files and folders are left out.

    Args:
        folder: where the pattern starts.
        pattern: steps separated by `/`.
        exclude: endings of names to leave out.
        suffixes: if given, only files with one of these suffixes match. If the pattern does not end in one of them, it
            describes the name without its suffix, so that `images/*` matches `images/a.jpg` with the key `a`.
        first: whether of two files with the same key the first is taken, instead of an error.

    Raises:
        DatasetNotFoundError: if two files have the same key.
    """
    found: dict[str, Path] = {}
    for path, key in _walk(folder, tuple(pattern.split("/")), (), suffixes):
        if key in found and found[key] != path:
            if first:
                continue
            raise DatasetNotFoundError(
                f"{found[key]} and {path.name if path.parent == found[key].parent else path} both match {pattern}, "
                "which pairs files by name; remove or rename one of them"
            )
        found[key] = path
    endings = tuple(ending.lower() for ending in exclude)
    # an excluded file may be the original of a converted one; in a folder of one's own any name may be a mask
    kept = found if suffixes else without_converted(found)
    return {key: kept[key] for key in sorted(kept) if not (endings and kept[key].name.lower().endswith(endings))}


def _walk(
    folder: Path, steps: tuple[str, ...], matched: tuple[str, ...], suffixes: tuple[str, ...]
) -> Iterator[tuple[Path, str]]:
    """Yields the files that match the rest of a glob pattern, with their keys."""
    # the leading folders without a star are one step
    literal = 0
    while literal < len(steps) - 1 and "*" not in steps[literal]:
        literal += 1
    folder = folder.joinpath(*steps[:literal])
    step, rest = steps[literal], steps[literal + 1 :]
    if not folder.is_dir():
        return
    if step == "**" and rest:
        yield from _walk(folder, rest, matched, suffixes)
        for path in _folders_in(folder):
            yield from _walk(path, steps[literal:], (*matched, same_name(path.name)), suffixes)
        return
    matches = _matcher(step, () if rest else suffixes)
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and (entry.is_file() or _is_array(entry.name, suffixes)) != bool(rest)
        )
    for name in names:
        match = matches(same_name(name))
        if match is None:
            continue
        if rest:
            yield from _walk(folder / name, rest, (*matched, *match.groups()), suffixes)
        else:
            yield folder / name, "/".join((*matched, *match.groups()))


def _is_array(name: str, suffixes: tuple[str, ...]) -> bool:
    """Returns whether a folder is a zarr array, where these are wanted."""
    return ".zarr" in suffixes and name.lower().endswith(".zarr")


def _folders_in(folder: Path) -> list[Path]:
    """Returns the folders in a folder, without hidden ones and without links to a folder around them."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    around = [folder.resolve(), *folder.resolve().parents]
    return sorted(Path(entry) for entry in found if not (entry.is_symlink() and Path(entry).resolve() in around))


def _matcher(step: str, suffixes: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    expression = "(.+)".join(map(re.escape, same_name(step).split("*")))
    if suffixes and not step.lower().endswith(suffixes):
        expression += f"(?:{'|'.join(map(re.escape, suffixes))})"
    return re.compile(expression, re.IGNORECASE).fullmatch  # suffixes may be in upper case
