"""How a network was built, so that a model file can build it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["OBJECT", "BuildSpec"]

# In place of the name of a builder: the network was an object of a class of the user's own.
OBJECT = "object"


@dataclass(frozen=True)
class BuildSpec:
    """How a network was built; every builder leaves one on its network as `model.build_spec`.

    Attributes:
        builder: catalog name, or `"object"` for a network that no builder built; such a file is loaded into a network
            that the user builds.
        variant: name of the variant; "" calls the builder with `variant=None`.
        arguments: the builder's other arguments, `num_classes` included, as plain values; nothing that names weights.
    """

    builder: str
    variant: str
    arguments: Mapping[str, Any]
