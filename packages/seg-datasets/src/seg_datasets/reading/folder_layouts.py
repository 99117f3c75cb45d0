"""Where the images and masks of a folder of one's own are: given as patterns, or found by the usual names."""

import itertools
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_keys import by_name, class_planes, may_share, same_case, stacked, without_suffix
from seg_datasets.reading.layout import find_matches
from seg_datasets.reading.pairs import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    describe_folder,
    files_by_stem,
    first_few,
)
from seg_datasets.reading.splits import NAMES_OF, SPLITS, SplitFile, check_split_file
from seg_datasets.reading.text import same_name

__all__ = ["Files", "FolderLayout", "find_layout", "has_files", "split_name"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "JPEGImages")
MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "gt",
    "ann_dir",
    "SegmentationClass",
    "SegmentationClassPNG",
)
_FORMS = ("{split}/NAME", "NAME/{split}", "NAME")
_LAST_NAMES = {"val": "dev"}  # if there are no others
_VOC_LISTS = "ImageSets/Segmentation/{split}.txt"


@dataclass(frozen=True)
class Files:
    """The files of a split, before they are paired.

    Attributes:
        images: key -> image.
        masks: key -> mask.
        looked_in: what was found where, for messages.
        more: key -> the other files of an image of several; empty if all have one.
        partial: key -> a file of an image that lacks another, and the pattern of the first that it lacks.
        planes: mask -> its file per class, None of a class without; empty if masks have no file per class.
    """

    images: FileTable
    masks: FileTable
    looked_in: str
    more: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    partial: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    planes: Mapping[str, tuple[Path | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderLayout:
    """Where images and masks are, as the arguments of `FolderDataset` of the same names.

    Attributes:
        images, masks: glob patterns or folders relative to the root, which may hold `{split}`.
        mask_suffix: end of the names of masks, before the suffix of the file.
        pair_by: `"path"` or `"name"`.
        split_file: lists of names, or None.
        more_images: the patterns of the other files of an image of several, in the order of their bands.
        with_arrays: whether .npy files and zarr arrays are images too.
        mask_suffixes: suffixes of the files that count as masks.
        labels: the classes, for `{class}` in `masks`; empty if masks have no file per class.
        missing_class: `"absent"` if an image without the file of a class has none of it, else `"error"`.

    Raises:
        InvalidArgumentError: if a value is not allowed.
    """

    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    pair_by: str = "path"
    split_file: SplitFile | None = None
    more_images: tuple[str, ...] = ()
    with_arrays: bool = False
    mask_suffixes: tuple[str, ...] = MASK_SUFFIXES
    labels: tuple[str, ...] = ()
    missing_class: str = "error"

    def __post_init__(self) -> None:
        for name, pattern in (*(("images", one) for one in (self.images, *self.more_images)), ("masks", self.masks)):
            _check_pattern(name, pattern)
        if unlike := [one for one in self.more_images if ("{split}" in one) != self.has_split_folders]:
            one, other = (self.images, unlike[0]) if self.has_split_folders else (unlike[0], self.images)
            raise InvalidArgumentError(f"images has {one!r} with {{split}} and {other!r} without; write it into all")
        if not isinstance(self.mask_suffix, str):
            raise InvalidArgumentError(f"mask_suffix must be a string such as '_mask', got {self.mask_suffix!r}")
        if self.mask_suffix.lower().endswith(MASK_SUFFIXES):
            raise InvalidArgumentError(
                f"mask_suffix = {self.mask_suffix!r} is the end of a name before the suffix of the file; write "
                f"{self.mask_suffix.rsplit('.', 1)[0]!r}"
            )
        check_choice("pair_by", self.pair_by, ("path", "name"), "'name' leaves out the folders")
        if self.split_file is not None:
            check_split_file(self.split_file)
        if ("{split}" in self.masks) and not self.has_split_folders:
            raise InvalidArgumentError(
                f"masks = {self.masks!r} contains {{split}} and images = {self.images!r} does not; write it into both"
            )

    @property
    def has_split_folders(self) -> bool:
        """Whether each split has files of its own."""
        return "{split}" in self.images

    @property
    def image_suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that count as images."""
        return IMAGE_SUFFIXES + ARRAY_SUFFIXES * self.with_arrays

    def files(
        self, root: Path, split: str, *, first: bool = False, mask_suffixes: tuple[str, ...] | None = None
    ) -> Files:
        """Returns the images and masks of a split; those of all splits if these have no files of their own.

        Args:
            root: the folder.
            split: name of the split.
            first: whether of two files with the same key the first is taken, instead of an error.
            mask_suffixes: suffixes of the files that count as masks; None for those of the layout.

        Raises:
            InvalidArgumentError: if images and masks are the same files.
            DatasetNotFoundError: if two files have the same key, or several folders may be that of the split.
        """
        mask_suffixes = self.mask_suffixes if mask_suffixes is None else mask_suffixes
        images, image_folder = _files(root, "images", self.images, split, self.image_suffixes, first)
        others = [_files(root, "images", one, split, self.image_suffixes, first)[0] for one in self.more_images]
        masks, mask_folder, planes = self._masks(root, split, mask_suffixes, first)
        if images and not masks and self.has_split_folders:  # of several names of a split, the one that is there
            name = split_name(root, self, split)
            mask_folder = _resolved(root, self.masks.replace("{split}", name))
        if may_share(images, masks):
            has_mask, has_image = matched(images, masks)
            both = zip(images.where(has_mask).paths, masks.where(has_image).paths, strict=True)
            if (path := next((image for image, mask in both if image == mask), None)) is not None:
                raise InvalidArgumentError(
                    f"images = {self.images!r} and masks = {self.masks!r} match the same files, such as "
                    f"{first_few([Path(path).name])}; give patterns or a mask_suffix that tell them apart"
                )
            own = set(masks.paths)
            images = images.where(path not in own for path in images.paths)
        if self.pair_by == "name":
            images, masks = by_name(images, "images"), by_name(masks, "masks")
            others = [by_name(files, "images") for files in others]
        images, more, partial = stacked(images, others, (self.images, *self.more_images))
        masks = same_case(images, masks)
        if self.has_split_folders and "{split}" not in self.masks:
            masks = masks.where(matched(images, masks)[1])  # the others are of other splits
        descriptions = [
            f"{folder}: {len(found)} {noun}" if found or "*" in pattern else describe_folder(folder, suffixes, noun)
            for folder, found, noun, pattern, suffixes in (
                (image_folder, images, "images", self.images, self.image_suffixes),
                (mask_folder, masks, "masks", self.masks, mask_suffixes),
            )
        ]
        return Files(images, masks, "; ".join(descriptions), more, partial, planes)

    def _masks(
        self, root: Path, split: str, suffixes: tuple[str, ...], first: bool
    ) -> tuple[FileTable, Path, dict[str, tuple[Path | None, ...]]]:
        """Returns the masks by their keys, the folder that was searched, and `Files.planes`."""
        tables, folder = [], root
        for label in self.labels or ("",):
            masks, folder = _files(root, "masks", self.masks.replace("{class}", label), split, suffixes, first)
            if self.mask_suffix:
                masks = without_suffix(masks, same_name(self.mask_suffix), first)
            tables.append(masks)
        if not self.labels:
            return tables[0], folder, {}
        masks, planes = class_planes(tables)
        return masks, root / self.masks, planes


def find_layout(
    root: Path, *, with_arrays: bool = False, mask_suffixes: tuple[str, ...] = MASK_SUFFIXES
) -> FolderLayout:
    """Returns the layout of a folder, by the usual names of folders.

    Folders per split come before one folder for all, and `images` and `masks` before other names.

    Args:
        root: the folder.
        with_arrays: whether .npy files and zarr arrays are images too.
        mask_suffixes: suffixes of the files that count as masks.

    Raises:
        DatasetNotFoundError: if several layouts fit.
    """
    suffixes = IMAGE_SUFFIXES + ARRAY_SUFFIXES * with_arrays
    layout = _find_layout(root, suffixes, mask_suffixes)
    return replace(layout, with_arrays=with_arrays, mask_suffixes=mask_suffixes)


def _find_layout(root: Path, suffixes: tuple[str, ...], mask_suffixes: tuple[str, ...]) -> FolderLayout:
    found = _fitting(root, suffixes, mask_suffixes)
    per_split = FolderLayout("{split}/images", "{split}/masks")
    flat = FolderLayout()
    if any((root / split / "images").is_dir() for split in SPLITS):
        found = [layout for layout in found if layout.images.startswith("{split}/")]
        if not found or per_split in found:
            return per_split
    if not found or (flat in found and _has_direct_files(root, suffixes, mask_suffixes)):
        return flat
    if len(found) > 1:
        options = "; or ".join(f"images={layout.images!r}, masks={layout.masks!r}" for layout in found)
        raise DatasetNotFoundError(f"FolderDataset: several layouts fit {root}. Choose one with {options}")
    layout = found[0]
    if layout.images == "JPEGImages" and any(
        (root / _VOC_LISTS.replace("{split}", split)).is_file() for split in ("train", "val")
    ):
        return replace(layout, split_file=_VOC_LISTS)
    return layout


def split_name(root: Path, layout: FolderLayout, split: str) -> str:
    """Returns the name of a split in the folders of a layout, such as `"training"`; the split if there is none."""
    last = [_LAST_NAMES[split]] if split in _LAST_NAMES else []
    for name in (*NAMES_OF.get(split, (split,)), *last):
        if _files_of(root, layout.images.replace("{split}", name), layout.image_suffixes):
            return _spelled(root, layout.images, name)
    return split


def _spelled(root: Path, pattern: str, name: str) -> str:
    """Returns the name of a split as it is written in a folder, which may differ by upper and lower case."""
    folder = pattern[: pattern.index("{split}") + len("{split}")].replace("{split}", name)
    spelled = _resolved(root, folder) if (root / folder).parent.is_dir() else root / folder
    written = spelled.relative_to(root).as_posix()
    return written[len(folder) - len(name) :] if written.casefold() == folder.casefold() else name


def has_files(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Returns whether a folder, or one below it, holds a file with one of the suffixes; hidden ones do not count."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found = [*names, *(name for name in folders if name.lower().endswith(".zarr"))]
        if any(name.lower().endswith(suffixes) and not name.startswith(".") for name in found):
            return True
    return False


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _fitting(root: Path, suffixes: tuple[str, ...], mask_suffixes: tuple[str, ...]) -> list[FolderLayout]:
    images = _forms(root, IMAGE_FOLDERS, suffixes)
    masks = _forms(root, MASK_FOLDERS, mask_suffixes)
    found = []
    for form in _FORMS:
        for image, mask in itertools.product(images, masks):
            if form in images[image] and form in masks[mask]:
                found.append(FolderLayout(form.replace("NAME", image), form.replace("NAME", mask)))
    return found or _with_masks_of_all(root, images, masks)


def _with_masks_of_all(
    root: Path, images: Mapping[str, list[str]], masks: Mapping[str, list[str]]
) -> list[FolderLayout]:
    """Returns layouts with a folder of images per split and one of masks for all of them."""
    found = []
    for image, mask in itertools.product(images, masks):
        if _FORMS[2] in images[image] or masks[mask] != [_FORMS[2]]:
            continue
        layout = FolderLayout(images[image][0].replace("NAME", image), mask)
        try:
            splits = [layout.files(root, split) for split in SPLITS]
        except UserError:
            continue
        pairs = itertools.combinations([files.images for files in splits], 2)
        # a name in two splits would share its mask
        if not any(matched(*pair)[0].any() for pair in pairs) and all(files.masks for files in splits[:2]):
            found.append(layout)
    return found


def _forms(root: Path, names: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Returns name -> the forms in which a folder of that name holds files."""
    forms: dict[str, list[str]] = {}
    for name in names:
        found = [
            form
            for form in _FORMS[:2]
            if any(has_files(folder, suffixes) for folder in _split_folders(root, form.replace("NAME", name)))
        ]
        plain = _resolved(root, name)
        # a folder with a folder per split is no folder for all, unless it holds files itself
        if plain.is_dir() and (files_by_stem(plain, suffixes) if _FORMS[1] in found else has_files(plain, suffixes)):
            found.append(_FORMS[2])
        forms[name] = found
    return {name: found for name, found in forms.items() if found}


def _split_folders(root: Path, pattern: str) -> Iterator[Path]:
    for split in SPLITS:
        for name in NAMES_OF[split]:
            folder = _resolved(root, pattern.replace("{split}", name))
            if folder.is_dir():
                yield folder


def _has_direct_files(root: Path, suffixes: tuple[str, ...], mask_suffixes: tuple[str, ...]) -> bool:
    return bool(files_by_stem(root / "images", suffixes) and files_by_stem(root / "masks", mask_suffixes))


# ---- files of a pattern ----------------------------------------------------------------------------------------------


def _check_pattern(name: str, pattern: object) -> None:
    example = "a folder or a glob pattern below the root, such as 'images' or 'images/*.jpg'"
    if not isinstance(pattern, str) or not pattern.strip("/ "):
        raise InvalidArgumentError(f"{name} must be {example}, got {pattern!r}")
    if "\\" in pattern:
        raise InvalidArgumentError(f"{name} = {pattern!r}: write / between folders, as in {example}")
    if re.search(r"\{[^{}/]*,[^{}/]*\}", pattern):
        raise InvalidArgumentError(
            f"{name} = {pattern!r}: braces with a choice are not supported; write * instead, which matches any "
            "characters, and leave out the suffix to read files of all kinds, as in 'images/*'"
        )
    if pattern.startswith("/"):
        raise InvalidArgumentError(f"{name} = {pattern!r}: must be relative to the root: {example}")


def _files(
    root: Path, noun: str, pattern: str, split: str, suffixes: tuple[str, ...], first: bool
) -> tuple[FileTable, Path]:
    """Returns the files of a pattern, and the folder or the pattern that was searched."""
    names = NAMES_OF.get(split, (split,)) if "{split}" in pattern else (split,)
    found = {}
    for name in names:
        filled = pattern.replace("{split}", name)
        if files := _files_of(root, filled, suffixes, first):
            found[name] = files
    if len(found) > 1:
        folders = " and ".join(pattern.replace("{split}", name) for name in found)
        raise DatasetNotFoundError(
            f"FolderDataset {split}: {root} has {noun} in {folders}; remove one, or rename it to something else"
        )
    if not found and "{split}" in pattern and split in _LAST_NAMES:
        name = _LAST_NAMES[split]
        if files := _files_of(root, pattern.replace("{split}", name), suffixes, first):
            found[name] = files
    name, files = next(iter(found.items()), (names[0], FileTable()))
    return files, _resolved(root, pattern.replace("{split}", name))


def _files_of(root: Path, pattern: str, suffixes: tuple[str, ...], first: bool = False) -> FileTable:
    pattern = pattern.strip("/")
    steps = pattern.split("/")
    literal = list(itertools.takewhile(lambda step: "*" not in step, steps))
    folder = _resolved(root, "/".join(literal))
    if len(literal) < len(steps):
        rest = "/".join(steps[len(literal) :])
        rest = rest.removesuffix(".*")
        return find_matches(folder, f"{rest}/*" if rest.endswith("**") else rest, suffixes=suffixes, first=first)
    files = files_by_stem(folder, suffixes, first=first)
    if not files:
        return find_matches(folder, "**/*", suffixes=suffixes, first=first)
    if nested := find_matches(folder, "*/**/*", suffixes=suffixes, first=True):
        warnings.warn(
            f"{folder} holds {len(files)} files, and {len(nested)} more in folders below it, which are left out: "
            f"{first_few(nested)}; give '{pattern}/**/*' as the pattern to read all, or remove these",
            stacklevel=7,
        )
    return files


def _resolved(root: Path, folder: str) -> Path:
    """Returns a folder below the root; upper and lower case and the form of Unicode do not matter if only one fits."""
    path = root / folder
    if path.is_dir():
        return path
    here = root
    for step in folder.split("/"):
        below = here / step
        if not below.is_dir():
            alike = []
            if here.is_dir():
                wanted = same_name(step).casefold()
                with os.scandir(here) as entries:  # a path for each of many files is slow
                    names = [entry.name for entry in entries if same_name(entry.name).casefold() == wanted]
                alike = [here / name for name in names if (here / name).is_dir()]
            if len(alike) != 1:
                return path
            below = alike[0]
        here = below
    return here
