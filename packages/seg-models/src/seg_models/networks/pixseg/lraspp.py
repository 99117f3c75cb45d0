"""LRASPP on ResNet-18 as in pixseg: variant "pixseg". https://github.com/CyrusCKF/PixSeg

Differs from the paper's variant: no dilation, so the fine features have stride 16 and the coarse ones stride 32.
"""

from seg_models.builders.backbone import BackboneRecipe
from seg_models.networks.lraspp import LRASPP

__all__ = ["build"]


def build(recipe: BackboneRecipe, num_classes: int) -> LRASPP:
    """Builds variant "pixseg"."""
    return LRASPP(recipe.build(output_stride=32), num_classes, low_stride=16)
