"""Builds the network of a run from its config, with its initial weights."""

import torch
from torch import nn

from seg_core.errors import ConfigError, CorruptFileError, InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.own_builders import file_to_load, load_file
from seg_core.own_code import naming
from seg_core.registry import MODELS
from seg_core.spec import takes
from seg_train.config.own_model import channels_problem, weights_problems
from seg_train.config.schema import ModelSection
from seg_train.run.together import together

__all__ = ["build_network", "check_parameters"]


@together()
def build_network(section: ModelSection, metadata: DatasetMetadata, *, resumed: bool = False) -> nn.Module:
    """Returns the network of a config, with its initial weights.

    A file of weights is loaded by a builder of a catalog, which knows other projects' files, or else here.

    Args:
        section: the network.
        metadata: classes and channels of the dataset, whose numbers the network has.
        resumed: whether the weights come from a checkpoint, so that no file needs to be there any more.

    Raises:
        ConfigError: if the builder takes no weights or no `in_channels`, returns something other than a network, or the
            file holds the tensors of another one; the message names the first that differs.
        UserError: if the builder cannot build it, or the file cannot be read.
    """
    builder = MODELS.get(section.name)
    if problems := weights_problems(section):
        raise ConfigError(problems[0])
    if problem := channels_problem(section, metadata):
        raise ConfigError(problem)
    options = dict(section.params)
    if takes(builder, "in_channels"):
        options["in_channels"] = metadata.channels.count
    num_classes = metadata.num_classes
    file = file_to_load(section.name, section.weights)
    with naming("model.name", section.name):
        model: nn.Module = builder(
            weights=section.weights if file is None else None,
            num_classes=num_classes,
            aux_loss=section.aux_loss,
            weights_backbone=section.weights_backbone,
            variant=section.variant,
            **options,
        )
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f'model.name = "{section.name}": must return a network, a torch.nn.Module, got {type(model).__name__}'
        )
    if not isinstance(getattr(model, "build_spec", None), BuildSpec):  # a builder of one's own need not know of it
        arguments = {"num_classes": num_classes, "aux_loss": section.aux_loss, **options}
        model.build_spec = BuildSpec(section.name, section.variant or "", arguments)  # type: ignore[assignment]  # a plain attribute
    if file is not None and not resumed:
        try:
            load_file(model, file, section.name)
        except (InvalidArgumentError, CorruptFileError) as error:
            raise ConfigError(f'model.weights = "{file}": {error}') from error
    return model


def check_parameters(network: nn.Module) -> None:
    """Checks that there are float32 weights to train.

    Raises:
        ConfigError: if there are none.
    """
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ConfigError(
                f"the network's parameter {name} is {parameter.dtype}: weights are trained in float32, and "
                "trainer.precision sets what is computed with; convert it by network.float()"
            )
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(
            f"none of the network's {len(parameters)} parameters requires a gradient, so nothing would be trained; "
            "unfreeze some by parameter.requires_grad_(True)"
        )
