"""Official folder trees as data: where the files of a split lie, how they are found and paired, what is missing."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, nearest
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.arguments import check_missing, check_root
from seg_datasets.reading.pairs import Pair, first_few, pair_by_key

__all__ = ["Layout", "Part", "read_listing"]


@dataclass(frozen=True)
class Part:
    """Where the files of one split lie.

    A pattern is a path below the dataset's folder, such as `leftImg8bit/train/*/*_leftImg8bit.png`. Each `*` stands
    for some characters of one name. What the stars match, joined by `/`, is the key of a file: an image and the mask
    with the same key belong together. Of several patterns the first that any file fits counts.

    Attributes:
        images: patterns of the images.
        masks: patterns of the masks; empty where the split has none.
        listing: path of a text file with one name per line that decides which files belong to the split.
        keys: the keys that belong to the split, where no file on disk says so; all where empty.
        exclude: endings of names that are no images although the pattern fits.
        needs_listing: whether the split does not exist without its listing.
        held_back: whether the split may come without masks.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...] = ()
    listing: str | None = None
    keys: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    needs_listing: bool = False
    held_back: bool = False


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk.

    Attributes:
        dataset: its name.
        source: where to get it and how, for messages: `"get A.zip from https://..."`.
        tree: the folders and files, for people.
        parts: split -> where its files lie; the order is the one in which splits are listed.
        examples: split -> keys of some of its files, official names.
        aliases: other names of splits -> split.
        prefixes: folders below the root that are tried in turn, for whatever one unpacks archives into.
        top: the one of `prefixes` that the archives themselves make.
        archives: what `download=True` fetches; empty where the license or a registration stands before it.
    """

    dataset: str
    source: str
    tree: str
    parts: Mapping[str, Part]
    examples: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)
    top: str = ""
    archives: tuple[Archive, ...] = ()

    def split_name(self, split: str) -> str:
        """Returns the split that `split` names, itself or by an alias.

        Raises:
            InvalidArgumentError: if there is none.
        """
        if isinstance(split, str):
            name = self.aliases.get(split, split)
            if name in self.parts:
                return name
        known = [*self.aliases, *self.parts]
        hint = nearest(split, known) if isinstance(split, str) else ""
        aliases = ", ".join(f"{alias} for {name}" for alias, name in self.aliases.items())
        raise InvalidArgumentError(
            f"{self.dataset} has no split {split!r}.{hint} Allowed: {', '.join(self.parts)}"
            + (f"; also {aliases}" if aliases else "")
        )

    def find(self, root: str | os.PathLike[str], split: str, missing: str = "error") -> list[Pair]:
        """Returns the files of a split, sorted by key.

        Args:
            root: the dataset's folder, or one above it.
            split: one of `parts`.
            missing: what becomes of an image or mask without its partner: `"error"` or `"skip"`, with a warning.

        Raises:
            InvalidArgumentError: if `missing` is something else.
            DatasetNotFoundError: if there is no such folder, the split has no files, or a partner is missing.
            CorruptFileError: if the listing is empty.
        """
        check_missing(missing)
        part, folder = self.parts[split], check_root(root, self.dataset)
        images, masks = (
            self._files(folder, part.images, part.keys, part.exclude),
            self._files(folder, part.masks, part.keys),
        )
        without_masks = not part.masks or (part.held_back and not masks)
        listing = self._listing(folder, part)
        if not images or not (masks or without_masks) or (part.needs_listing and listing is None):
            raise DatasetNotFoundError(self._not_found(folder, split, len(images), len(masks)))
        wanted = None if listing is None else read_listing(listing)
        if part.keys:
            wanted = set(part.keys)
        if wanted is not None:
            images = {key: path for key, path in images.items() if _name(key) in wanted}
            masks = {key: path for key, path in masks.items() if _name(key) in wanted}
            self._check_listed(wanted, images, split, listing, missing)
        where = f"{self.dataset} {split} in {folder}"
        advice = f"leave them out with missing='skip', or {self.source} once more"
        pairs = pair_by_key(images, None if without_masks else masks, where, missing, advice)
        if not pairs:
            raise DatasetNotFoundError(self._not_found(folder, split, len(images), len(masks)))
        return pairs

    def locate(self, root: str | os.PathLike[str], name: str) -> Path | None:
        """Returns the file `name` below the first of `prefixes` that has it, or None."""
        folder = check_root(root, self.dataset)
        return next((path for prefix in self.prefixes if (path := folder / prefix / name).is_file()), None)

    def _listing(self, folder: Path, part: Part) -> Path | None:
        return None if part.listing is None else self.locate(folder, part.listing)

    def _files(
        self, folder: Path, patterns: tuple[str, ...], keys: tuple[str, ...], exclude: tuple[str, ...] = ()
    ) -> dict[str, Path]:
        wanted = set(keys)
        others: dict[str, Path] = {}
        for prefix in self.prefixes:
            for pattern in patterns:
                found = _matches(folder / prefix, pattern, exclude)
                if any(_name(key) in wanted for key in found) if wanted else found:
                    return found
                # only other files fit, as those with an addition to the name; another pattern may do better
                others = others or found
        return others

    def _check_listed(
        self, wanted: set[str], images: Mapping[str, Path], split: str, listing: Path | None, missing: str
    ) -> None:
        lacking = sorted(wanted - {_name(key) for key in images})
        if not lacking:
            return
        what = f"{listing} lists" if listing else "the split has"
        text = (
            f"{self.dataset} {split}: {what} {len(wanted)} images, {len(lacking)} of which are not there: "
            f"{first_few(lacking)}"
        )
        if missing == "error":
            raise DatasetNotFoundError(f"{text}; leave them out with missing='skip', or {self.source} once more")
        warnings.warn(f"{text}; they are left out", stacklevel=5)

    def _not_found(self, folder: Path, split: str, num_images: int, num_masks: int) -> str:
        part = self.parts[split]
        expected = f"images {' or '.join(part.images)} ({num_images} found)"
        if part.masks:
            expected += f", masks {' or '.join(part.masks)} ({num_masks} found)"
        if part.listing and (part.needs_listing or self._listing(folder, part)):
            found = "found" if self._listing(folder, part) else "not found"
            expected += f", the list {part.listing} ({found})"
        below = [prefix for prefix in self.prefixes if prefix]
        entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        holds = f"it holds {first_few(entries)}" if entries else "it is empty"
        served = any(not archive.splits or split in archive.splits for archive in self.archives)
        download = " download=True does all of that." if served else ""
        return (
            f"{self.dataset} {split}: looked in {folder}"
            + (f" and below it in {first_few(below)}" if below else "")
            + f" for {expected}; {holds}. Remedy: {self.source}, and give the unpacked folder as root.{download} "
            f"`seg datasets show {self.dataset}` prints the whole tree"
        )


def read_listing(path: Path) -> set[str]:
    """Returns the names in a list of files, without folders and suffix.

    A line holds a name (`2007_000032`) or the paths of an image and its mask, often those of somebody else's machine
    (`/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png`), so that of the first only the name counts.

    Raises:
        CorruptFileError: if it lists nothing.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = (re.split(r"[\\/]", line.split()[0])[-1] for line in lines if line.strip())
    # a name may hold dots of its own: only what looks like an image's suffix is one
    stems = {re.sub(r"\.(png|jpe?g|tiff?|bmp|mat)$", "", name, flags=re.IGNORECASE) for name in names}
    if not stems:
        raise CorruptFileError(f"{path} lists no files; restore it from the archive it came with")
    return stems


