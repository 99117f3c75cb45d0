"""The data of a run: its datasets, their loaders and transforms, and its length."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from seg_core.errors import ConfigError, InvalidArgumentError, counted
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.comparison import check_several_classes, difference_of_classes
from seg_core.labels.metadata import DatasetMetadata
from seg_core.own_code import naming
from seg_core.randomness import isolated_randomness
from seg_core.registry import DATASETS
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.schema import DatasetSection, TrainConfig
from seg_train.data.batches import Loader
from seg_train.data.own_transforms import build_own_transforms
from seg_train.run.objects import RunObjects
from seg_train.run.together import together

__all__ = ["RunData", "RunLength", "build_data"]


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
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset
    train_loader: Loader
    val_loader: Loader
    augment: SegmentationAugment
    val_transform: EvaluationTransform

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
    def of(cls, config: TrainConfig, num_samples: int) -> "RunLength":
        """Returns the length of a run on `num_samples` training samples; an epoch has whole batches only."""
        steps_per_epoch = num_samples // config.data.loader.batch_size
        if config.trainer.steps is not None:
            return cls(config.trainer.steps, -(-config.trainer.steps // steps_per_epoch))
        assert config.trainer.epochs is not None  # the schema requires one of the two
        return cls(config.trainer.epochs * steps_per_epoch, config.trainer.epochs)


@together()
def build_data(config: TrainConfig, accelerator: Accelerator, objects: RunObjects) -> RunData:
    """Opens the datasets and builds loaders and transforms.

    Args:
        config: config of the run.
        accelerator: device and processes.
        objects: datasets in place of those of the config.

    Raises:
        ProcessDiedError: if another process of the run cannot open them.
        ConfigError: if a split is smaller than a batch, the processes cannot share a batch evenly, or there is only one
            class.
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
    try:
        check_several_classes(train_set.metadata)
    except InvalidArgumentError as error:
        raise ConfigError(f"data.dataset: {error}") from error
    _check_enough(config, "train", len(train_set), loader.batch_size)
    _check_enough(config, "val", len(val_set), processes)
    options: dict[str, Any] = {
        "seed": config.trainer.seed,
        "num_workers": loader.num_workers,
        "pin_memory": accelerator.device.type == "cuda",
    }
    ignored = train_set.metadata.ignore_index
    train = SegmentationTransform(**data.transform.train.crop_options(), mask_fill=ignored)
    augment = SegmentationAugment(
        **data.augment.model_dump(), mask_fill=ignored, left_right_pairs=train_set.metadata.left_right_pairs
    )
    resize = config.evaluation.resize
    preprocessing = Preprocessing(mean=augment.mean, std=augment.std)
    val_transform = EvaluationTransform(
        preprocessing.with_resize({} if resize is None else resize.model_dump(exclude_none=True))
    )
    named = [(own.name, own.params) for own in data.transform.train.custom or ()]
    own = build_own_transforms(named, train_set.metadata, config.trainer.seed)
    return RunData(
        train_set=train_set,
        val_set=val_set,
        train_loader=Loader(train_set, train, own=own, **options),
        val_loader=Loader(val_set, val_transform, splits_unlike_sizes=True, **options),
        augment=augment,
        val_transform=val_transform,
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
    if count >= minimum:
        return
    section, loader = config.data.dataset, config.data.loader
    split = f'data.dataset.{key}_split = "{getattr(section, f"{key}_split")}" has {count} samples'
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
    found = difference_of_classes(val, train, "the train split")
    if found is not None:
        raise ConfigError(f"data.dataset: train and val have different classes: {found.replace('the network', 'val')}")
    if train.ignore_index != val.ignore_index:
        raise ConfigError(
            f"data.dataset: train ignores the value {train.ignore_index} and val {val.ignore_index}; give both the "
            "same ignore_index"
        )
