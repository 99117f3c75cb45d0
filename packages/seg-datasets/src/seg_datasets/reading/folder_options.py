"""The layout of a folder as options describe it, and the images of several files that are complete."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.spec import parameters_of
from seg_datasets.reading.folder_layouts import Files, FolderLayout
from seg_datasets.reading.pairs import first_few
from seg_datasets.reading.splits import SplitFile

__all__ = ["complete_files", "described_layout", "given_layout", "given_options"]

_NOT_OPTIONS = ("root", "split", "transforms")


def given_options(dataset: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that differ from their defaults.

    Args:
        dataset: the class.
        values: name -> value, of its parameters and others.
    """
    known = {name: one.default for name, one in parameters_of(dataset).items() if name not in _NOT_OPTIONS}
    return {name: values[name] for name, default in known.items() if name in values and values[name] is not default}


def given_layout(
    images: str | Sequence[str] | None,
    masks: str | None,
    mask_suffix: str,
    pair_by: str,
    split_file: SplitFile | None,
) -> FolderLayout:
    """Returns the layout that the options of `FolderDataset` of these names describe.

    Raises:
        InvalidArgumentError: if a value is not allowed.
    """
    if (images is None) != (masks is None):
        one, other = ("images", "masks") if masks is None else ("masks", "images")
        raise InvalidArgumentError(
            f"{one} = {images or masks!r} is given without {other}; give both, such as images='photos', masks='masks'"
        )
    if images is None or masks is None:
        return FolderLayout(mask_suffix=mask_suffix, pair_by=pair_by, split_file=split_file)
    if isinstance(images, str) or not isinstance(images, Sequence):
        return FolderLayout(images, masks, mask_suffix, pair_by, split_file)
    if not images:
        raise InvalidArgumentError("images is an empty list; give a pattern for each file of an image")
    return FolderLayout(images[0], masks, mask_suffix, pair_by, split_file, tuple(images[1:]))


def described_layout(layout: FolderLayout, metadata: DatasetMetadata) -> FolderLayout:
    """Returns a layout with the kinds of files that images with these channels may be.

    Raises:
        InvalidArgumentError: if an image has several files, and its channels are not described.
    """
    if layout.more_images and metadata.channels.is_rgb8:
        patterns = [layout.images, *layout.more_images]
        raise InvalidArgumentError(
            f"images = {patterns} are several files per image, and their channels are not described: add channels = "
            '{ names = ["red", ...] }, one name per band of all files, or [channels] in classes.toml'
        )
    labels = metadata.labels if "{class}" in layout.masks else ()
    return replace(layout, with_arrays=not metadata.channels.is_rgb8, labels=labels)


def complete_files(files: Files, where: str, missing: str) -> Files:
    """Returns the files without those of images that lack one.

    Raises:
        DatasetNotFoundError: if such images are not to be left out.
    """
    lacking = first_few(f"{path.name} has none in {pattern}" for path, pattern in files.partial.values())
    message = f"{where}: {len(files.partial)} of {len(files.partial) + len(files.images)} images lack a file: {lacking}"
    if missing == "error" or not files.images:
        skip = ", or leave these images out with missing='skip'" if files.images else ""
        raise DatasetNotFoundError(
            f"{message}. The files of an image are found by the same name: add or rename the files{skip}"
        )
    warnings.warn(f"{message}; these are left out", stacklevel=6)
    masks = files.masks.where(key not in files.partial for key in files.masks)
    return replace(files, masks=masks, partial={})
