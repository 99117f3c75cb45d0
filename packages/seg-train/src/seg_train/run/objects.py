"""Networks and datasets that are passed to a run as objects, in place of names in its config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from seg_core.errors import ConfigError, UsageError
from seg_core.interfaces import SegmentationDataset
from seg_core.model_files.build_spec import OBJECT, BuildSpec
from seg_core.model_files.fit import is_compiled, unwrap
from seg_train.config.schema import DatasetSection, ModelSection, TrainConfig

__all__ = ["RunObjects", "describe_object", "how_to_resume"]


@dataclass(frozen=True)
class RunObjects:
    """The objects of a run; None for what the config names.

    Attributes:
        model: the network, which the run trains in place.
        train_set: dataset to train on.
        val_set: dataset to evaluate on; given together with `train_set`.
    """

    model: nn.Module | None = None
    train_set: SegmentationDataset | None = None
    val_set: SegmentationDataset | None = None

    def settle(self, config: TrainConfig, message: Callable[[str], Any]) -> TrainConfig:
        """Returns the config that says of each object that it is one, and shows what it replaces.

        Args:
            config: config of the run.
            message: shows a line.

        Raises:
            UsageError: if only one of the datasets is given, or an argument is no network.
            ConfigError: if the config expects an object that is not given.
        """
        if self.model is not None and not isinstance(self.model, nn.Module):
            raise UsageError(
                f"model must be a network, a torch.nn.Module, got {type(self.model).__name__}; a name belongs into the "
                "config: model.name"
            )
        if self.model is not None:
            _check_network(self.model)
            if unwrap(self.model) is not self.model:
                compiled = "; trainer.compile = true compiles it" if is_compiled(self.model) else ""
                message(f"the network inside of the {type(self.model).__name__} is trained{compiled}")
        if (self.train_set is None) != (self.val_set is None):
            given, lacking = ("train_set", "val_set") if self.val_set is None else ("val_set", "train_set")
            raise UsageError(f"{given} is given without {lacking}; pass both, or name a dataset in the config")
        sections: dict[str, Any] = {}
        if self.model is None:
            if config.model.name == OBJECT:
                raise ConfigError(_missing("model.name", "model", "a network from `seg models`"))
        elif config.model.name != OBJECT:
            message(f"the network is the object passed to the trainer, not the config's {config.model.name}")
            sections["model"] = ModelSection(name=OBJECT)
        dataset = config.data.dataset
        if self.train_set is None:
            if dataset.name == OBJECT:
                raise ConfigError(
                    _missing("data.dataset.name", "train_set and val_set", "a dataset from `seg datasets`")
                )
        elif dataset.name != OBJECT:
            message(f"the datasets are the objects passed to the trainer, not the config's {dataset.name}")
            sections["data"] = config.data.model_copy(update={"dataset": DatasetSection(name=OBJECT)})
        return config.model_copy(update=sections)

    def stem(self, config: TrainConfig) -> str:
        """Returns the start of the name of a run folder: network and dataset."""
        model = config.model.name if self.model is None else type(unwrap(self.model)).__name__
        dataset = config.data.dataset.name if self.train_set is None else type(self.train_set).__name__.strip("_")
        return f"{model}-{dataset}".lower().replace(":", ".")  # of the user's own code; Windows does not allow colons

    def network(self) -> nn.Module | None:
        """Returns the network, without wrappers that compile, average or distribute it."""
        return None if self.model is None else unwrap(self.model)


def how_to_resume(config: TrainConfig, run: Path) -> str:
    """Returns the command that resumes a run, or the call for one with objects."""
    given = ["model"] if config.model.name == OBJECT else []
    given += ["train_set", "val_set"] if config.data.dataset.name == OBJECT else []
    if not given:
        return f"seg train --resume {run}"
    file = (run / "config.toml").as_posix()
    passed = ", ".join(f"{name}=..." for name in given)
    return f'Trainer(load_config("{file}"), "{run.as_posix()}", resume=True, {passed}).run()'


def _check_network(network: nn.Module) -> None:
    """Raises UsageError if a network was not called yet, so that it has no weights."""
    lazy = [name for name, parameter in network.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise UsageError(
            f"the parameter {lazy[0]} of the network has no size before it is called (Lazy modules); call it once, as "
            "with network(torch.zeros(1, 3, 64, 64)), before it is passed to the trainer"
        )


def describe_object(network: nn.Module, num_classes: int) -> BuildSpec:
    """Returns the description of a network that no builder built, for its model file.

    Args:
        network: the object.
        num_classes: its number of classes.
    """
    kind = type(network)
    return BuildSpec(OBJECT, "", {"num_classes": num_classes, "class": f"{kind.__module__}.{kind.__qualname__}"})


def _missing(key: str, arguments: str, names: str) -> str:
    return (
        f'{key} = "{OBJECT}" stands for what is passed to Trainer in Python, and nothing was; pass {arguments}, also '
        f"to resume such a run, or name {names}"
    )
