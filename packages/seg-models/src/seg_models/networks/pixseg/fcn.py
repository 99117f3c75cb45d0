"""FCN as in pixseg: variant "pixseg". https://github.com/CyrusCKF/PixSeg

Differs from the paper's variant: torchvision's structure (no skips) at output stride 32 on every backbone, VGG without
the layers of its former classifier.
"""

from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import FCNHead
from seg_models.networks.base import last_features
from seg_models.networks.fcn import FCN

__all__ = ["build"]


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> FCN:
    """Builds variant "pixseg"."""
    backbone = recipe.build(output_stride=32)
    before, coarsest = last_features(backbone, 2)
    return FCN(
        backbone,
        FCNHead(coarsest.channels, num_classes),
        aux_classifier=FCNHead(before.channels, num_classes) if aux_loss else None,
    )
