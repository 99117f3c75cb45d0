"""The options of builders, each declared once: name, type, default and description.

A network's options are a frozen dataclass in the network's file, with the paper's values as defaults. Its variants are
values of that class, in the table `VARIANTS` after it. `seg_models.builders.signatures` writes the signature and the
documentation of a builder from these.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Self

from seg_core.labels.channels import ImageChannels
from seg_core.model_files.weights import WeightsEnum

__all__ = [
    "PAPER",
    "WITHOUT_OPTIONS",
    "BackboneOptions",
    "CommonOptions",
    "Options",
    "OtherNetwork",
    "Variant",
    "Variants",
    "find_variant",
    "split_arguments",
]

PAPER = "paper"  # the variant with options that the user may change; the options of all others are fixed


@dataclass(frozen=True)
class CommonOptions:
    """The options of every builder.

    Attributes:
        weights: member of the model's weights enum, its name, `"DEFAULT"`, a checkpoint file (`"file.pth#ema"`: one of
            several networks in it), a run folder, or None to initialize randomly.
        progress: whether a download shows a progress bar.
        num_classes: channels of the logits; None uses that of the weights, or 21 without weights.
        class_names: names of the classes to predict: each gets the classifier's row of the weights' class of that name
            or of a synonym; rows of other classes are randomly initialized. Implies `num_classes`.
        aux_loss: whether to add auxiliary outputs, if the network has any; None is False.
        weights_backbone: ImageNet weights of the backbone: member of torchvision's enum, its name, `"DEFAULT"`, or None
            to initialize randomly; for a timm backbone the tag of its weights.
        in_channels: channels of the images; weights for 3 channels are inflated to other numbers. A
            `seg_core.ImageChannels` also says which are red, green and blue: they get the kernels of these colors.
        variant: variant of the network, see the catalog; None selects the one that the weights need, or else the first.
    """

    weights: WeightsEnum | str | os.PathLike[str] | None = None
    progress: bool = True
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    aux_loss: bool | None = None
    weights_backbone: object = None
    in_channels: int | ImageChannels = 3
    variant: str | None = None


@dataclass(frozen=True)
class Options:
    """The options of one network, in addition to `CommonOptions`; each variant is an instance."""

    def settled(self) -> Self:
        """Returns the options, with derived defaults filled in."""
        return self


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(Options):
    """The options of a network on a backbone.

    Attributes:
        backbone_options: further options of the backbone's builder, such as `{"stem": "deep"}` for ResNets; see
            `get_backbone`.
    """

    backbone_options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class OtherNetwork:
    """A variant that the network's options cannot express: another network, in its own module.

    Attributes:
        target: its build function, as `"module:function"`; imported on use. It is called like `build` of
            `build_network`, but without options.
        backbone_options: the options of the backbone's builder that it needs.
    """

    target: str
    backbone_options: Mapping[str, Any] | None = None


# a variant; if it depends on the backbone, glob pattern of the backbone's name -> variant, the first match applies
Variant = Options | OtherNetwork
Variants = Mapping[str, Variant | Mapping[str, Variant]]

WITHOUT_OPTIONS: Variants = MappingProxyType({PAPER: Options()})


def find_variant(variants: Variants, name: str, backbone: str | None) -> Variant:
    """Returns the variant of that name on a backbone."""
    found = variants[name]
    if isinstance(found, Mapping):
        return next(value for pattern, value in found.items() if fnmatchcase(backbone or "", pattern))
    return found


def split_arguments(arguments: Mapping[str, Any]) -> tuple[CommonOptions, dict[str, Any]]:
    """Returns the options of every builder, and those of the network that have a value other than None."""
    names = {field.name for field in fields(CommonOptions)}
    common = CommonOptions(**{name: value for name, value in arguments.items() if name in names})
    own = {name: value for name, value in arguments.items() if name not in names and value is not None}
    return common, own
