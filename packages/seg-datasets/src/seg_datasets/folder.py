"""Your own data: images and masks in folders."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from seg_core.checks import is_integer
from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError
from seg_core.files.images import MAX_PIXELS
from seg_core.files.scan import OnProgress
from seg_core.labels.channels import ImageChannels
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.spec import parameters_of
from seg_datasets.reading.arguments import check_missing, check_root, check_split
from seg_datasets.reading.channel_options import with_channels
from seg_datasets.reading.class_files import Metadata, check_has_colors, resolve_classes
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.differences import find_hint, what_differs
from seg_datasets.reading.folder_layouts import Files, FolderLayout, find_layout
from seg_datasets.reading.folder_messages import files_not_found, options_of_split, unlike_train
from seg_datasets.reading.folder_options import complete_files, described_layout, given_layout
from seg_datasets.reading.folder_report import FolderReport, inspect_folder
from seg_datasets.reading.frames import warn_of_frames
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import Pair, first_few, pair_by_key
from seg_datasets.reading.samples import Reading
from seg_datasets.reading.splits import SPLITS, SplitFile, SplitRule, listed_keys
from seg_datasets.reading.text import same_name

__all__ = ["FolderDataset", "hashed_names"]

_Result = TypeVar("_Result")
_LAYOUT_OPTIONS = ("images", "masks", "mask_suffix", "pair_by", "split_file")

LAYOUT = """\
either one folder per split         or one folder for all
root/                               root/
  train/images/a.jpg                  images/a.jpg
  train/masks/a.png                   masks/a.png
  val/images/, val/masks/           a seeded fraction of them is val, the rest train
  test/images/, test/masks/ (masks optional)