def _name(key: str) -> str:
    """Returns the part of a key that lists and splits know: the file's, without the folders'."""
    return key.rsplit("/", 1)[-1]


def _matches(folder: Path, pattern: str, exclude: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path, key in _walk(folder, tuple(pattern.split("/")), ()):
        if path.name.endswith(exclude) if exclude else False:
            continue
        if key in found:
            raise DatasetNotFoundError(
                f"{found[key]} and {path.name} beside it both fit {pattern}, which pairs files by name; remove or "
                "rename one of them"
            )
        found[key] = path
    return dict(sorted(found.items()))


def _walk(folder: Path, steps: tuple[str, ...], parts: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Yields the files that fit the rest of a pattern, with the keys that its stars give."""
    # the longest beginning without a star is one step
    literal = 0
    while literal < len(steps) - 1 and "*" not in steps[literal]:
        literal += 1
    folder = folder.joinpath(*steps[:literal])
    fits = _matcher(steps[literal])
    is_last = literal == len(steps) - 1
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file() == is_last)
    for name in names:
        match = fits(name)
        if match is None:
            continue
        if is_last:
            yield folder / name, "/".join((*parts, *match.groups()))
        else:
            yield from _walk(folder / name, steps[literal + 1 :], (*parts, *match.groups()))


def _matcher(step: str) -> Callable[[str], re.Match[str] | None]:
    expression = "(.+)".join(map(re.escape, step.split("*")))
    return re.compile(expression, re.IGNORECASE).fullmatch  # suffixes come in capitals too
