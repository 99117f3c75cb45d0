"""SFNet-Lite as pixseg 0.8.2 built it, in two variants. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is that of the files sfnet_lite_resnet18-cityscapes-512x1024, sfnet_lite_resnet18-sbd-500x500 and
sfnet_lite_resnet101-cityscapes-512x1024 of its release. Variant "pixseg_fam_pooling" is the source's option
`fam_pooling=True`, of which no file is published.

Differs from the paper's variant (`seg_models.networks.sfnet_lite`):
- as SFNet does, see `seg_models.networks.pixseg.sfnet`
- the gate is the share of the fine features; the paper's is that of the coarse ones
- the gate is told from all the channels that the flows are told from. In variant "pixseg_fam_pooling" from their mean
  and maximum, as in the paper, but there the fine features are pooled before they are reduced.

The source has no auxiliary head; here it is that of the paper's variant.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.layers import resize
from seg_models.networks.pixseg.pspnet import PyramidContext
from seg_models.networks.pixseg.sfnet import WIDTH, lateral
from seg_models.networks.sfnet import warp
from seg_models.networks.sfnet_lite import GatedDualFlowAlignment, SFNetLite

__all__ = ["make", "make_pooled"]


class GatedAlignment(GatedDualFlowAlignment):
    """Coarse and fine features, each warped by a flow of its own, and mixed by a gate.

    Args:
        width: channels of both.
        pooled: whether the gate is told from the mean and maximum over the channels, and not from the channels.
    """

    def __init__(self, width: int, pooled: bool = False) -> None:
        super().__init__(width)
        self.pooled = pooled
        if not pooled:
            self.gate = nn.Conv2d(width, 1, 3, padding=1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, C, H, W) and (N, C, h, w) to (N, C, H, W)."""
        reduced = [resize(self.reduce_high(high), low, align_corners=True), self.reduce_low(low)]
        seen = joined = torch.cat(reduced, dim=1)
        if self.pooled:
            seen = torch.cat([*(r.mean(1, True) for r in reduced), *(r.amax(1, True) for r in reduced)], dim=1)
        high_flow, low_flow = self.flows(joined).chunk(2, dim=1)
        gate = self.gate(seen).sigmoid()  # (N, 1, H, W)
        mixed: Tensor = (1 - gate) * warp(high, high_flow) + gate * warp(low, low_flow)
        return mixed


def make(
    make_backbone: Callable[..., Backbone], *, num_classes: int, aux_loss: bool, pooled: bool = False
) -> SFNetLite:
    """Makes variant "pixseg"."""
    return SFNetLite(
        make_backbone(),
        num_classes,
        aux_loss,
        width=WIDTH,
        make_pyramid=PyramidContext,
        make_lateral=lateral,
        make_alignment=functools.partial(GatedAlignment, pooled=pooled),
        align_output=False,
    )


# variant "pixseg_fam_pooling"
make_pooled = functools.partial(make, pooled=True)
