"""The backbone of a network that is about to be built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_models.backbones.base import Backbone
from seg_models.factory import get_backbone
from seg_models.pretrained.input_channels import first_kernels, place_colors

__all__ = ["BackboneRecipe"]


@dataclass(frozen=True)
class BackboneRecipe:
    """A backbone that is not built yet, so that the network can add options for it.

    Attributes:
        name: name of the backbone.
        in_channels: channels of the images.
        channels: what they are, if it is known: the ImageNet weights of colors then go to the channels of these colors.
        weights: ImageNet weights, as in `get_backbone`.
        progress: whether a download shows a progress bar.
        options: the user's further options of the backbone's builder.
    """

    name: str
    in_channels: int = 3
    weights: object = None
    progress: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: ImageChannels | None = None

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

        def build_with(channels: int) -> Callable[[int], Backbone]:
            return lambda _classes: get_backbone(self.name, in_channels=channels, **own, **self.options)

        backbone = get_backbone(
            self.name,
            weights=self.weights,
            progress=self.progress,
            in_channels=self.in_channels,
            **own,
            **self.options,
        )
        if self.weights is not None and self.channels is not None:
            place_colors(backbone, first_kernels(build_with, self.in_channels, self.in_channels + 1), self.channels)
        return backbone
