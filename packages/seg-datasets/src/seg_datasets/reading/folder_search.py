"""Finds the options of `FolderDataset` that open the splits of a folder, for the report on it."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seg_core.errors import DatasetNotFoundError, UserError
from seg_core.files.scan import OnProgress
from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL
from seg_datasets.reading.advice import lists_advice
from seg_datasets.reading.channel_options import with_channels
from seg_datasets.reading.class_files import known_classes, resolve_classes
from seg_datasets.reading.class_folders import find_class_folders
from seg_datasets.reading.differences import find_hint
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_layouts import FolderLayout, find_layout, split_name
from seg_datasets.reading.folder_messages import options_of_split
from seg_datasets.reading.folder_options import given_layout
from seg_datasets.reading.frames import FramesWarning, copied
from seg_datasets.reading.guesses import left_out, search_folders
from seg_datasets.reading.lacking_classes import LackingClassesError
from seg_datasets.reading.mask_options import MaskOptions
from seg_datasets.reading.pairs import JPEG_SUFFIXES, MASK_SUFFIXES, first_few
from seg_datasets.reading.splits import NAMES_OF, SPLITS
from seg_datasets.reading.task_options import check_task_options
from seg_datasets.reading.task_report import MIDDLE

__all__ = ["FolderSearch"]

_MASK_OPTIONS = ("threshold", "masks_as", "masks", "missing_class")
_LISTS = ("splits/{split}.txt", "split/{split}.txt", "lists/{split}.txt", "{split}.txt", "ImageSets/{split}.txt")


class FolderSearch:
    """Opens the splits of a folder, and finds the options that this takes.

    Attributes:
        options: what was given and found.
        odd: sentences about what is odd.
        choices: options of which the user has to choose one, as each may be right -> their value.
    """

    def __init__(
        self, dataset: Callable[..., Any], root: Path, options: dict[str, Any], progress: OnProgress | None
    ) -> None:
        self.dataset = dataset
        self.root = root
        self.metadata = options.pop("metadata", None)
        self.masks_as: dict[str, Any] = {name: options.pop(name) for name in ("label_map", "colors") if name in options}
        self.options = options
        self.progress = progress
        self.odd: list[str] = []
        self.choices: dict[str, Any] = {}
        self.frames: FramesWarning | None = None
        self.is_told = False  # what is left out

    def _open(self, split: str, **options: Any) -> Any:
        """Opens a split without its classes; warnings become oddities."""
        with self._noted():
            return self.dataset(self.root, self._any_classes(), split, **{**self.options, **options})

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            if isinstance(warning.message, FramesWarning):
                self.frames = warning.message
            elif issubclass(warning.category, UserWarning) and "three channels are equal" not in str(warning.message):
                self.odd.append(str(warning.message))

    def _splits(self) -> dict[str, Any]:
        """Opens all splits and finds the options that this takes."""
        # a wrong file of classes first: without them nothing else fits, which would be told in its place
        check_task_options(self.root, known_classes(self.root, self.metadata), self.options)
        if "images" not in self.options and "split_file" not in self.options:
            self._find_files()
        self._find_lacking_classes()
        try:
            opened = {"train": self._open("train")}
        except DatasetNotFoundError:
            if not self._has_split_folders() or not self._rest_in("train"):
                raise
            opened = {"train": self._open("train")}
        try:
            opened["val"] = self._open("val")
        except DatasetNotFoundError as error:
            if self._rest_in("train"):
                opened = {split: self._open(split) for split in ("train", "val")}
            else:
                self.odd.append(str(error))
        self._group(opened)
        if self._has_own_splits():
            with contextlib.suppress(UserError):  # there need not be one
                opened["test"] = self._open("test")
        self._tell_left_out(opened)
        self._tell_copies(opened)
        return {split: opened[split] for split in SPLITS if split in opened}

    def _tell_copies(self, opened: Mapping[str, Any]) -> None:
        """Tells copies of an image in folders or lists of both splits, which no option keeps together."""
        if {"train", "val"} - opened.keys() or "groups" in self.options:
            return
        train, val = (
            [Path(opened[split].file_names(index)[0]).stem for index in range(len(opened[split]))]
            for split in ("train", "val")
        )
        if both := copied(train, val):
            self.odd.append(
                f"copies of {len(both)} images are in both train and val ({first_few(sorted(both))}), so scores on val "
                "will be too good: move all copies of an image to one side"
            )

    def _tell_left_out(self, opened: Mapping[str, Any]) -> None:
        layout = self._layout()
        if "test" not in opened and (told := options_of_split(self.root, layout, "test")):
            self.odd.append(f"the test split is not part of these options: {told} in a dataset of split 'test'")
        if not self.is_told and layout.split_file is None and (told := left_out(self.root, layout)):
            self.odd.append(told)

    def _layout(self) -> FolderLayout:
        given = {name: self.options[name] for name in ("mask_suffix", "pair_by", "split_file") if name in self.options}
        if "images" in self.options:
            own = {"mask_suffix": "", "pair_by": "path", "split_file": None, **given}
            layout = given_layout(self.options["images"], self.options["masks"], **own)
            labels = self._any_classes().labels if "{class}" in layout.masks else ()
            return replace(layout, with_arrays=self._is_described(), mask_suffixes=self._mask_suffixes(), labels=labels)
        found = find_layout(self.root, with_arrays=self._is_described(), mask_suffixes=self._mask_suffixes())
        return replace(found, **given)

    def _mask_suffixes(self) -> tuple[str, ...]:
        """Returns the suffixes of files that are masks with the options so far."""
        given = {name: self.options[name] for name in _MASK_OPTIONS if name in self.options}
        with contextlib.suppress(UserError):  # told when the dataset is opened
            return MaskOptions(**given).resolve(self._any_classes(), self.metadata).suffixes
        return MASK_SUFFIXES

    def _is_described(self) -> bool:
        """Returns whether the channels of the images are others than three of 8 bits."""
        with contextlib.suppress(UserError):
            return not self._any_classes().channels.is_rgb8
        return False

    def _any_classes(self) -> DatasetMetadata:
        """Returns the classes if their task is not multiclass, else any, with the channels of the folder."""
        own = self._known_classes()
        options = {name: self.options.get(name) for name in ("channels", "bands")}
        if own is not None and own.task != MULTICLASS:
            return with_channels(own, **options)
        channels = RGB_CHANNELS if own is None else own.channels
        return with_channels(DatasetMetadata("any", ("any",), channels=channels), **options)

    def _known_classes(self) -> DatasetMetadata | None:
        """Returns the classes that were given or are in the folder; None if there are none."""
        with contextlib.suppress(UserError):  # what is wrong with the classes is told where they are needed
            return resolve_classes(self.root, self.metadata)
        return None

    def _has_split_folders(self) -> bool:
        return self._layout().has_split_folders

    def _has_own_splits(self) -> bool:
        return self._has_split_folders() or "split_file" in self.options or self._layout().split_file is not None

    def _find_lacking_classes(self) -> None:
        """Takes files of classes that images lack for classes without pixels, to look further; tells the choices."""
        if "{class}" not in str(self.options.get("masks")):
            return
        for split in ("train", "val"):
            try:
                self._open(split)
            except LackingClassesError as error:
                self.odd.append(str(error))
                common = self.choices or error.choices
                self.choices = {name: value for name, value in error.choices.items() if name in common}
                if not self._has_own_splits():
                    break
            except UserError:
                continue  # of other files, told when all splits are opened
        if self.choices:
            self.options["missing_class"] = self.choices["missing_class"]

    def _find_files(self) -> None:
        """Finds options that pair images and masks, if the usual ones do not."""
        layout = self._layout()
        with self._noted():
            files = layout.files(self.root, "train")
            if not files.masks and self._find_jpeg_masks(layout):
                return
            if layout.split_file is None and (not files.images or list(files.images) != list(files.masks)):
                if self._find_class_folders(layout, files.images):
                    return
                if files.images and files.masks:
                    hint = find_hint(self.root, layout, "train", files)
                else:
                    hint, _ = search_folders(self.root)
                if hint is not None and hint.pairs == hint.images:
                    self.options |= _changed(hint.layout, layout)
                    self.is_told = bool(hint.others)
                    self.odd.append(f"the usual names do not fit. {hint.sentence(layout)}")
        if not self._has_split_folders() and self._layout().split_file is None:
            self._find_lists()

    def _find_jpeg_masks(self, layout: FolderLayout) -> bool:
        """Reads masks of a binary task that are JPEG files by a threshold; returns whether there are such."""
        own = self._known_classes()
        if own is None or own.task != BINARY or "threshold" in self.options or "label_map" in self.masks_as:
            return False
        files = layout.files(self.root, "train", mask_suffixes=(*MASK_SUFFIXES, *JPEG_SUFFIXES))
        if not matched(files.images, files.masks)[0].any():
            return False
        self.options["threshold"] = MIDDLE
        self.odd.append(f"masks are JPEG files, and are read with threshold = {MIDDLE}: check it")
        return True

    def _find_class_folders(self, layout: FolderLayout, images: FileTable) -> bool:
        """Finds the options for masks with a folder per class; returns whether there are such."""
        own = self._known_classes()
        if own is not None and own.task == BINARY:
            return False
        labels = own.labels if own is not None and own.task == MULTILABEL else ()
        found = find_class_folders(self.root, layout, images, labels)
        if found is None or (own is not None and own.task != MULTILABEL):
            return False
        self.options |= {"images": found.images, "masks": found.masks}
        text = f"the masks are in a folder per class ({first_few(found.labels)}), which are read with {found.masks!r}"
        if own is None:
            self.metadata = {"labels": list(found.labels), "task": MULTILABEL}
            text += ", as classes that may overlap (a multilabel task), named by the folders: check them"
        self.odd.append(text)
        return True

    def _find_lists(self) -> None:
        """Uses lists of train and val in a usual place, if they name images of this folder."""
        rule = {"val_fraction", "seed", "groups", "folds"} & self.options.keys()
        keys = self._layout().files(self.root, "train").images
        for lists in () if rule else _LISTS:
            table = {
                split: path
                for split in SPLITS
                for name in NAMES_OF[split]
                if (self.root / (path := lists.replace("{split}", name))).is_file()
            }
            if {"train", "val"} <= table.keys():
                self.options["split_file"] = lists
                return
        if told := lists_advice(self.root, keys, None):
            self.odd.append(told)

    def _rest_in(self, split: str) -> bool:
        """Splits the files of train if there is no val; returns whether this is so."""
        layout = self._layout()
        if not layout.has_split_folders or layout.split_file is not None or layout.files(self.root, "val").images:
            return False
        name = split_name(self.root, layout, split)
        patterns = (layout.images, layout.masks, *layout.more_images)
        images, masks, *more = (pattern.replace("{split}", name) for pattern in patterns)
        one = replace(layout, images=images, masks=masks, more_images=tuple(more), split_file=None)
        if not one.files(self.root, split).images:
            return False
        self.options |= {"images": [images, *more] if more else images, "masks": masks}
        self.odd.append("there is no val split, so the files of train are split into train and val")
        return True

    def _group(self, opened: dict[str, Any]) -> None:
        """Keeps frames of a sequence on one side."""
        if self.frames is None:
            return
        groups, before = self.frames.groups, dict(opened)
        if not groups:
            self.odd.append(str(self.frames))
            return
        self.options["groups"] = groups
        try:
            opened |= {split: self._open(split) for split in ("train", "val")}
        except UserError as error:
            del self.options["groups"]
            opened |= before
            self.odd += [str(self.frames), str(error)]
            return
        self.odd.append(f"files look like {self.frames.what}; groups = '{groups}' keeps each on one side")


def _changed(layout: FolderLayout, other: FolderLayout) -> dict[str, Any]:
    """Returns the options of a layout that differ from those of another."""
    options = {name: getattr(layout, name) for name in ("mask_suffix", "pair_by")}
    changed = {name: value for name, value in options.items() if value != getattr(other, name)}
    if (layout.images, layout.masks) != (other.images, other.masks):
        changed = {"images": layout.images, "masks": layout.masks, **changed}
    return changed
