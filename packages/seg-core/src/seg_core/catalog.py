"""Catalog entries: facts about a name, available without importing its target.

A catalog is a dict from name to `Entry` (or just to its target string) in a package's `catalog.py`. It imports no torch
and is declared by one entry point of the package, so listing names is instant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["SPLITS", "DatasetEntry", "Entry", "ModelEntry", "WeightsEntry"]

SPLITS = ("train", "val", "test")
"""The usual splits of a dataset; some datasets have official extras."""


def _frozen() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """One entry of a catalog.

    Attributes:
        target: where the object is, as `"package.module:attribute"`; imported on use.
        summary: one line for listings.
    """

    target: str
    summary: str = ""


@dataclass(frozen=True)
class WeightsEntry:
    """One published weights file, as data; `seg_core.model_files.weights` builds enum members from it.

    Attributes:
        url: URL of the file.
        hash: hexadecimal sha256 of the file, whole or its first digits; empty if none was published.
        verified: how far `hash` verifies the file: `"sha256"` (whole digest), `"prefix"` (published first digits) or
            `"first-use"` (no published digest: recorded at the first download and compared on every later use).
        label_set: name of the label set (see `seg_core.resolve_metadata`) whose classes the outputs are.
        mean: mean of each channel of RGB in [0, 1].
        std: standard deviation of each channel of RGB in [0, 1].
        resize: resize of images before the network, see `seg_core.Preprocessing`.
        variant: the variant of the builder that the file needs.
        key_rules: name of the rules that map the file's parameter names to ours.
        aux: whether the file holds auxiliary heads.
        meta: params, macs, metrics with their protocol, source, license and more, as published.
    """

    url: str
    hash: str
    verified: str
    label_set: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Mapping[str, Any] = field(default_factory=_frozen)
    variant: str = "paper"
    key_rules: str = "seg"
    aux: bool = False
    meta: Mapping[str, Any] = field(default_factory=_frozen)


@dataclass(frozen=True)
class ModelEntry(Entry):
    """A network builder.

    Attributes:
        family: name of the network in its paper, such as `"FCN"`.
        backbone: catalog name of the backbone, or None if the network has none.
        params: trainable parameters at 21 classes, default variant, without auxiliary heads.
        macs: multiply-accumulates of convolutions and matrix products for one 3x512x1024 image, same variant.
        min_size: minimum height and width in pixels of the input of `forward`.
        any_backbone: whether this is a network on any backbone: its builder takes the backbone's name first, and facts
            that depend on the backbone are empty. Such a row is not a model itself, so listings omit it.
        outputs: keys of the result with `aux_loss=True`.
        variants: names of the variants of the builder, the default first.
        weights_enum: public name of the weights enum, or None if there are no weights.
        weights: member name -> entry.
        default_weights: name of the member that `DEFAULT` refers to.
    """

    family: str = ""
    backbone: str | None = None
    params: int = 0
    macs: int = 0
    min_size: int = 1
    any_backbone: bool = False
    outputs: tuple[str, ...] = ("out",)
    variants: tuple[str, ...] = ("paper",)
    weights_enum: str | None = None
    weights: Mapping[str, WeightsEntry] = field(default_factory=_frozen)
    default_weights: str | None = None


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A dataset class.

    Attributes:
        label_set: name for `seg_core.resolve_metadata`, or None if the user gives the metadata.
        splits: names of the splits.
        needs_root: whether the dataset reads files from a folder.
        download: whether its archives are public, so that it takes `download=True`.
    """

    label_set: str | None = None
    splits: tuple[str, ...] = SPLITS
    needs_root: bool = True
    download: bool = False
