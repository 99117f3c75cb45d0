"""The base class of all datasets that read pairs of image and mask files."""

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset
from torchvision import tv_tensors

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files.channel_files import may_lack_data
from seg_core.files.file_faults import FileReport, ImageContents
from seg_core.files.image_sums import ImageFile
from seg_core.files.mask_sources import OnProgress
from seg_core.files.scan import DatasetScan, MaskFile
from seg_core.labels.channels import ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTILABEL
from seg_core.registry import resolve_target
from seg_datasets.__about__ import __version__
from seg_datasets.reading.pairs import Pair, PairList
from seg_datasets.reading.palettes import PaletteCheck
from seg_datasets.reading.samples import MaskReader, Reading, load_image, read_image, read_mask, read_pair
from seg_datasets.reading.windows import check_window, image_size, read_window, window_channels

__all__ = ["PairedDataset"]


class PairedDataset(Dataset[Any]):
    """Images and masks from pairs of files, read on access.

    Args:
        pairs: the files, in the order of the samples; stored as a `PairList`, which worker processes share.
        metadata: names and colors of the classes.
        split: name of the split.
        label_map: raw ids of the masks -> train ids.
        remedy: advice about a mask with other ids, for the error message.
        transforms: called as `transforms(image, mask)`; its result is the sample. With None the sample is the image,
            uint8 (3, H, W), RGB, or the channels of `metadata`, (C, H, W) of uint8, uint16 or float32; and the mask (H,
            W), of a multilabel task (K, H, W), uint8 if the ids fit, else int32, or None if there is no mask.
        mask_reader: returns the raw ids of a mask file; None uses `seg_datasets.reading.samples.read_mask`. Workers
            need a copy, so it must be picklable.
        reading: how files are read: orientation and maximum size; None uses the defaults. Without a check for palettes
            it gets the one for `metadata` and `label_map`.

    Attributes:
        metadata, split, transforms, label_map, mask_reader, reading: as given.
        root: folder of the dataset; the digest of its files uses paths relative to it. None if a subclass sets none.
    """

    root: Path | None = None
    palette_remedy: ClassVar[str] = (
        "save the masks with the palette in the order of the ids; if the indices are right, correct the colors of the "
        "metadata"
    )

    def __init__(
        self,
        pairs: Iterable[Pair],
        metadata: DatasetMetadata,
        split: str,
        label_map: LabelMap,
        remedy: str,
        transforms: Callable[..., Any] | None,
        mask_reader: MaskReader | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.metadata = metadata
        self.split = split
        self.transforms = transforms
        self.label_map = label_map
        self._pairs = pairs if isinstance(pairs, PairList) else PairList(pairs)
        self._remedy = remedy
        self.mask_reader = mask_reader
        reading = reading or Reading()
        if reading.channels != metadata.channels:
            reading = replace(reading, channels=metadata.channels)
        if reading.palette is None:
            reading = replace(reading, palette=PaletteCheck(metadata, label_map, self.palette_remedy))
        self.reading = reading

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Any:
        """Returns sample `index`: (image, mask), or the result of `transforms`.

        Raises:
            CorruptFileError: if a file is damaged or too large, or image and mask differ in size.
            LabelOutOfRangeError: if the mask contains an id that the label map does not list.
        """
        image, mask = read_pair(self._pairs[index], self.label_map, self._remedy, self.mask_reader, self.reading)
        return (image, mask) if self.transforms is None else self.transforms(image, mask)

    def file_names(self, index: int) -> tuple[str, ...]:
        """Returns the paths of sample `index`: the file of the image, or its files, then the mask if it has one."""
        return self._pairs.names(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of the image of sample `index`, without `transforms`, by the header of its file.

        Raises:
            CorruptFileError: if it cannot be read.
        """
        return image_size(self._pairs[index], self.reading)

    def read_pixels(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Returns the image of sample `index` alone, without `transforms`.

        Returns:
            The image (H, W, C); and bool (H, W), which of its pixels hold data, None if all do.

        Raises:
            CorruptFileError: if it cannot be read.
        """
        image, valid, _ = load_image(self._pairs[index].images, self.reading)
        return image.permute(1, 2, 0).numpy(), valid

    def can_read_windows(self, index: int) -> bool:
        """Returns whether image and mask of sample `index` are stored so that a part is read without the rest.

        This takes rasterio for TIFFs. Of samples with `transforms`, and in a subclass with its own `__getitem__`, no
        part is read.
        """
        return self._window_channels(index) is not None

    def read_window(self, index: int, top: int, left: int, height: int, width: int) -> Any:
        """Returns a part of sample `index`: what the whole (image, mask) has there.

        Raises:
            InvalidArgumentError: if the part is not inside of the image, or samples have `transforms`.
            CorruptFileError, LabelOutOfRangeError: as of the sample.
        """
        if self.transforms is not None:
            raise InvalidArgumentError("a part of a sample with transforms is not read; open the dataset without these")
        pair, window = self._pairs[index], (top, left, height, width)
        channels = self._window_channels(index)
        if channels is not None:
            return read_window(pair, channels, window, self.label_map, self._remedy, self.mask_reader, self.reading)
        image, mask = self[index]
        check_window(window, tuple(image.shape[-2:]), str(pair.image))
        rows, columns = slice(top, top + height), slice(left, left + width)
        image = tv_tensors.Image(image[:, rows, columns])
        return image, None if mask is None else tv_tensors.Mask(mask[..., rows, columns])

    def _window_channels(self, index: int) -> tuple[ImageChannels, ImageChannels | None] | None:
        if self.transforms is not None or type(self).__getitem__ is not PairedDataset.__getitem__:
            return None
        return window_channels(self._pairs[index], self.reading, self.mask_reader)

    def pair(self, index: int) -> Pair:
        """Returns the files of sample `index`."""
        return self._pairs[index]

    def mask_file(self, index: int) -> MaskFile | None:
        """Returns the mask file of sample `index`, for a scan of the masks without the images.

        None if there is no such file, or the mask of the sample is more than this file: with `transforms`, if
        it has a file per class, in a subclass with its own `__getitem__`, and if pixels may be ignored because the
        image has no data there.
        """
        pair = self._pairs[index]
        return None if self._is_more_than_files or self._may_lack_data(pair) else self.stored_mask(index)

    def stored_mask(self, index: int) -> MaskFile | None:
        """Returns the mask file of sample `index`, also if the mask of the sample is more than it.

        None if there is no such file, or one per class.
        """
        pair = self._pairs[index]
        path = pair.mask
        if path is None or pair.planes:
            return None
        planes = self.metadata.num_classes if self.metadata.task == MULTILABEL else None
        return MaskFile(path, self._read_ids, self._reader_name, self.label_map, self._remedy, planes)

    def _may_lack_data(self, pair: Pair) -> bool:
        if self.reading.channels.is_rgb8:
            return False
        try:
            return may_lack_data(pair.images, self.reading.channels)
        except UserError:
            return False  # told when the image is read

    def image_file(self, index: int) -> ImageFile | None:
        """Returns the image file of sample `index`, for a scan of the images without the masks.

        None if the image of the sample is more than this file: with `transforms`, if it is of several files, and in a
        subclass with its own `__getitem__`. Of other channels than three of 8 bits the file holds these.
        """
        if self._pairs[index].more or self._is_more_than_files:
            return None
        channels = self.reading.channels
        # mean and std say nothing about how a file is read
        described = {key: value for key, value in channels.to_dict().items() if key not in ("mean", "std", "rgb")}
        kind = "rgb" if channels.is_rgb8 else f"channels {json.dumps(described, sort_keys=True)}"
        return ImageFile(self._pairs[index].image, self._read_pixels, f"{kind} {self.reading.orientation}")

    def file_faults(
        self,
        check: str = "auto",
        *,
        split: str,
        scan: DatasetScan | None,
        other: ImageContents | None = None,
        progress: OnProgress | None = None,
        indices: Sequence[int] | None = None,
    ) -> FileReport | None:
        """Returns what `seg_datasets.check` would find wrong with the files, as far as headers and the scan tell.

        None if the samples are more than the files: with `transforms`, and in a subclass with its own `__getitem__`.

        Args:
            check: which images are looked at, one of `seg_core.files.scan.CHECKS`.
            split: name of the split, for sentences.
            scan: scan of the masks; None if a mask cannot be read, so that all are read to find out which.
            other: the images of a split that must share no image with this one.
            progress: called with the number of files read and their total.
            indices: the samples that count; None for all.
        """
        if self._is_more_than_files:
            return None
        check_files = resolve_target("seg_datasets.doctor.run_check:check_files")  # which knows this class
        report: FileReport = check_files(
            self, check, split=split, scan=scan, other=other, progress=progress, indices=indices
        )
        return report

    @property
    def _is_more_than_files(self) -> bool:
        return self.transforms is not None or type(self).__getitem__ is not PairedDataset.__getitem__

    def _read_pixels(self, path: Path) -> npt.NDArray[Any]:
        return read_image(path, self.reading).permute(1, 2, 0).numpy()

    def _read_ids(self, path: Path) -> npt.NDArray[Any]:
        return (self.mask_reader or read_mask)(path, self.reading)

    @property
    def _reader_name(self) -> str | None:
        reader = self.mask_reader
        if reader is None:
            return "ids"
        if isinstance(own := getattr(reader, "name", None), str):
            return own
        # a function of this package changes only with its version; one of a user may change at any time
        if inspect.isfunction(reader) and reader.__module__.startswith("seg_datasets."):
            return f"{reader.__module__}:{reader.__qualname__} {__version__}"
        return None
