"""Every kind of network has a binary form: one logit, from its auxiliary heads too."""

import pytest
import torch

from seg_models import get_model

OF_BACKBONES = [
    *("fcn", "deeplabv3", "deeplabv3plus", "pspnet", "lraspp", "bisenet", "fpn", "unet", "upernet", "sfnet"),
    "sfnet_lite",
]
ALONE = ["bisenetv2", "ddrnet23_slim", "enet", "fast_scnn", "pidnet_s", "regseg", "segformer_b0", "stdc1", "fcn_vgg16"]


@pytest.mark.parametrize("name", [*OF_BACKBONES, *ALONE])
def test_one_class(name):
    options = {"backbone": "resnet18"} if name in OF_BACKBONES else {}
    with torch.device("meta"):
        model = get_model(name, num_classes=1, **options).train()
        outputs = model(torch.zeros(2, 3, 64, 64))
    assert outputs["out"].shape == (2, 1, 64, 64)
    assert all(logits.shape[1] == 1 for logits in outputs.values())
