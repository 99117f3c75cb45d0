"""SFNet: semantic flow for fast and accurate scene parsing.

Xiangtai Li, Ansheng You, Zhen Zhu, Houlong Zhao, Maoke Yang, Kuiyuan Yang, Shaohua Tan, Yunhai Tong, 2020.
https://arxiv.org/abs/2002.10120
The authors' code: https://github.com/lxtGH/SFSegNets

Differs from the paper:
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights; the authors' has three 3x3 of 64,
  64 and 128 channels. That stem is the whole difference in parameters and multiply-accumulates at 512x1024: 148,480 and
  15.0 G on ResNet-18, 123,776 and 14.2 G on ResNet-50 and -101. The authors' last two stages also dilate by 2 and 4,
  and keep the stride.
- widths as in the authors' code: 128 on backbones with up to 512 channels, else 256
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variant "pixseg" is another network: `seg_models.networks.pixseg.sfnet`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.interfaces import FeatureInfo
from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, PyramidPooling, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features

__all__ = [
    "LEVELS",
    "VARIANTS",
    "FlowAlignment",
    "PyramidPoolingModule",
    "SFNet",
    "SFNetOptions",
    "Supervision",
    "lateral",
    "sfnet",
    "sfnet_resnet18",
    "sfnet_resnet50",
    "sfnet_resnet101",
    "warp",
    "width_for",
]

LEVELS = 4


@dataclass(frozen=True)
class SFNetOptions(BackboneOptions):
    """The options of SFNet, and of SFNet-Lite.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32.
    """

    output_stride: int = 32


VARIANTS: Variants = {
    "paper": SFNetOptions(),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.sfnet:build"),
}


def width_for(coarsest: FeatureInfo) -> int:
    """Returns the channels of the decoder for the coarsest features."""
    return 128 if coarsest.channels <= 512 else 256


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Warps features by a flow.

    Args:
        features: float (N, C, h, w).
        flow: float (N, 2, H, W), offsets in x and y, in half pixels of H and W.

    Returns:
        float (N, C, H, W): bilinear samples, zero outside.
    """
    height, width = flow.shape[-2:]
    # positions in [-1, 1] need more digits than half precision has
    dtype = torch.promote_types(flow.dtype, torch.float32)
    flow = flow.to(dtype)
    x = _positions(width, flow).unsqueeze(0) + flow[:, 0] / width  # (N, H, W)
    y = _positions(height, flow).unsqueeze(1) + flow[:, 1] / height
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(features.to(dtype), grid, align_corners=True).to(features.dtype)


def _positions(length: int, like: Tensor) -> Tensor:
    """Returns (length,): from -1 to 1 in equal steps, as torch.linspace, which exporters tie to one length."""
    steps = torch.arange(length, dtype=like.dtype, device=like.device)
    return steps * 2 / max(length - 1, 1) - 1


class PyramidPoolingModule(nn.Module):
    """PSPNet's pyramid, reduced to the decoder's width; its branches have no ReLU, as in the authors' code."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(in_channels, width, act=None, align_corners=True)
        self.reduce = ConvNormAct(in_channels + len(self.pyramid) * width, width, 1).append(nn.Dropout2d(0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, width, h, w)."""
        return self.reduce(torch.cat([*self.pyramid(features), features], dim=1))


def lateral(in_channels: int, width: int) -> nn.Sequential:
    """Returns a 1x1 convolution to the decoder's width, with a bias before its batch norm as in the authors' code."""
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class FlowAlignment(nn.Module):
    """Coarse features aligned with fine ones by a flow that is predicted from both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce_high = nn.Conv2d(width, width // 2, 1, bias=False)
        self.reduce_low = nn.Conv2d(width, width // 2, 1, bias=False)
        self.flow = nn.Conv2d(width, 2, 3, padding=1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, C, H, W) and (N, C, h, w) to (N, C, H, W): `high`, aligned."""
        reduced = resize(self.reduce_high(high), low, align_corners=True)
        return warp(high, self.flow(torch.cat([reduced, self.reduce_low(low)], dim=1)))


