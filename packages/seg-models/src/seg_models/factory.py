"""Models by name. Listing names imports no torch; building does."""

import inspect
from collections.abc import Callable
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.registry import MODELS

if TYPE_CHECKING:
    from torch import nn

    from seg_core.weights import WeightsEnum

__all__ = [
    "create",
    "get_model",
    "get_model_builder",
    "get_model_weights",
    "get_weight",
    "list_models",
]


def list_models(pattern: str | None = None) -> list[str]:
    """Returns the names of all models of all installed packages, sorted.

    Args:
        pattern: shell pattern that the names must match, as `"fcn*"`.
    """
    return [name for name in MODELS.names() if pattern is None or fnmatch(name, pattern)]


def get_model_builder(name: str) -> "Callable[..., nn.Module]":
    """Returns the builder that a name stands for.

    Raises:
        UnknownNameError: if there is no such model; the message names the nearest.
    """
    builder: Callable[..., nn.Module] = MODELS.get(name)
    return builder


def get_model(name: str, **options: Any) -> "nn.Module":
    """Builds a model by name.

    Args:
        name: one of `list_models()`.
        options: the builder's arguments: `weights`, `num_classes`, `aux_loss`, `weights_backbone`, `in_channels`,
            `form` and those of the network; see the builder's documentation.

    Raises:
        UnknownNameError: if there is no such model.
        InvalidArgumentError: if the builder has no such option, or an option has a value outside of what is allowed.
    """
    builder = get_model_builder(name)
    parameters = inspect.signature(builder).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if option not in parameters:
                raise InvalidArgumentError(
                    f"model {name!r} has no option {option!r}.{nearest(option, parameters)} Options: "
                    + ", ".join(parameters)
                )
    return builder(**options)


def create(family: str, *, backbone: str | None = None, **options: Any) -> "nn.Module":
    """Builds a model by the name of its network and, where several backbones are known for it, the backbone's.

    Args:
        family: name of the network, as `"fcn"`; capitals do not matter.
        backbone: name of the backbone, as `"resnet50"`; may be left out where the network has only one or none.
        options: the builder's arguments, as for `get_model`.

    Raises:
        UnknownNameError: if there is no such network, or none on that backbone.
        InvalidArgumentError: if the backbone must be said and is not, or the builder has no such option.
    """
    entries = {name: entry for name in MODELS if isinstance(entry := MODELS.entry(name), ModelEntry)}
    members = {name: entry for name, entry in entries.items() if entry.family.lower() == family.lower()}
    if not members:
        families = sorted({entry.family for entry in entries.values()})
        raise UnknownNameError(
            f"unknown network {family!r}.{nearest(family, families)} Known: {', '.join(families)}; list_models() names "
            "the models"
        )
    fitting = [name for name, entry in members.items() if backbone is None or entry.backbone == backbone]
    if len(fitting) == 1:
        return get_model(fitting[0], **options)
    known = sorted(entry.backbone for entry in members.values() if entry.backbone is not None)
    if not known:
        raise UnknownNameError(f"network {family!r} has no backbone to choose, got backbone={backbone!r}; leave it out")
    if backbone is None:
        raise InvalidArgumentError(f"network {family!r} needs backbone=, one of {', '.join(known)}")
    raise UnknownNameError(
        f"network {family!r} has no backbone {backbone!r}.{nearest(backbone, known)} Known: {', '.join(known)}"
    )


def get_model_weights(name: "str | Callable[..., nn.Module]") -> "type[WeightsEnum]":
    """Returns the weights enum of a model.

    Args:
        name: of the model, or its builder.

    Raises:
        UnknownNameError: if there is no such model, or no weights for it.
    """
    if callable(name):
        builder = name
        name = next((n for n in MODELS if MODELS.entry(n).target == _target(builder)), builder.__name__)
    from seg_models.pretrained.enums import enum_of_model

    return enum_of_model(name)


def get_weight(name: str) -> "WeightsEnum":
    """Returns the member that `"EnumName.MEMBER"` names, as `"FCN_ResNet50_Weights.DEFAULT"`.

    Raises:
        UnknownNameError: if there is no such enum or member.
    """
    enum_name, _, member = name.partition(".")
    owners = {e.weights_enum: n for n in MODELS if isinstance(e := MODELS.entry(n), ModelEntry) and e.weights_enum}
    if enum_name not in owners:
        known = ", ".join(sorted(owners)) or "none"
        raise UnknownNameError(
            f"unknown weights {name!r}: there is no enum {enum_name!r}.{nearest(enum_name, owners)} Known: {known}"
        )
    if not member:
        raise UnknownNameError(f"weights {name!r} name no member; write '{enum_name}.DEFAULT', say")
    from seg_models.pretrained.enums import enum_of_model

    found: WeightsEnum = enum_of_model(owners[enum_name])[member]
    return found


def _target(builder: "Callable[..., nn.Module]") -> str:
    return f"{builder.__module__}:{builder.__qualname__}"
