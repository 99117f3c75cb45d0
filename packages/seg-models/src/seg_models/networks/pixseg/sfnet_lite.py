"""SFNet-Lite as in pixseg 0.8.2, in two variants. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is that of the files sfnet_lite_resnet18-cityscapes-512x1024, sfnet_lite_resnet18-sbd-500x500 and
sfnet_lite_resnet101-cityscapes-512x1024 of its release. Variant "pixseg_fam_pooling" is the source's option
`fam_pooling=True`, of which no file is published.

Differs from the paper's variant (`seg_models.networks.sfnet_lite`):
- what `seg_models.networks.pixseg.sfnet` lists
- the gate is the share of the fine features; the paper's is that of the coarse ones
- the gate is computed from all the channels that the flows are computed from. In variant "pixseg_fam_pooling" it is
  computed from their mean and maximum, as in the paper; but the paper pools the fine features before it reduces them.

The source has no auxiliary head; this one is that of the paper's variant.
"""

import functools

import torch
from torch import Tensor, nn

from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import resize
from seg_models.networks.pixseg.pspnet import PyramidContext
from seg_models.networks.pixseg.sfnet import WIDTH, lateral
from seg_models.networks.sfnet import warp
from seg_models.networks.sfnet_lite import GatedDualFlowAlignment, SFNetLite

__all__ = ["build", "build_pooled"]


class GatedAlignment(GatedDualFlowAlignment):
    """Coarse and fine features, each warped by its own flow, and mixed by a gate.

    Args:
        width: channels of both.
        pooled: whether the gate is computed from the mean and maximum over the channels instead of the channels.
    """

    def __init__(self, width: int, pooled: bool = False) -> None:
        super().__init__(width)
        self.pooled = pooled
        if not pooled:
            self.gate = nn.Conv2d(width, 1, 3, padding=1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, C, H, W) and (N, C, h, w) to (N, C, H, W)."""
        reduced = [resize(self.reduce_high(high), low, align_corners=True), self.reduce_low(low)]
        gate_input = joined = torch.cat(reduced, dim=1)
        if self.pooled:
            gate_input = torch.cat([*(r.mean(1, True) for r in reduced), *(r.amax(1, True) for r in reduced)], dim=1)
        high_flow, low_flow = self.flows(joined).chunk(2, dim=1)
        gate = self.gate(gate_input).sigmoid()  # (N, 1, H, W)
        return (1 - gate) * warp(high, high_flow) + gate * warp(low, low_flow)


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool, pooled: bool = False) -> SFNetLite:
    """Builds variant "pixseg"."""
    return SFNetLite(
        recipe.build(),
        num_classes,
        aux_loss,
        width=WIDTH,
        pyramid=PyramidContext,
        lateral=lateral,
        alignment=functools.partial(GatedAlignment, pooled=pooled),
        align_output=False,
    )


# variant "pixseg_fam_pooling"
build_pooled = functools.partial(build, pooled=True)
