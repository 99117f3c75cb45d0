"""BiSeNet as in pixseg, in two variants. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is that of version 0.8.2, whose release has the files bisenet_*-cityscapes-512x1024 and
bisenet_resnet18-sbd-500x500, and of the older bisenet_resnet18-cityscapes-512x1024-20250305:
- the weights of the fusion go through 64 channels, and their convolutions have a bias
- a head computes 8 x 8 or 16 x 16 logits for each position of its features, as channels that a pixel shuffle then
  spreads. At sizes that the stride does not divide these are more than the image has, and are resized.
- a head has as many channels as its features
- one auxiliary output, `"aux"`: the sum of the logits on the context at 1/8 and at 1/16, at the image's size
- ResNet-50 is dilated, so that all of its context is at 1/8

Variant "pixseg_20250304" is that of the file bisenet_resnet18-cityscapes-512x1024-20250304:
- the weights of the fusion have a bias
- the heads are torchvision's FCN head, a quarter as wide as the features
- one auxiliary output, `"aux"`: the logits on the context at 1/16, at the image's size

All else is as in the paper's variant; upsampling does not align corners.
"""

from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct, FCNHead, resize
from seg_models.networks.base import SegmentationNetwork
from seg_models.networks.bisenet import WIDTH, ContextPath, FeatureFusion, SpatialPath

__all__ = ["BiSeNet", "build", "build_20250304"]


class ShuffledHead(nn.Sequential):
    """Class logits, several for each position: (N, C, h, w) to (N, K, h * factor, w * factor)."""

    def __init__(self, channels: int, num_classes: int, factor: int) -> None:
        super().__init__(
            ConvNormAct(channels, channels, 3),
            nn.Conv2d(channels, num_classes * factor**2, 1),
            nn.PixelShuffle(factor),
        )


class BiSeNet(SegmentationNetwork):
    """The paper's paths with another fusion and other heads.

    Args:
        backbone: returns features from fine to coarse; the last two are used.
        fusion: joins the paths.
        classifier: maps the fused features to logits.
        aux_classifier: the same for the context at 1/8, or None.
        aux_classifier_16x: the same for the context before it, or None.
        in_channels: channels of the images.
    """

    def __init__(
        self,
        backbone: Backbone,
        fusion: FeatureFusion,
        classifier: nn.Module,
        aux_classifier: nn.Module | None,
        aux_classifier_16x: nn.Module | None,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.spatial_path = SpatialPath(in_channels)
        self.context_path = ContextPath(backbone)
        self.fusion = fusion
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.aux_classifier_16x = aux_classifier_16x
        self.upsampling = {"out": ("bilinear", False)}
        if aux_classifier is not None or aux_classifier_16x is not None:
            self.upsampling["aux"] = None

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with auxiliary heads, `"aux"`, which has the images' size."""
        spatial = self.spatial_path(images)
        context, middle = self.context_path(images, spatial)
        outputs = {"out": self.classifier(self.fusion(spatial, context))}
        heads = ((self.aux_classifier_16x, middle), (self.aux_classifier, context))
        auxiliary = [resize(head(features), images) for head, features in heads if head is not None]
        if auxiliary:
            outputs["aux"] = sum(auxiliary[1:], start=auxiliary[0])
        return outputs


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> BiSeNet:
    """Builds variant "pixseg"."""
    return BiSeNet(
        recipe.build(),
        FeatureFusion(hidden=WIDTH // 2, bias=True),
        ShuffledHead(2 * WIDTH, num_classes, 8),
        ShuffledHead(WIDTH, num_classes, 8) if aux_loss else None,
        ShuffledHead(WIDTH, num_classes, 16) if aux_loss else None,
        recipe.in_channels,
    )


def build_20250304(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> BiSeNet:
    """Builds variant "pixseg_20250304"."""
    return BiSeNet(
        recipe.build(),
        FeatureFusion(bias=True),
        FCNHead(2 * WIDTH, num_classes),
        None,
        FCNHead(WIDTH, num_classes) if aux_loss else None,
        recipe.in_channels,
    )
