"""The data of a run: its datasets, their loaders and transforms, and its length."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import nn

from seg_core.errors import ConfigError, InvalidArgumentError, counted
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.comparison import check_several_classes, difference_of_channels, difference_of_classes
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.own_code import naming
from seg_core.randomness import isolated_randomness
from seg_core.registry import DATASETS
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.own_model import channels_problem
from seg_train.config.schema import DatasetSection, ModelSection, TrainConfig
from seg_train.data.batches import Loader
from seg_train.data.own_transforms import build_own_transforms
from seg_train.run.normalization import Normalization
from seg_train.run.objects import RunObjects
from seg_train.run.together import together

__all__ = ["DataSplits", "RunData", "RunLength", "build_data", "open_data", "steps_per_epoch"]


@dataclass(frozen=True)
class DataSplits:
    """The datasets of a run.

    Attributes:
        train_set: dataset to train on.
        val_set: dataset to evaluate on.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        train_set: dataset to train on.
        val_set: dataset to evaluate on.
        train_loader: reads random crops of `train_set`.
        val_loader: reads `val_set`, resized for the network; nothing is random.
        augment: augments a batch on the device, then normalizes it.
        val_transform: resizes and normalizes val images.
        normalization: mean and standard deviation of the channels, and where they come from.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset
    train_loader: Loader
    val_loader: Loader
    augment: SegmentationAugment
    val_transform: EvaluationTransform
    normalization: Normalization

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing and normalization of an image before the network, in evaluations and in the model file."""
        return self.val_transform.preprocessing

    @property
    def metadata(self) -> DatasetMetadata:
        """Names and colors of the classes."""
        return self.train_set.metadata


@dataclass(frozen=True)
class RunLength:
    """The length of a run in optimizer steps and epochs; the last epoch may be incomplete."""

    steps: int
    epochs: int

    @classmethod
    def of(cls, config: TrainConfig, num_images: int) -> "RunLength":
        """Returns the length of a run on `num_images` training images; an epoch has whole batches only."""
        steps = steps_per_epoch(config, num_images)
        if config.trainer.steps is not None:
            return cls(config.trainer.steps, -(-config.trainer.steps // steps))
        assert config.trainer.epochs is not None  # the schema requires one of the two
        return cls(config.trainer.epochs * steps, config.trainer.epochs)


def steps_per_epoch(config: TrainConfig, num_images: int) -> int:
    """Returns the number of steps of a whole epoch on `num_images` training images."""
    return num_images * config.data.transform.train.crops_per_image // config.data.loader.batch_size


@together()
def open_data(config: TrainConfig, accelerator: Accelerator, objects: RunObjects) -> DataSplits:
    """Opens the datasets of a run.

    Args:
        config: config of the run.
        accelerator: device and processes.
        objects: datasets in place of those of the config.

    Raises:
        ProcessDiedError: if another process of the run cannot open them.
        ConfigError: if a split is smaller than a batch, the processes cannot share a batch evenly, there is only one
            class, or train and val have other classes or channels.
        UserError: if a dataset cannot be opened, for example because its folder is missing.
    """
    data, loader = config.data, config.data.loader
    processes = accelerator.num_processes
    micro_batches = processes * config.trainer.accumulation_steps
    if loader.batch_size % micro_batches:
        raise ConfigError(
            f"data.loader.batch_size = {loader.batch_size} must be a multiple of {micro_batches}: {processes} "
            "processes share it, each in trainer.accumulation_steps = "
            f"{config.trainer.accumulation_steps} micro-batches"
        )
    # Seeded alike, so that datasets that split at random when they are opened leave nothing of one split in the other,
    # and do so again when the run is resumed.
    train_set, val_set = objects.train_set, objects.val_set
    if train_set is None or val_set is None:
        with isolated_randomness(config.trainer.seed):
            train_set = _open(data.dataset, data.dataset.train_split)
        with isolated_randomness(config.trainer.seed):
            val_set = _open(data.dataset, data.dataset.val_split)
    for split, dataset in ((data.dataset.train_split, train_set), (data.dataset.val_split, val_set)):
        _check_dataset(data.dataset.name, split, dataset)
    _check_same_classes(train_set.metadata, val_set.metadata)
    _check_channels(config.model, objects.network(), train_set.metadata, val_set.metadata)
    try:
        check_several_classes(train_set.metadata)
    except InvalidArgumentError as error:
        raise ConfigError(f"data.dataset: {error}") from error
    _check_enough(config, "train", len(train_set), loader.batch_size)
    _check_enough(config, "val", len(val_set), processes)
    return DataSplits(train_set, val_set)


def build_data(
    config: TrainConfig, accelerator: Accelerator, splits: DataSplits, normalization: Normalization
) -> RunData:
    """Builds loaders and transforms.

    Args:
        config: config of the run.
        accelerator: device and processes.
        splits: the datasets.
        normalization: of their images.

    Raises:
        UserError: if a transform of the user's own cannot be built.
    """
    data, train_set, val_set = config.data, splits.train_set, splits.val_set
    options: dict[str, Any] = {
        "seed": config.trainer.seed,
        "num_workers": data.loader.num_workers,
        "pin_memory": accelerator.device.type == "cuda",
    }
    metadata = train_set.metadata
    channels = normalization.filled_channels
    if channels.is_rgb8:
        channels = RGB_CHANNELS  # crops are filled with ImageNet's mean, whatever the mean
    train = SegmentationTransform(
        **data.transform.train.crop_options(), mask_fill=metadata.ignore_index, channels=channels, task=metadata.task
    )
    augment = SegmentationAugment(
        **data.augment.model_dump(),
        mask_fill=metadata.ignore_index,
        left_right_pairs=metadata.left_right_pairs,
        mean=normalization.mean,
        std=normalization.std,
        channels=channels,
        task=metadata.task,
    )
    resize = config.evaluation.resize
    val_transform = EvaluationTransform(
        normalization.preprocessing().with_resize({} if resize is None else resize.model_dump(exclude_none=True))
    )
    named = [(own.name, own.params) for own in data.transform.train.custom or ()]
    own = build_own_transforms(named, metadata, config.trainer.seed)
    return RunData(
        train_set=train_set,
        val_set=val_set,
        train_loader=Loader(train_set, train, own=own, **options),
        val_loader=Loader(val_set, val_transform, splits_unlike_sizes=True, **options),
        augment=augment,
        val_transform=val_transform,
        normalization=normalization,
    )


def _open(section: DatasetSection, split: str) -> SegmentationDataset:
    with naming("data.dataset.name", section.name):
        dataset: SegmentationDataset = DATASETS.get(section.name)(section.root, split=split, **section.params)
    return dataset


def _check_dataset(name: str, split: str, dataset: SegmentationDataset) -> None:
    """Checks that a dataset has what the trainer needs.

    Raises:
        ConfigError: if it does not.
    """
    if not isinstance(getattr(dataset, "metadata", None), DatasetMetadata):
        raise ConfigError(
            f"data.dataset.name = {name!r}: its {split} split needs the attribute `metadata`, a "
            "seg_core.DatasetMetadata with the names of the classes"
        )
    lacking = [method for method in ("__len__", "__getitem__", "file_names") if not hasattr(dataset, method)]
    if lacking:
        raise ConfigError(
            f"data.dataset.name = {name!r}: its {split} split has no {', '.join(lacking)}; a dataset needs its length, "
            "samples (image, mask) by index, and file_names(index), the names of a sample's files (any fixed names)"
        )


def _check_enough(config: TrainConfig, key: str, count: int, minimum: int) -> None:
    """Checks that a split has samples for a batch of training, or for each process of an evaluation.

    Raises:
        ConfigError: if it has fewer than `minimum`.
    """
    crops = config.data.transform.train.crops_per_image if key == "train" else 1
    if count * crops >= minimum:
        return
    section, loader = config.data.dataset, config.data.loader
    split = f'data.dataset.{key}_split = "{getattr(section, f"{key}_split")}" has {count} samples'
    if crops > 1:
        count *= crops
        split += f", {count} in an epoch with data.transform.train.crops_per_image = {crops}"
    if not count:
        raise ConfigError(f"{split}; set data.dataset.{key}_split to a split with images, or add images to this one")
    if key == "val":
        raise ConfigError(
            f"{split}, fewer than the {minimum} processes of the run, which evaluate at least one each; start at most "
            f"{counted(count, 'process', 'processes')}, or add samples"
        )
    raise ConfigError(
        f"{split}, fewer than the {minimum} of one batch; lower data.loader.batch_size (now {loader.batch_size}) to at "
        f"most {count}, or add samples"
    )


def _check_same_classes(train: DatasetMetadata, val: DatasetMetadata) -> None:
    """Checks that train and val have the same classes.

    Raises:
        ConfigError: if they differ; the message names the first difference.
    """
    if train.task != val.task:
        raise ConfigError(
            f'data.dataset: train has the task "{train.task}" and val "{val.task}"; give both the same task'
        )
    found = difference_of_classes(val, train, "the train split")
    if found is not None:
        raise ConfigError(f"data.dataset: train and val have different classes: {found.replace('the network', 'val')}")
    if train.ignore_index != val.ignore_index:
        raise ConfigError(
            f"data.dataset: train ignores the value {train.ignore_index} and val {val.ignore_index}; give both the "
            "same ignore_index"
        )


def _check_channels(
    section: ModelSection, model: nn.Module | None, train: DatasetMetadata, val: DatasetMetadata
) -> None:
    """Checks that train and val have the same channels, and that the config does not ask for a network of others.

    Raises:
        ConfigError: if it is otherwise.
    """
    found = difference_of_channels(train.channels, val.channels, "train", "val")
    if found is not None:
        raise ConfigError(f"data.dataset: train and val have different channels: {found}")
    if problem := channels_problem(section, train):
        raise ConfigError(problem)
    spec = getattr(model, "build_spec", None)
    own = spec.arguments.get("in_channels") if isinstance(spec, BuildSpec) else None
    if own is not None and own != train.channels.count:
        raise ConfigError(
            f"the network that was passed to the trainer has in_channels = {own}, but the images of {train.name} have "
            f"{train.channels}; build it with in_channels={train.channels.count}"
        )
