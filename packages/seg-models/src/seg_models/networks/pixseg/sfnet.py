"""SFNet as in pixseg 0.8.2: variant "pixseg". https://github.com/CyrusCKF/PixSeg

Its release has the files sfnet_resnet18-cityscapes-512x1024, sfnet_resnet18-sbd-500x500 and
sfnet_resnet101-cityscapes-512x1024.

Differs from the paper's variant (`seg_models.networks.sfnet`):
- 128 channels on every backbone
- the pyramid's branches have a ReLU, are resized without aligned corners, and are concatenated after the features;
  dropout of single values, not of whole channels, after them
- the lateral convolutions have no bias
- the last resize does not align corners; the others do

The source has no auxiliary heads; these are those of the paper's variant.
"""

import functools

from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct
from seg_models.networks.pixseg.pspnet import PyramidContext
from seg_models.networks.sfnet import SFNet

__all__ = ["WIDTH", "build", "lateral"]

WIDTH = 128

# a 1x1 convolution between two numbers of channels
lateral = functools.partial(ConvNormAct, kernel_size=1)


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> SFNet:
    """Builds variant "pixseg"."""
    return SFNet(
        recipe.build(),
        num_classes,
        aux_loss,
        width=WIDTH,
        pyramid=PyramidContext,
        lateral=lateral,
        align_output=False,
    )
