"""Your own data: images and masks in folders."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError
from seg_core.files.images import MAX_PIXELS
from seg_core.files.scan import OnProgress
from seg_core.labels.channels import ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.spec import parameters_of
from seg_datasets.reading.arguments import check_missing, check_root, check_split
from seg_datasets.reading.channel_options import with_channels
from seg_datasets.reading.class_files import Metadata, resolve_classes
from seg_datasets.reading.class_folders import find_class_folders
from seg_datasets.reading.differences import find_hint, what_differs
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_layouts import Files, FolderLayout, find_layout
from seg_datasets.reading.folder_messages import files_not_found, options_of_split, unlike_train
from seg_datasets.reading.folder_options import complete_files, described_layout, given_layout, given_options
from seg_datasets.reading.folder_report import FolderReport, inspect_folder
from seg_datasets.reading.frames import warn_of_frames
from seg_datasets.reading.lacking_classes import LackingClassesError
from seg_datasets.reading.mask_options import MaskOptions
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import Pair, PairList, first_few, pair_by_key
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


class FolderDataset(PairedDataset):
    """Images and masks from folders, paired by name.

    Without options the usual folders are found: `train/images` and `train/masks`, `images/train` and `masks/train`, or
    `images` and `masks` for all splits, which are then split: a fraction `val_fraction` is val, the rest train. The
    split depends only on `seed` and the names; adding files changes the split of few others. `seg datasets show
    FolderDataset` lists the folders; `FolderDataset.inspect(root)` says what is found.

    A sample is (image, mask): image uint8 (3, H, W), RGB, or (C, H, W) of uint8, uint16 or float32 with the
    channels that are described and the values of the file; mask (H, W), uint8 if the ids fit, else int32. Masks
    contain one id per pixel, as gray values of 1 to 16 bits or palette indices: the class ids of `metadata`, its
    ignore value, or other ids that `label_map` converts; with `colors` they contain the colors of `metadata`. For
    test images without masks, the mask is None. If the metadata say `task = "binary"`, the ids are 0 (background),
    1 (the object, the only label) and the ignore value; masks of 0 and 255 are read with `label_map = {0 = 0, 255 =
    1}`. With `task = "multilabel"` a mask is uint8 (K, H, W), a plane of these per class; classes may overlap.

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
        masks: where the masks are, written as `images`; both are given, or neither. Of a multilabel task they may have
            a file per class: `{class}` is the label, as in `"masks/{class}"` or `"masks/*_{class}.png"`.
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
        threshold: for a binary task, the gray value from which a pixel of a mask is the object, such as 128: masks with
            smoothed edges, and JPEG files, are then read too. A mask of 1 bit is 0 and 255. None reads ids.
        masks_as: how the masks of a multilabel task are stored in one file: `"planes"`, a page or band of 0 and 1 per
            class in the order of the labels, or a .npy array (K, H, W); or `"bits"`, ids whose bit i is class i (up to
            16 classes; the ignore value is ignored if it is no combination of classes). None is planes, or a file per
            class if `masks` holds `{class}`.
        missing_class: of masks with a file per class, how to handle an image that lacks the file of a class: `"error"`,
            or `"absent"`: it has no pixel of this class. An image needs a file of one class.
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
        given: the options that were given, other than by default.

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
        threshold: int | None = None,
        masks_as: str | None = None,
        missing_class: str = "error",
        missing: str = "error",
        orientation: str = "apply",
        max_pixels: int = MAX_PIXELS,
        channels: ImageChannels | Mapping[str, Any] | None = None,
        bands: Sequence[int | str] | None = None,
    ) -> None:
        self.given = given_options(FolderDataset, locals())
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
        how = MaskOptions(label_map, colors, threshold, masks_as, masks, missing_class).resolve(classes, metadata)
        given = replace(given, mask_suffixes=how.suffixes, missing_class=missing_class)
        found = _layout_in(self.root, given, images is not None, rule)
        pairs = self._find_pairs(found, split, rule, missing)
        super().__init__(pairs, classes, split, how.label_map, how.remedy, transforms, how.reader, reading)

    def _find_pairs(self, layout: FolderLayout, split: str, rule: SplitRule, missing: str) -> Sequence[Pair]:
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
        """Returns what is wrong with options, one sentence per problem, by the names of files alone.

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
            mask_options = MaskOptions(*(own[f.name] for f in fields(MaskOptions)))
            how = checked(lambda: mask_options.resolve(classes, own["metadata"]))
            given = given if given is None or how is None else replace(given, mask_suffixes=how.suffixes)
        if rule is not None and given is not None and root is not None and Path(root).expanduser().is_dir():
            folder = Path(root).expanduser()
            layout = checked(lambda: _checked_layout(folder, given, own["images"] is not None, rule))
            if layout is not None and layout.labels:
                layout = replace(layout, missing_class=own["missing_class"])
                problems += _lacking_classes(folder, layout, rule, own["missing"])
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


def find_pairs(root: Path, layout: FolderLayout, split: str, rule: SplitRule, missing: str) -> PairList:
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
        if (folders := find_class_folders(root, layout, files.images)) is not None:
            return folders.sentence
        hint = None if layout.more_images else find_hint(root, layout, split, found)
        if hint is None:
            return what_differs(files.images, files.masks)
        return unlike_train(root, layout, split, hint) or hint.sentence(layout)

    masks = None if without_masks else files.masks
    pairs = pair_by_key(files.images, masks, where, missing, explain=explain)
    if files.planes:
        pairs = _with_planes(pairs, files, layout, where, missing)
    if files.more:
        more = {files.images[key]: others for key, others in files.more.items()}
        pairs = PairList(replace(pair, more=more[pair.image]) for pair in pairs)
    if has_own:
        return pairs
    images = files.images.where(matched(files.images, files.masks)[0])
    if len(images) > len(pairs):  # without those that lack the file of a class
        kept = {str(pair.image) for pair in pairs}
        images = images.where(str(path) in kept for path in images.values())
    return _train_or_val(pairs, images, root, split, rule, layout)


def _with_planes(pairs: PairList, files: Files, layout: FolderLayout, where: str, missing: str) -> PairList:
    """Returns the pairs with the files of their masks.

    Raises:
        LackingClassesError: if an image lacks the file of a class, and that is not allowed.
    """
    found = [pair if pair.mask is None else replace(pair, planes=files.planes[str(pair.mask)]) for pair in pairs]
    if layout.missing_class == "absent":
        return PairList(found)
    complete = [pair for pair in found if None not in pair.planes]
    if len(complete) == len(found):
        return PairList(found)
    lacking = first_few(
        f"{pair.image.name} has none of {layout.labels[pair.planes.index(None)]}"
        for pair in found
        if None in pair.planes
    )
    text = f"{where}: {len(found) - len(complete)} of {len(found)} images lack the mask of a class: {lacking}"
    if missing == "error" or not complete:
        choices = {"missing_class": "absent", **({"missing": "skip"} if complete else {})}
        skipped = ", or leave these images out with missing = 'skip'" * bool(complete)
        raise LackingClassesError(
            f"{text}. If an image without a mask has no pixel of the class, set missing_class = 'absent'; else add the "
            f"files{skipped}",
            choices,
        )
    warnings.warn(f"{text}; these images are left out", stacklevel=5)
    return PairList(complete)


def _lacking_classes(root: Path, layout: FolderLayout, rule: SplitRule, missing: str) -> list[str]:
    """Returns sentences about images that lack the file of a class, by the names of the files."""
    found = []
    has_own = layout.has_split_folders or layout.split_file is not None
    if "{class}" not in layout.masks or missing == "skip":
        return []
    for split in ("train", "val") if has_own else ("train",):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # told when the dataset is opened
                find_pairs(root, layout, split, rule, missing)
        except LackingClassesError as error:
            lines = " or ".join(f'params.{name} = "{value}"' for name, value in error.choices.items())
            found.append(f"{error}. Write {lines} below [data.dataset], or uncomment it there")
        except UserError:
            continue  # of other files, told when the dataset is opened
    return found


def _check_rule(root: Path, layout: FolderLayout, rule: SplitRule) -> None:
    """Checks that the files of a layout are split by one rule only."""
    has_own = layout.has_split_folders or layout.split_file is not None
    if has_own and rule.given:
        what = f"folders per split ({layout.images})" if layout.has_split_folders else f"lists ({layout.split_file})"
        raise InvalidArgumentError(
            f"FolderDataset: {' and '.join(rule.given)} cannot be used, as {root} has {what}; remove it, or name the "
            "files to be split with images and masks, as in images='train/images', masks='train/masks'"
        )


def _checked_layout(root: Path, given: FolderLayout, has_patterns: bool, rule: SplitRule) -> FolderLayout:
    """Returns the layout of `_layout_in` if its files are split by one rule only, as `_check_rule` checks."""
    layout = _layout_in(root, given, has_patterns, rule)
    _check_rule(root, layout, rule)
    return layout


def _layout_in(root: Path, given: FolderLayout, has_patterns: bool, rule: SplitRule) -> FolderLayout:
    """Returns the layout of a folder: as given, or what is found there with the options that were given; these win."""
    if has_patterns:
        return given
    found = find_layout(root, with_arrays=given.with_arrays, mask_suffixes=given.mask_suffixes)
    lists = given.split_file if given.split_file is not None or set(rule.given) - {"seed"} else found.split_file
    return replace(given, images=found.images, masks=found.masks, split_file=lists)


def _listed(root: Path, layout: FolderLayout, split: str, files: Files, missing: str) -> Files:
    assert layout.split_file is not None
    known = FileTable.of({**files.images, **{key: path for key, (path, _) in files.partial.items()}})
    keys = listed_keys(
        root, layout.split_file, split, known if files.partial else files.images, layout.mask_suffix, missing
    )
    listed = set(keys)
    images, masks = (table.where(key in listed for key in table) for table in (files.images, files.masks))
    more = {key: paths for key, paths in files.more.items() if key in listed}
    partial = {key: found for key, found in files.partial.items() if key in listed}
    return Files(images, masks, files.looked_in, more, partial, files.planes)


def _folder_of(root: Path, layout: FolderLayout, split: str) -> Path:
    return root / split if layout.images.startswith("{split}/") else root


def _train_or_val(
    pairs: PairList, images: FileTable, root: Path, split: str, rule: SplitRule, layout: FolderLayout
) -> PairList:
    """Returns the pairs of a split; `images` are those of the pairs."""
    if split == "test":
        message = f"{root} has no test split: {root}/{layout.images} is split into train and val"
        if told := options_of_split(root, layout, "test"):
            raise DatasetNotFoundError(f"{message}; {told}")
        raise DatasetNotFoundError(
            f"{message}; put test images into {root}/test/images and the others into {root}/train and {root}/val"
        )
    held_out = rule.val_rows(images, hashed_names(images), f"{root}/{layout.images}")
    if rule.groups is None:
        warn_of_frames(images.where(~held_out), images.where(held_out), str(root))
    return pairs.where(held_out if split == "val" else ~held_out)


def hashed_names(images: FileTable) -> Iterator[str]:
    """Yields the name of each image by which `SplitRule.val_rows` decides whether it is val."""
    for key, path in images.rows():
        stem = os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122 - of a path they are slower
        # the stem as it is stored is what earlier versions hashed
        yield stem if key == same_name(stem) else key