class Supervision(nn.Sequential):
    """Class logits for deep supervision: (N, C, h, w) to (N, K, h, w)."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, num_classes, 1),
        )


class SFNet(SegmentationNetwork):
    """A feature pyramid whose levels are aligned by semantic flow.

    Args:
        backbone: returns features from fine to coarse; the last four are used.
        num_classes: channels of the logits.
        aux_loss: whether to add auxiliary heads on the three aligned levels, from fine to coarse `"aux"`, `"aux_8x"`
            and `"aux_16x"`.
        width: channels of the decoder; None is as in the authors' code.
        pyramid: builds the module from the coarsest features to the decoder, given the channels of both.
        lateral: builds the same for each of the finer features.
        align_output: whether the last resize aligns corners; all others do.
    """

    AUX = ("aux", "aux_8x", "aux_16x")

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        aux_loss: bool = False,
        *,
        width: int | None = None,
        pyramid: Callable[[int, int], nn.Module] = PyramidPoolingModule,
        lateral: Callable[[int, int], nn.Module] = lateral,
        align_output: bool = True,
    ) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        *finer, top = levels
        self.levels = select_features(backbone, *levels)
        width = width or width_for(top)
        self.backbone = backbone
        self.pyramid = pyramid(top.channels, width)
        self.laterals = nn.ModuleList(lateral(info.channels, width) for info in finer)
        self.alignments = nn.ModuleList(FlowAlignment(width) for _ in finer)
        self.fpn_convs = nn.ModuleList(ConvNormAct(width, width, 3) for _ in finer)
        self.classifier = ConvNormAct(LEVELS * width, width, 3).append(nn.Conv2d(width, num_classes, 1))
        self.aux_classifiers = (
            nn.ModuleDict({name: Supervision(width, num_classes) for name in self.AUX}) if aux_loss else None
        )
        self.upsampling = dict.fromkeys(["out", *self.AUX] if aux_loss else ["out"], ("bilinear", align_output))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at stride 4 and, with auxiliary heads, `"aux"`, `"aux_8x"`, `"aux_16x"` at 4, 8 and 16."""
        features = self.backbone(images)
        joined, aligned = self._join_levels(*(features[level] for level in self.levels))
        outputs = {"out": self.classifier(joined)}
        if self.aux_classifiers is not None:
            for name, level in zip(self.AUX, aligned, strict=True):
                outputs[name] = self.aux_classifiers[name](level)
        return outputs

    def _join_levels(self, *features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns all levels concatenated at the finest features' size, and the aligned ones, from fine to coarse.

        A separate function, so that no level stays in memory while the classifier runs.
        """
        *finer, top = features
        high = self.pyramid(top)
        aligned: list[Tensor] = []
        levels = [high]
        for index in reversed(range(len(finer))):
            low = self.laterals[index](finer[index])
            high = low + self.alignments[index](low, high)
            aligned.insert(0, high)
            levels.insert(0, self.fpn_convs[index](high))
        levels[1:] = [resize(level, levels[0], align_corners=True) for level in levels[1:]]
        return torch.cat(levels, dim=1), aligned


def _build(recipe: BackboneRecipe, options: SFNetOptions, num_classes: int, aux_loss: bool) -> SFNet:
    """Joins backbone and decoder."""
    return SFNet(recipe.build(output_stride=options.output_stride), num_classes, aux_loss)


@builder(VARIANTS)
def sfnet(backbone: str, **arguments: Any) -> SFNet:
    """Builds SFNet on the named backbone."""
    return build_network("sfnet", _build, arguments, VARIANTS, backbone=backbone)


sfnet_resnet18 = on_backbone(sfnet, "resnet18")
sfnet_resnet50 = on_backbone(sfnet, "resnet50")
sfnet_resnet101 = on_backbone(sfnet, "resnet101")