also images/train/ and masks/train/, images/train/ and one masks/, img_dir/train/ and ann_dir/train/, JPEGImages/ and
SegmentationClass/ with the lists of ImageSets/Segmentation; masks may be called labels, annotations or gt, train
training, val valid, validation or dev. Anything else is given by the options images, masks, mask_suffix and split_file.
classes.toml in root names the classes.
images: png jpg jpeg bmp webp tif tiff; masks: png bmp tif tiff of the same name, one class id per pixel
images that are not red, green and blue of 8 bits: [channels] in classes.toml describes them; then npy and zarr too
"""


_MAX_ID = 65535
_REMEDY = "correct the mask or the labels of metadata, or convert the ids with label_map"
_COLOR_REMEDY = (
    "add these colors to the metadata, or save the mask without compression artifacts and smoothed edges; pixels of "
    "ignore_color are ignored"
)


class FolderDataset(PairedDataset):
    """Images and masks from folders, paired by name.

    Without options the usual folders are found: `train/images` and `train/masks`, `images/train` and `masks/train`, or
    `images` and `masks` for all splits, which are then split: a fraction `val_fraction` is val, the rest train. The
    split depends only on `seed` and the names; adding files changes the split of few others. `seg datasets show
    FolderDataset` lists the folders; `FolderDataset.inspect(root)` says what is found.

    A sample is (image, mask): image uint8 (3, H, W), RGB, or (C, H, W) of uint8, uint16 or float32 with the channels
    that are described and the values of the file; mask (H, W), uint8 if the ids fit, else int32. Masks contain one id
    per pixel, as gray values of 1 to 16 bits or palette indices: the class ids of `metadata`, its ignore value, or
    other ids that `label_map` converts; with `colors` they contain the colors of `metadata`. For test images without
    masks, the mask is None.

    Images and masks in folders below are paired by their path. Upper and lower case and the form of Unicode in names do
    not matter where only one file fits.

    Args:
        root: the folder.
        metadata: the classes: `DatasetMetadata`, the name of a known label set, a mapping with `labels`, or the path of
            a .toml or .json file. None reads `classes.toml` or `classes.json` in `root`.
        split: `"train"`, `"val"` or `"test"` (only if it has its own folder or list).
        transforms: called as `transforms(image, mask)`; its result is the sample.
        images: where the images are: a folder or a glob pattern relative to `root`, such as `"photos"`,
            `"{split}/*_rgb.png"` or `"data/**/*.jpg"`. `{split}` is the name of the split. `*` matches one or more
            characters of a name, `**` any folders; what they match pairs an image with its mask. None looks for the
            usual folders. A list is of images whose channels are in several files: files with the same key, one of each
            pattern, are one image, stacked in that order, as `["red/*.tif", "nir/*.tif"]`.
        masks: where the masks are, written as `images`; both are given, or neither.
        mask_suffix: what the names of masks have in addition, as `"_mask"` for a.jpg and a_mask.png. Other files beside
            the masks are left out.
        pair_by: `"path"` pairs files by their path below the folders of images and masks, `"name"` by their name alone,
            which must then be unique.
        split_file: lists of the files of each split, relative to `root`, with one name per line:
            `"splits/{split}.txt"`, or a table such as `{train = "train.txt", val = "val.txt"}`. Files that no list
            names are left out.
        val_fraction: fraction of the files for val if the splits have neither folders nor lists; above 0 and below 1.
            Train and val get at least one file each. None is 0.2. An error with folders or lists of splits.
        groups: regular expression, searched in the path of each image below the images folder without suffix. Files
            with the same first group stay on one side, as frames of one video must: `"^(.*)_[0-9]+$"`.
        folds: number of folds for cross-validation, instead of `val_fraction`.
        fold: the fold that is val, from 0 to `folds` - 1; the others are train.
        seed: decides which files, groups or folds are val; None is 0. An error with folders or lists of splits.
        label_map: raw ids of the masks -> train ids, for masks with other ids: a `LabelMap`, or a table as in a config,
            where `"ignore"` means the ignore value: `{0 = "ignore", 1 = 0, 2 = 1}`. Ids that it does not list
            are an error.
        colors: whether masks contain the colors of `metadata` instead of ids. Pixels of its `ignore_color`, black
            unless given, are ignored if no class has this color; any other color is an error.
        missing: how to handle an image or mask without its partner: `"error"` raises, `"skip"` leaves it out with a
            warning.
        orientation: `"apply"` rotates and flips images according to their EXIF, XMP or TIFF orientation tag, as viewers
            do, with a warning if the image has a mask, since masks have no such tag; `"stored"` ignores the tag, for
            masks that were drawn on the images as stored. A mask with such a tag is an error.
        max_pixels: maximum width times height of an image or a mask; a larger file is an error before it is decoded.
        channels: the channels of the images, if they are not red, green and blue of 8 bits: `ImageChannels`, or a table
            with its fields, as `{names = ["red", "green", "blue", "nir"], range = [0, 10000]}`. Then .npy files and
            zarr arrays are images too. None takes those of the metadata; others than these are an error.
        bands: the bands of the files that are the channels: numbers from 1, or descriptions of the bands. Without names
            of the channels these are the names.

    Attributes:
        metadata: names and colors of the classes, and the channels of the images.
        split: as given.

    Raises:
        InvalidArgumentError: if there is no such split, the classes are not given, or an argument has a value that is
            not allowed.
        DatasetNotFoundError: if files are not found, several layouts fit, or an image or mask has no partner; the
            message names the options that pair the files, if there are any.
        CorruptFileError: when a sample is read, if a file is damaged, too large or of an unsupported kind, or image and
            mask differ in size.
        LabelOutOfRangeError: when a sample is read, if its mask contains an id that is not allowed.
    """

    layout: ClassVar[str] = LAYOUT
    palette_remedy: ClassVar[str] = (
        "read the masks by their colors with colors=True, or save them with the palette in the order of the ids; if "
        "the indices are right, correct the colors of the metadata"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        metadata: Metadata | None = None,
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        images: str | Sequence[str] | None = None,
        masks: str | None = None,
        mask_suffix: str = "",
        pair_by: str = "path",
        split_file: SplitFile | None = None,
        val_fraction: float | None = None,
        groups: str | None = None,
        folds: int | None = None,
        fold: int = 0,
        seed: int | None = None,
        label_map: LabelMap | Mapping[Any, Any] | None = None,
        colors: bool = False,
        missing: str = "error",
        orientation: str = "apply",
        max_pixels: int = MAX_PIXELS,
        channels: ImageChannels | Mapping[str, Any] | None = None,
        bands: Sequence[int | str] | None = None,
    ) -> None:
        rule = SplitRule(val_fraction, seed, groups, folds, fold)
        reading = Reading(orientation, max_pixels)
        check_split(split, SPLITS, "FolderDataset")
        given = given_layout(images, masks, mask_suffix, pair_by, split_file)
        check_missing(missing)
        if metadata is not None:  # before the folder, so that a wrong label set is told first
            resolve_classes(root, metadata)
        self.root = check_root(root, "FolderDataset")
        classes = with_channels(resolve_classes(self.root, metadata), channels, bands)
        given = described_layout(given, classes)
        to_train_ids, mask_reader = _mask_reading(classes, metadata, label_map, colors)
        found = _layout_in(self.root, given, images is not None, rule)
        pairs = self._find_pairs(found, split, rule, missing)
        super().__init__(pairs, classes, split, to_train_ids, _REMEDY, transforms, mask_reader, reading)

    def _find_pairs(self, layout: FolderLayout, split: str, rule: SplitRule, missing: str) -> list[Pair]:
        assert self.root is not None
        return find_pairs(self.root, layout, split, rule, missing)

    @classmethod
    def find_metadata(
        cls,
        root: str | os.PathLike[str] | None,
        metadata: Metadata | None = None,
        channels: ImageChannels | Mapping[str, Any] | None = None,
        bands: Sequence[int | str] | None = None,
    ) -> DatasetMetadata | None:
        """Returns the classes that a dataset would have, and the channels of its images, without opening it.

        None for a subclass with arguments of its own, of which nothing is known.

        Raises:
            InvalidArgumentError: if `metadata` is None and the root has no `classes.toml` or `classes.json`, or the
                classes are not valid; or if the channels are not.
        """
        if cls.__init__ is not FolderDataset.__init__:
            return None
        return with_channels(resolve_classes(root, metadata), channels, bands)

    @classmethod
    def option_problems(cls, root: str | os.PathLike[str] | None, params: Mapping[str, Any]) -> list[str]:
        """Returns what is wrong with options, one sentence per problem, without a look at images or masks.

        Nothing is known of a subclass with arguments of its own.

        Args:
            root: the folder; None, or one that does not exist, leaves out what depends on it.
            params: options of the dataset.
        """
        if cls.__init__ is not FolderDataset.__init__:
            return []
        own = {name: p.default for name, p in parameters_of(cls).items()} | dict(params)
        problems: list[str] = []

        def checked(check: Callable[[], _Result]) -> _Result | None:
            try:
                return check()
            except UserError as error:
                problems.append(str(error))
                return None

        rule = checked(lambda: SplitRule(*(own[f.name] for f in fields(SplitRule))))
        checked(lambda: Reading(own["orientation"], own["max_pixels"]))
        checked(lambda: check_missing(own["missing"]))
        given = checked(lambda: given_layout(*(own[name] for name in _LAYOUT_OPTIONS)))
        with contextlib.suppress(UserError):  # what is wrong with the classes is told by `find_metadata`
            classes = resolve_classes(root, own["metadata"])
            described = checked(lambda: with_channels(classes, own["channels"], own["bands"]))
            given = given if given is None or described is None else described_layout(given, described)
            checked(lambda: _mask_reading(classes, own["metadata"], own["label_map"], own["colors"]))
        if rule is not None and given is not None and root is not None and Path(root).expanduser().is_dir():
            folder = Path(root).expanduser()
            checked(lambda: _check_rule(folder, _layout_in(folder, given, own["images"] is not None, rule), rule))
        return problems

    @classmethod
    def inspect(cls, root: str | os.PathLike[str], progress: OnProgress | None = None, **options: Any) -> FolderReport:
        """Looks at a folder: layout, numbers and sizes of files, ids in the masks, and what is odd.

        Args:
            root: the folder.
            progress: called with the number of masks read and their total after each mask.
            **options: options of `FolderDataset` that are known; the others are found.

        Returns:
            A report with the options that fit, for `FolderDataset(root, **report.options)`.

        Raises:
            InvalidArgumentError: if there is no such option.
            DatasetNotFoundError: if there is no such folder.
        """
        return inspect_folder(cls, check_root(root, "FolderDataset"), options, progress)


def find_pairs(root: Path, layout: FolderLayout, split: str, rule: SplitRule, missing: str) -> list[Pair]:
    """Returns the files of a split.

    Raises:
        InvalidArgumentError: if options contradict each other.
        DatasetNotFoundError: if files are not found or do not pair.
    """
    _check_rule(root, layout, rule)
    has_own = layout.has_split_folders or layout.split_file is not None
    files = layout.files(root, split)
    where = f"FolderDataset {split} in {_folder_of(root, layout, split)}"
    found = files
    if layout.split_file is not None and files.images:
        files = _listed(root, layout, split, files, missing)
    if files.partial:
        files = complete_files(files, where, missing)
    without_masks = split == "test" and has_own and not files.masks
    if not files.images or not (found.masks or without_masks):
        raise DatasetNotFoundError(files_not_found(root, layout, split, files))

    def explain() -> str:
        hint = None if layout.more_images else find_hint(root, layout, split, found)
        if hint is None:
            return what_differs(files.images, files.masks)
        return unlike_train(root, layout, split, hint) or hint.sentence(layout)

    masks = None if without_masks else files.masks
    pairs = pair_by_key(files.images, masks, where, missing, explain=explain)
    if files.more:
        more = {files.images[key]: others for key, others in files.more.items()}
        pairs = [replace(pair, more=more[pair.image]) for pair in pairs]
    if has_own:
        return pairs
    keys = {path: key for key, path in files.images.items()}
    return _train_or_val(
        pairs, root, split, rule.val_fraction, rule.seed, keys, rule=rule, images=layout.images, layout=layout
    )


def _check_rule(root: Path, layout: FolderLayout, rule: SplitRule) -> None:
    """Checks that the files of a layout are split by one rule only."""
    has_own = layout.has_split_folders or layout.split_file is not None
    if has_own and rule.given:
        what = f"folders per split ({layout.images})" if layout.has_split_folders else f"lists ({layout.split_file})"
        raise InvalidArgumentError(
            f"FolderDataset: {' and '.join(rule.given)} cannot be used, as {root} has {what}; remove it, or name the "
            "files to be split with images and masks, as in images='train/images', masks='train/masks'"
        )


def _layout_in(root: Path, given: FolderLayout, has_patterns: bool, rule: SplitRule) -> FolderLayout:
    """Returns the layout of a folder: as given, or what is found there with the options that were given; these win."""
    if has_patterns:
        return given
    found = find_layout(root, with_arrays=given.with_arrays)
    lists = given.split_file if given.split_file is not None or set(rule.given) - {"seed"} else found.split_file
    return replace(given, images=found.images, masks=found.masks, split_file=lists)


def _listed(root: Path, layout: FolderLayout, split: str, files: Files, missing: str) -> Files:
    assert layout.split_file is not None
    known = {*files.images, *files.partial} if files.partial else files.images
    keys = listed_keys(root, layout.split_file, split, known, layout.mask_suffix, missing)
    return Files(
        {key: files.images[key] for key in keys if key in files.images},
        {key: files.masks[key] for key in keys if key in files.masks},
        files.looked_in,
        {key: files.more[key] for key in keys if key in files.more},
        {key: files.partial[key] for key in keys if key in files.partial},
    )


def _folder_of(root: Path, layout: FolderLayout, split: str) -> Path:
    return root / split if layout.images.startswith("{split}/") else root


def _train_or_val(
    pairs: list[Pair],
    root: Path,
    split: str,
    val_fraction: float | None,
    seed: int | None,
    keys: Mapping[Path, str] | None = None,
    *,
    rule: SplitRule | None = None,
    images: str = "images",
    layout: FolderLayout | None = None,
) -> list[Pair]:
    if split == "test":
        message = f"{root} has no test split: {root}/{images} is split into train and val"
        if layout is not None and (told := options_of_split(root, layout, "test")):
            raise DatasetNotFoundError(f"{message}; {told}")
        raise DatasetNotFoundError(
            f"{message}; put test images into {root}/test/images and the others into {root}/train and {root}/val"
        )
    rule = rule or SplitRule(val_fraction, seed)
    key_of = {pair.image: pair.image.stem if keys is None else keys[pair.image] for pair in pairs}
    names = hashed_names({key: path for path, key in key_of.items()}, rule)
    held_out = rule.val_keys(names, f"{root}/{images}")
    if rule.groups is None:
        warn_of_frames(names.keys() - held_out, held_out, str(root))
    return [pair for pair in pairs if (key_of[pair.image] in held_out) == (split == "val")]


def hashed_names(images: Mapping[str, Path], rule: SplitRule) -> dict[str, str]:
    """Returns key -> the name by which `SplitRule.val_keys` decides whether an image is val."""
    # the stem as it is stored is what earlier versions hashed
    return {
        key: path.stem if key == same_name(path.stem) and rule.groups is None else key for key, path in images.items()
    }


def _mask_reading(
    classes: DatasetMetadata, metadata: Metadata | None, label_map: Any, colors: bool
) -> tuple[LabelMap, ColorReader | None]:
    """Returns how raw ids become train ids, and the reader of masks in colors or None."""
    if not isinstance(colors, bool):
        raise InvalidArgumentError(f"colors must be true or false, got {colors!r}; colors belong into the metadata")
    if not colors:
        return _resolve_label_map(label_map, classes), None
    check_has_colors(classes, metadata)
    return _color_reader(classes, label_map)


def _color_reader(
    metadata: DatasetMetadata, label_map: LabelMap | Mapping[Any, Any] | None
) -> tuple[LabelMap, ColorReader]:
    if label_map is not None:
        raise InvalidArgumentError(
            "label_map converts ids, and colors = true reads colors as the classes of the metadata; remove one of them"
        )
    colors = dict(enumerate(metadata.colors))
    ignored = [metadata.num_classes] * (metadata.ignore_color not in metadata.colors)
    colors |= dict.fromkeys(ignored, metadata.ignore_color)
    to_train_ids = LabelMap.identity(metadata.num_classes, *ignored, ignore_index=metadata.ignore_index)
    return to_train_ids, ColorReader(colors, "error", only_colors=True, remedy=_COLOR_REMEDY)


def _resolve_label_map(label_map: LabelMap | Mapping[Any, Any] | None, metadata: DatasetMetadata) -> LabelMap:
    ignore_index, count = metadata.ignore_index, metadata.num_classes
    if label_map is None:
        return LabelMap.identity(count, ignore_index, ignore_index=ignore_index)
    if not isinstance(label_map, LabelMap):
        if not isinstance(label_map, Mapping):
            raise InvalidArgumentError(f"label_map must be a LabelMap or a table of ids, got {label_map!r}")
        table = {_raw_id(raw): _train_id(raw, train, count) for raw, train in label_map.items()}
        if len(table) < len(label_map):
            raise InvalidArgumentError(f"label_map lists an id twice: {first_few(map(repr, label_map))}")
        label_map = LabelMap(table, ignore_index=ignore_index)
    if label_map.ignore_index != ignore_index:
        raise InvalidArgumentError(
            f"label_map has ignore_index {label_map.ignore_index}, but the metadata {metadata.name!r} have "
            f"{ignore_index}; use the same ignore_index for both"
        )
    too_large = sorted({train for train in label_map.mapping.values() if isinstance(train, int) and train >= count})
    if too_large:
        raise InvalidArgumentError(
            f"label_map has the train ids {first_few(map(str, too_large))}, but the metadata {metadata.name!r} have "
            f'{count} classes, 0 to {count - 1}; map to these, or to "ignore" (IGNORE in Python)'
        )
    return label_map


def _raw_id(key: Any) -> int:
    # the keys of a TOML or JSON table are strings
    number = int(key) if isinstance(key, str) and re.fullmatch(r"[0-9]+", key) else key
    if not is_integer(number, 0) or number > _MAX_ID:
        raise InvalidArgumentError(
            f"label_map has the key {key!r}: keys are the ids in the masks, integers from 0 to {_MAX_ID}"
        )
    return number


def _train_id(raw: Any, train: Any, count: int) -> Any:
    if train == "ignore" or train is IGNORE:
        return IGNORE
    if not is_integer(train, 0):
        raise InvalidArgumentError(
            f'label_map maps {raw!r} to {train!r}: it must be a class id, 0 to {count - 1}, or "ignore"'
        )
    return train
