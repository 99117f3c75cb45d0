"""UPerNet as in pixseg 0.8.2: variant "pixseg". https://github.com/CyrusCKF/PixSeg

Its release has the files upernet_resnet18-cityscapes-512x1024, upernet_resnet18-sbd-500x500 and
upernet_resnet101-cityscapes-512x1024.

Differs from the paper's variant (`seg_models.networks.upernet`):
- 128 channels
- the coarsest level also has a 3x3 convolution before the fusion, and the levels are joined from coarse to fine
- the fusion, with its batch norm and ReLU, computes the logits, so they are never negative; dropout comes after the
  pyramid instead of before the logits
- the resize of the levels before the fusion aligns corners; the others do not

The source has no auxiliary head; this one is that of the paper's variant.
"""

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct, FCNHead, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features
from seg_models.networks.pixseg.pspnet import PyramidContext
from seg_models.networks.upernet import AUX_WIDTH, LEVELS

__all__ = ["UPerNet", "build"]

WIDTH = 128


class UPerNet(SegmentationNetwork):
    """A feature pyramid with pyramid pooling at its top, whose levels are fused into logits.

    Args:
        backbone: returns features from fine to coarse; the last four are used.
        num_classes: channels of the logits.
        aux_loss: whether to add an auxiliary head on the features before the coarsest, whose logits are `"aux"`.
    """

    def __init__(self, backbone: Backbone, num_classes: int, aux_loss: bool = False) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        *finer, top = [info.channels for info in levels]
        self.levels = select_features(backbone, *levels)
        self.backbone = backbone
        self.pyramid = PyramidContext(top, WIDTH, 3)
        self.laterals = nn.ModuleList(ConvNormAct(channels, WIDTH, 1) for channels in finer)
        self.fpn_convs = nn.ModuleList(ConvNormAct(WIDTH, WIDTH, 3) for _ in levels)
        self.fusion = ConvNormAct(LEVELS * WIDTH, num_classes, 3)
        self.aux_classifier = FCNHead(finer[-1], num_classes, AUX_WIDTH) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"`, on ResNets at 1/4 of H and W, and, with an auxiliary head, `"aux"` at 1/16."""
        features = self.backbone(images)
        *finer, top = [features[level] for level in self.levels]
        outputs = {"out": self.fusion(self._join_levels(finer, top))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(finer[-1])
        return outputs

    def _join_levels(self, finer: list[Tensor], top: Tensor) -> Tensor:
        """Returns the four levels concatenated from coarse to fine: (N, 4 * 128, h, w) at the finest features' size."""
        summed = [self.pyramid(top)]
        for lateral, features in zip(reversed(self.laterals), reversed(finer), strict=True):
            level = lateral(features)
            summed.append(level + resize(summed[-1], level))
        levels = [convolution(level) for convolution, level in zip(reversed(self.fpn_convs), summed, strict=True)]
        return torch.cat([resize(level, summed[-1], align_corners=True) for level in levels], dim=1)


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> UPerNet:
    """Builds variant "pixseg"."""
    return UPerNet(recipe.build(), num_classes, aux_loss)
