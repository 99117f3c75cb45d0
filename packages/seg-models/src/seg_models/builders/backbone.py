"""The backbone of a network that is about to be built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import Backbone
from seg_models.factory import get_backbone

__all__ = ["BackboneRecipe"]


@dataclass(frozen=True)
class BackboneRecipe:
    """A backbone that is not built yet, so that the network can add options for it.

    Attributes:
        name: name of the backbone.
        in_channels: channels of the images.
        weights: ImageNet weights, as in `get_backbone`.
        progress: whether a download shows a progress bar.
        options: the user's further options of the backbone's builder.
    """

    name: str
    in_channels: int = 3
    weights: object = None
    progress: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **own: Any) -> Backbone:
        """Builds the backbone.

        Args:
            own: options that the network sets itself, such as `output_stride`.

        Raises:
            InvalidArgumentError: if the user set one of them too.
        """
        for option in self.options:
            if option in own or option in ("weights", "progress", "in_channels"):
                raise InvalidArgumentError(
                    f"backbone_options cannot hold {option!r}, which the model sets itself; remove it"
                )
        return get_backbone(
            self.name,
            weights=self.weights,
            progress=self.progress,
            in_channels=self.in_channels,
            **own,
            **self.options,
        )
