"""The mean and standard deviation that the images of a run are normalized by, and where they come from.

They are those that the channels of the dataset give; else those of the weights that the run starts from, if these were
trained on the same channels; else ImageNet's, for three channels of 8 bits; else measured on the training split, once
per run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from seg_core.catalog import ModelEntry
from seg_core.errors import ConfigError, UserError
from seg_core.files.channel_sums import measure_channels
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.comparison import difference_of_channels
from seg_core.model_files.checkpoint_file import read_tensors
from seg_core.model_files.paths import looks_like_path, split_nest
from seg_core.model_files.reading import ModelInfo
from seg_core.progress import Progress
from seg_core.registry import MODELS
from seg_core.transforms.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from seg_train.config.schema import ModelSection, TrainConfig
from seg_train.run.together import on_main

__all__ = ["Normalization", "find_normalization", "restored_normalization"]

# enough for three digits of mean and standard deviation; a split of large rasters takes minutes to read whole
_MEASURED_IMAGES = 200


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, of values scaled from the range of the channels to 0 to 1.

    Attributes:
        channels: the channels of the images.
        mean: one number per channel.
        std: one number per channel.
        source: where they come from, such as `"measured on 200 training images"`.
    """

    channels: ImageChannels
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    @property
    def filled_channels(self) -> ImageChannels:
        """The channels with this mean and standard deviation, for transforms that fill with the mean."""
        return replace(self.channels, mean=self.mean, std=self.std)

    def preprocessing(self) -> Preprocessing:
        """Returns the preprocessing without a resize."""
        return Preprocessing(self.mean, self.std, channels=self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain strings, numbers and lists, for checkpoints."""
        return {
            "channels": self.channels.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "source": self.source,
        }

    def __str__(self) -> str:
        return f"{self.channels}, mean and std {self.source}"


def find_normalization(
    config: TrainConfig,
    model: nn.Module | None,
    train_set: SegmentationDataset,
    accelerator: Accelerator,
    progress: Progress,
) -> Normalization:
    """Returns the normalization of a new run; every process must call it.

    Args:
        config: config of the run, with the weights of its network.
        model: the network, if it was passed as an object.
        train_set: dataset to train on, with its channels; its images are read if nothing else gives the numbers.
        accelerator: its main process measures.
        progress: shows the measuring.

    Raises:
        UserError: if an image cannot be read, or a channel that is measured has the same value everywhere.
    """
    channels = train_set.metadata.channels
    if channels.mean is not None and channels.std is not None:
        return Normalization(channels, channels.mean, channels.std, "given by the dataset")
    found = _of_weights(config.model, model, channels) or _of_imagenet(channels)
    if found is None:
        progress.message(f"measuring mean and std of the {channels}")
        found = on_main(accelerator, lambda: _measured(train_set, progress))
    given = [name for name in ("mean", "std") if getattr(channels, name) is not None]
    source = found.source if not given else f"{given[0]} given by the dataset, the other {found.source}"
    return Normalization(channels, channels.mean or found.mean, channels.std or found.std, source)


def restored_normalization(
    stored: Mapping[str, Any] | None, channels: ImageChannels, dataset: str, folder: Path, progress: Progress
) -> Normalization:
    """Returns the normalization of a resumed run, which keeps the numbers that it started with.

    Args:
        stored: as `Normalization.to_dict` has returned it; None in checkpoints of former versions, which read three
            channels of 8 bits and normalized by ImageNet's numbers.
        channels: channels of the dataset now.
        dataset: name of the dataset.
        folder: run folder.
        progress: warns if the dataset gives other numbers now.

    Raises:
        ConfigError: if the channels have changed.
    """
    if stored is None:
        former, changed = RGB_CHANNELS, None
        if channels.count != 3 or not channels.is_bytes:
            changed = f"they were the {former}, and are the {channels} now"
        kept = Normalization(channels, IMAGENET_MEAN, IMAGENET_STD, "of ImageNet")
    else:
        former = ImageChannels.from_dict(stored["channels"])
        changed = None
        if _without_numbers(former) != _without_numbers(channels):
            changed = difference_of_channels(former, channels, "the run", "the dataset now")
            changed = changed or "nodata, bands, pages or rgb are others"
        kept = Normalization(channels, tuple(stored["mean"]), tuple(stored["std"]), stored["source"])
    if changed is not None:
        raise ConfigError(
            f"the channels of the dataset {dataset} of the run in {folder} have changed: {changed}. Resume the run "
            f"with the channels as they were, or start a new run from its weights: seg train CONFIG --weights {folder}"
        )
    for name in ("mean", "std"):
        now, own = getattr(channels, name), getattr(kept, name)
        if now is not None and now != own:
            progress.warn(
                f"the {name} of the dataset's channels is {list(now)}, and the run keeps the one that it started with, "
                f"{list(own)} ({kept.source})"
            )
    return kept


def _without_numbers(channels: ImageChannels) -> ImageChannels:
    return replace(channels, mean=None, std=None)


def _of_weights(section: ModelSection, model: nn.Module | None, channels: ImageChannels) -> Normalization | None:
    """Returns the normalization of the weights that a run starts from, if they know it and it fits the channels."""
    found, preprocessing = RGB_CHANNELS, None
    if model is not None:
        info = getattr(model, "model_info", None)
    else:
        info = _info_of_file(section)
        entry = MODELS.entry(section.name)
        if info is None and isinstance(entry, ModelEntry) and section.weights is not None:
            member = section.weights.rpartition(".")[2]
            published = entry.weights.get((entry.default_weights or "") if member == "DEFAULT" else member)
            if published is not None:
                preprocessing = Preprocessing(published.mean, published.std)
    if isinstance(info, ModelInfo):
        found, preprocessing = info.metadata.channels, info.preprocessing
    if preprocessing is None or found.ranges != channels.ranges:
        return None
    if found.names != channels.names and not _is_three_bytes(channels):
        return None
    return Normalization(channels, preprocessing.mean, preprocessing.std, "of the weights")


def _info_of_file(section: ModelSection) -> ModelInfo | None:
    """Returns the description in the file of weights; None without one, and for a file that building will report."""
    if section.weights is None:
        return None
    is_path = Path(split_nest(section.weights)[0]).exists()
    if not is_path and not (looks_like_path(section.weights) and "://" not in section.weights):
        return None
    try:
        return read_tensors(section.weights)[2]
    except UserError:
        return None


def _of_imagenet(channels: ImageChannels) -> Normalization | None:
    if not _is_three_bytes(channels):
        return None
    return Normalization(channels, IMAGENET_MEAN, IMAGENET_STD, "of ImageNet")


def _is_three_bytes(channels: ImageChannels) -> bool:
    return channels.count == 3 and channels.is_bytes


def _measured(train_set: SegmentationDataset, progress: Progress) -> Normalization:
    try:
        measured = measure_channels(
            train_set, limit=_MEASURED_IMAGES, progress=lambda done, total: progress.part("measuring", done, total)
        )
    finally:
        progress.close()
    number = f"{measured.images} training image{'s' if measured.images > 1 else ''}"
    return Normalization(train_set.metadata.channels, measured.mean, measured.std, f"measured on {number}")
