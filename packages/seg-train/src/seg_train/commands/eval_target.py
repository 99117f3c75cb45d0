"""The target of `seg eval`: model, dataset, prediction options and preprocessing."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import DatasetEntry
from seg_core.errors import ConfigError, InvalidArgumentError, UnknownNameError, UsageError, UserError, counted, nearest
from seg_core.model_files.build_spec import OBJECT
from seg_core.model_files.load_network import NetworkSource, find_network, load_network
from seg_core.model_files.paths import WEIGHTS_SUFFIXES
from seg_core.own_code import naming
from seg_core.registry import DATASETS, PREDICTORS
from seg_core.spec import leading_parameters, param_problems, parameters_of
from seg_train.commands.eval_settings import Settings
from seg_train.config.params import DATASET
from seg_train.data.dataset_classes import classes_in_root

if TYPE_CHECKING:
    from torch import nn

    from seg_core.interfaces import Predict, SegmentationDataset
    from seg_core.transforms.preprocessing import Preprocessing
    from seg_train.run.folder import RunFolder
    from seg_train.run.ways import WayOptions

__all__ = ["Target", "check_way", "find_target", "load_model_of", "open_dataset", "preprocessing_for", "protocol_of"]


@dataclass(frozen=True)
class Target:
    """The model and the dataset to evaluate it on.

    Attributes:
        source: where the network comes from.
        dataset: name of the dataset.
        root: its folder, or None.
        split: split to evaluate on.
        params: other options of the dataset.
        batch_size: images per batch. For a run the default is its own, which reproduces the run's scores bit for bit:
            the batch size affects the last bits of the logits.
        seed: of what the dataset itself draws at random: that of the run, or 0.
    """

    source: NetworkSource
    dataset: str
    root: str | None
    split: str
    params: Mapping[str, Any]
    batch_size: int
    seed: int = 0


def find_target(
    model: str, weights: str | None, variant: str | None, dataset: str | None, settings: Settings
) -> Target:
    """Returns the model and the dataset to evaluate it on, by default that of the run. Nothing is loaded yet.

    Raises:
        UnknownNameError: if there is no such model.
        UsageError: if model, weights and variant cannot be used together, or no dataset is given.
        ConfigError: if the config of the run is wrong.
    """
    if dataset is not None and dataset not in DATASETS:
        _refuse_dataset(model, dataset)
    try:
        source = find_network(model, weights, variant)
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error
    if source.path is not None and not source.path.is_file():  # before a dataset is asked for, or opened
        raise UsageError(
            f"there is no run folder or model file {model}; check the path (current folder: {Path.cwd()}), or name a "
            "model from `seg models`"
        )
    if source.note:
        print(f"seg: {source.note}", file=sys.stderr)
    section, seed = None, 0
    batch_size = settings.batch_size or 1
    if source.run is not None:
        from seg_train.config.show import toml_key, toml_value
        from seg_train.run.folder import RunFolder

        folder = RunFolder(source.run)
        if dataset is not None:
            _import_code(folder, settings.import_paths)  # of its network
    if source.run is not None and dataset is None:
        # these may replace what does not exist here; other options of the run are kept
        own = {f"params.{toml_key(key)}": value for key, value in settings.params.items()}
        own |= {} if settings.root is None else {"root": settings.root}
        overrides = [f"data.dataset.{key}={toml_value(value)}" for key, value in own.items()]
        if settings.import_paths:
            overrides.append(f"import_paths={toml_value(settings.import_paths)}")
        config = folder.load_config(overrides, from_anywhere=True)
        section, seed = config.data.dataset, config.trainer.seed
        dataset = section.name
        batch_size = settings.batch_size or config.evaluation.batch_size
    if dataset is None:
        beside = None if source.path is None else source.path.parent
        is_in_run = beside is not None and (beside / "config.toml").is_file()
        raise UsageError(
            "name a DATASET to evaluate on, from `seg datasets`; only a run folder has a default"
            + (f": seg eval {beside}" if is_in_run else "")
        )
    if dataset == OBJECT:
        raise UsageError(
            f"the datasets of the run {model} were passed to the trainer as objects; name a DATASET, or evaluate in "
            "Python: seg_train.evaluate(network, dataset)"
        )
    split = settings.split or (section.val_split if section is not None else "val")
    root = settings.root or (section.root if section is not None else None)
    params = {**(section.params if section is not None else {}), **settings.params}
    return Target(source, dataset, root, split, params, batch_size, seed)


def _import_code(folder: "RunFolder", paths: Sequence[str]) -> None:
    """Imports the code that the config of a run names, from other folders if there are any.

    Raises:
        ConfigError: if it cannot be imported.
    """
    from seg_train.config.files import read_tables
    from seg_train.config.own_code import import_own_code

    if not paths or not folder.config.is_file():
        folder.import_code()
        return
    tables = read_tables(folder.config, stored=True).values | {"import_paths": list(paths)}
    problems, wrong = import_own_code(tables, [], stored=True)
    if found := [*problems, *wrong.values()]:
        raise ConfigError(f"{folder.config}: {found[0]}")


def _refuse_dataset(model: str, dataset: str) -> None:
    """Raises UsageError if the second word is no dataset but a path: of a model, as other tools take it, or of images.

    Args:
        model: MODEL of the command line.
        dataset: DATASET of the command line, no name of one.
    """
    path = Path(dataset)
    if path.suffix in WEIGHTS_SUFFIXES or (path / "config.toml").is_file():
        run = next((p for p in (path, path.parent) if (p / "config.toml").is_file()), None)
        better = f"seg eval {dataset} DATASET -s root=DIR" if run is None else f"seg eval {run}"
        raise UsageError(f"{dataset} is a model, which comes first, without a config: {better}")
    if path.is_dir():
        raise UsageError(
            f"{dataset} is a folder: name its dataset, and the folder as root: seg eval {model} FolderDataset "
            f"-s root={dataset}"
        )


def open_dataset(target: Target) -> "SegmentationDataset":
    """Opens the split of the dataset.

    Raises:
        UnknownNameError: if there is no such dataset.
        UsageError: if the dataset needs a root, or has no such split or option.
        InvalidArgumentError: if the split is empty, or the dataset has only one class.
        UserError: if the dataset cannot be opened, for example because its folder is missing.
    """
    from seg_core.labels.comparison import check_several_classes
    from seg_core.randomness import isolated_randomness

    name = target.dataset
    entry = DATASETS.entry(name)
    if isinstance(entry, DatasetEntry) and entry.needs_root and target.root is None:
        raise UsageError(
            f"dataset {name!r} needs its root folder: set it with -s root=DIR; `seg datasets show {name}` prints the "
            "expected layout"
        )
    kind = DATASETS.get(name)
    if isinstance(entry, DatasetEntry):
        # official split names in addition to ours
        names = getattr(kind, "split_names", lambda: entry.splits)()
        if names and target.split not in names:
            raise UsageError(
                f"dataset {name!r} has no split {target.split!r}.{nearest(target.split, names)} "
                f"Splits: {', '.join(names)}; set one with -s split=NAME"
            )
    given = ("root", "split", "transforms", *leading_parameters(kind, 1))  # the root may have another name
    _check_params("params", f"dataset {name!r}", kind, target.params, given)
    if not isinstance(entry, DatasetEntry) and (found := DATASET.problems("DATASET", name, kind, target.params)):
        raise UsageError(found[0])
    try:
        classes_in_root(kind, target.root, target.params)
    except UserError as error:
        raise UsageError(f"-s params.{error}; here: -s 'params.metadata={{labels = [...]}}'") from error
    with isolated_randomness(target.seed), naming("DATASET", name):  # as the trainer opens it
        dataset: SegmentationDataset = kind(target.root, split=target.split, **target.params)
    check_several_classes(dataset.metadata)
    if not len(dataset):
        raise InvalidArgumentError(f"the {target.split} split of {name!r} has no images; choose another split")
    return dataset


def load_model_of(target: Target) -> "nn.Module":
    """Loads the network.

    Raises:
        InvalidArgumentError: if the weights leave tensors randomly initialized.
        UserError: if the file cannot be read or the network cannot be built.
    """
    return load_network(target.source)


def check_way(options: "WayOptions", source: str) -> None:
    """Checks that the predictor exists and accepts its options.

    Args:
        options: prediction options.
        source: origin of the options, for the message: `"-s"`, or the model.

    Raises:
        UnknownNameError: if there is no such predictor.
        UsageError: if it does not accept the options.
    """
    try:
        predict: Predict = PREDICTORS.get(options.predictor)
    except UnknownNameError as error:
        if source == "-s":
            raise
        raise UnknownNameError(
            f"{source} was evaluated with a predictor that is not installed: {error}; set another one with "
            "-s predictor=whole"
        ) from error
    given = [*list(parameters_of(predict))[:2], "size", "output", "task", "thresholds"]  # passed by the evaluation
    _check_params("predictor_params", f"predictor {options.predictor!r}", predict, options.params, given)


def preprocessing_for(
    model: str, network: "nn.Module", dataset: "SegmentationDataset", resize: Mapping[str, Any] | None
) -> "Preprocessing":
    """Compares classes and channels of model and dataset, and returns the preprocessing of the images.

    Class names that differ are only a warning on stderr, since most differ only in spelling.

    Args:
        model: name given by the user, for messages.
        network: with `model_info` if its file or weights have one.
        dataset: dataset to score on.
        resize: the user's, or None for the model's.

    Raises:
        UsageError: if the task, the numbers of classes or the channels differ, or `resize` is wrong.
        InvalidArgumentError: if nothing says how the channels are normalized.
    """
    from seg_core.labels.comparison import difference_of_classes
    from seg_train.run.channels import default_preprocessing, other_channels
    from seg_train.run.thresholds import other_task

    metadata, info = dataset.metadata, getattr(network, "model_info", None)
    if found := other_task(network, metadata):
        raise UsageError(f"model {model!r}: {found}; evaluate it on a dataset of its task")
    count = _built_with(network, "num_classes") if info is None else info.metadata.num_classes
    if count not in (None, metadata.num_classes):
        trained_on = "" if info is None else f" ({info.metadata.name})"
        found = difference_of_classes(count if info is None else info.metadata, metadata)
        own = f"; `seg eval {model}` takes that of the run" if (Path(model) / "config.toml").is_file() else ""
        raise UsageError(
            f"model {model!r} has {counted(count, 'class', 'classes')}{trained_on}, but the dataset has "
            f"{metadata.num_classes} ({metadata.name}); evaluate it on a dataset with its training classes "
            f"({found}){own}"
        )
    if found := other_channels(network, metadata.channels):
        raise UsageError(f"model {model!r}: {found}; evaluate it on images of the channels that it was trained on")
    if info is None:
        preprocessing = default_preprocessing(metadata.channels)
        numbers = "ImageNet's" if metadata.channels.mean is None else "its channels'"
        _warn(
            f"model {model!r} has no class names and no preprocessing; using the classes of {metadata.name} and "
            f"{numbers} mean and std"
        )
    else:
        preprocessing = info.preprocessing
        for index, (ours, theirs) in enumerate(zip(info.metadata.labels, metadata.labels, strict=True)):
            if ours != theirs:
                _warn(
                    f"class {index} is {ours!r} for the model ({info.metadata.name}) and {theirs!r} in the dataset "
                    f"({metadata.name}); classes are compared by index"
                )
                break
    if resize is None:
        return preprocessing
    try:
        return preprocessing.with_resize(resize)
    except InvalidArgumentError as error:
        raise UsageError(f"-s resize: {error}") from error


def protocol_of(network: "nn.Module") -> Mapping[str, Any]:
    """Returns the evaluation protocol of the network's run, `{}` if its file has none."""
    protocol = getattr(getattr(network, "model_info", None), "protocol", {})
    return protocol if isinstance(protocol, Mapping) else {}


def _check_params(
    key: str, name: str, target: Callable[..., Any], params: Mapping[str, Any], given: Collection[str]
) -> None:
    if problems := param_problems(name, target, params, given, key=f"-s {key}"):
        raise UsageError(problems[0])


def _built_with(network: "nn.Module", argument: str) -> Any:
    spec = getattr(network, "build_spec", None)
    return None if spec is None else spec.arguments.get(argument)


def _warn(text: str) -> None:
    print(f"seg: warning: {text}", file=sys.stderr)
