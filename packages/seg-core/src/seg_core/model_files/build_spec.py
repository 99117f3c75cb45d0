"""How a network was built, so that a model file can build it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BuildSpec"]


@dataclass(frozen=True)
class BuildSpec:
    """How a network was built; every builder leaves one on its network as `model.build_spec`.

    Attributes:
        builder: catalog name.
        variant: name of the variant; "" calls the builder with `variant=None`.
        arguments: the builder's other arguments, `num_classes` included, as plain values; nothing that names weights.
    """

    builder: str
    variant: str
    arguments: Mapping[str, Any]
