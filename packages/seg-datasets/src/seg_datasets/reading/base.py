"""The base class of the official datasets: layout, label map, label set and the shared arguments."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.conversion import label_map_between
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_datasets.reading.archives import fetch_archives
from seg_datasets.reading.arguments import check_root
from seg_datasets.reading.layout import Layout
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.palettes import PaletteCheck
from seg_datasets.reading.samples import MaskReader, Reading

__all__ = ["Edition", "OfficialDataset"]


@dataclass(frozen=True)
class Edition:
    """One version of a dataset: where its files are and what their ids mean.

    Attributes:
        layout: where the files are.
        classes: the label set, or its name.
        label_map: raw ids of the masks -> ids of `classes`.
        mask_reader: reads masks that are not index images; see `PairedDataset`.
    """

    layout: Layout
    classes: str | DatasetMetadata
    label_map: LabelMap
    mask_reader: MaskReader | None = None


class OfficialDataset(PairedDataset):
    """A dataset in its official layout.

    A sample is (image, mask): image uint8 (3, H, W), RGB, or the channels of `metadata`; mask uint8 (H, W), train ids
    and the ignore value. A split without masks returns (image, None). Images and masks are paired by name and sorted.

    A subclass defines `edition`. If its options choose between several, it lists them all in `editions` and sets
    `self.edition` before it calls this `__init__`.

    Args:
        root: the unpacked folder, or a folder above it.
        split: `"train"`, `"val"`, `"test"` or another split of the layout; the official names work too.
        transforms: called as `transforms(image, mask)`; its result is the sample.
        label_set: name of the label set to convert the classes to (see `seg_core.labels.conversion`); None keeps the
            dataset's own.
        missing: how to handle an image or mask without its partner: `"error"` raises, `"skip"` leaves it out with a
            warning.
        download: whether to download and unpack the archives into `root` if the split is missing.
        orientation: `"stored"` ignores the EXIF, XMP or TIFF orientation tag of images, as the official masks do;
            `"apply"` rotates and flips images according to it. A mask with such a tag is an error.
        max_pixels: maximum width times height of an image or a mask; a larger file is an error before it is decoded.

    Attributes:
        metadata: names and colors of the classes.
        split: name of the split, aliases resolved.
        label_map: raw ids of the masks -> train ids of `metadata`.

    Raises:
        InvalidArgumentError: if there is no such split, or an argument has a value that is not allowed.
        UnknownNameError: if the classes cannot be converted to `label_set`.
        DatasetNotFoundError: if files are not found, or an image or mask has no partner.
        CorruptFileError: if a downloaded archive is damaged; when a sample is read, if a file is damaged, too large or
            of an unsupported kind.
        WriteError: if an archive cannot be downloaded or unpacked.
        LabelOutOfRangeError: when a sample is read, if its mask contains an id that is not allowed.
    """

    edition: Edition
    editions: ClassVar[Mapping[str, Edition]] = MappingProxyType({})
    remedy: ClassVar[str] = (
        "the official masks contain no other ids: unpack the archive again, or read masks from another source with "
        "FolderDataset"
    )

    palette_remedy: ClassVar[str] = (
        "unpack the archive again, to read the official masks; masks from another source can be read by FolderDataset, "
        "by their colors with colors=True"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        layout, label_map = self.edition.layout, self.edition.label_map
        metadata, name = resolve_metadata(self.edition.classes), layout.split_name(split)
        # by the dataset's own classes: those of another label set have other colors
        reading = Reading(orientation, max_pixels, palette=PaletteCheck(metadata, label_map, self.palette_remedy))
        if label_set is not None and label_set != metadata.name:
            label_map = label_map.then(label_map_between(metadata, label_set))
            metadata = replace(resolve_metadata(label_set), channels=metadata.channels)
        if download:
            _download(layout, root, name)
        self.root = check_root(root, layout.dataset)
        pairs = self._find_pairs(layout, name, missing)
        super().__init__(pairs, metadata, name, label_map, self.remedy, transforms, self.edition.mask_reader, reading)
        if layout.splits[name].warning:
            warnings.warn(layout.splits[name].warning, stacklevel=2)

    def _find_pairs(self, layout: Layout, split: str, missing: str) -> list[Pair]:
        assert self.root is not None
        return layout.find(self.root, split, missing)

    @classmethod
    def split_names(cls) -> tuple[str, ...]:
        """Returns every name that `split` accepts in any edition, official aliases included."""
        layouts = [edition.layout for edition in (cls.editions.values() or (cls.edition,))]
        return tuple(dict.fromkeys(name for layout in layouts for name in (*layout.splits, *layout.aliases)))


def _download(layout: Layout, root: str | os.PathLike[str], split: str) -> None:
    if not isinstance(root, str | os.PathLike):
        raise InvalidArgumentError(f"{layout.dataset}: root must be the path of a folder to download to, got {root!r}")
    folder = Path(root).expanduser()
    if not layout.archives:
        raise InvalidArgumentError(
            f"{layout.dataset} cannot be downloaded automatically: {layout.source}, and pass the unpacked folder as "
            "root, without download=True"
        )
    try:
        layout.find(folder, split)
    except DatasetNotFoundError:
        fetch_archives(layout.archives, folder, split, prefixes=layout.prefixes)
