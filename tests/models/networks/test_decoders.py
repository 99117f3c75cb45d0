"""Decoders of U-Net, FPN and FCN compared with the same steps written out, RegSeg's dilations with its paper's."""

import copy

import pytest
import torch
from torch.nn import functional as F

import seg_models


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(1, 3, 64, 96)


def randomized(model):
    """Statistics of norms that are not those of a fresh one, so that each of them shows."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval()


def test_unet_doubles_by_nearest_neighbor_and_joins_the_skip_behind(images):
    model = randomized(seg_models.unet_resnet34(num_classes=3))
    with torch.inference_mode():
        *finer, x = model.backbone(images).values()
        for block in model.blocks:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, finer.pop()], 1) if finer else x)
        assert torch.equal(model(images)["out"], model.classifier(x))


@pytest.mark.parametrize("align_corners", [False, True])
def test_fpn_sums_levels_doubled_step_by_step(images, align_corners):
    model = randomized(seg_models.fpn_resnet34(num_classes=3, align_corners=align_corners))
    with torch.inference_mode():
        levels = list(model.backbone(images).values())
        merged, summed = None, 0
        for doublings, lateral, branch in zip((3, 2, 1, 0), model.laterals, model.branches, strict=True):
            level = lateral(levels.pop())
            merged = level if merged is None else level + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            x = merged
            for convolution in branch:
                x = convolution(x)
                if doublings:
                    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=align_corners)
            summed = summed + x
        logits = model.classifier(summed)
        expected = F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=align_corners)
        assert torch.allclose(model(images)["out"], expected, atol=1e-5)


def test_fpn_aligns_corners_on_request_alone(images):
    torch.manual_seed(0)
    model = seg_models.fpn_resnet34(num_classes=3).eval()
    other = seg_models.fpn_resnet34(num_classes=3, align_corners=True).eval()
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert (model(images)["out"] - other(images)["out"]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 40)])
def test_unet_on_features_from_stride_4_on_reaches_the_images_size(size):
    model = seg_models.create("unet", backbone="mit_b0", num_classes=3).eval()
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[-2:])))
    with torch.inference_mode():
        assert model(torch.randn(1, 3, *size))["out"].shape == (1, 3, *size)
    assert shapes[-2:] == [tuple(-(-side // stride) for side in size) for stride in (2, 1)]


# fcn_vgg16, the one builder whose default has skips, is too large for the contract's default run: this is its stand-in
@pytest.fixture(scope="module")
def fcn_8s():
    torch.manual_seed(0)
    return randomized(seg_models.fcn_resnet18(num_classes=3, aux_loss=True, output_stride=32, skips=2))


class TestSkipsOfFCN:
    def test_logits_of_finer_features_are_added_step_by_step(self, fcn_8s, images):
        with torch.inference_mode():
            layer2, layer3, layer4 = fcn_8s.backbone(images).values()
            logits = fcn_8s.classifier(layer4)
            for features, skip in zip((layer3, layer2), fcn_8s.skip_classifiers, strict=True):
                logits = skip(features) + F.interpolate(logits, scale_factor=2.0, mode="bilinear")
            outputs = fcn_8s.forward_logits(images)
            assert torch.allclose(outputs["out"], logits, atol=1e-5)
            assert torch.equal(outputs["aux"], fcn_8s.aux_classifier(layer3))

    @pytest.mark.parametrize("size", [(64, 96), (97, 65), (1, 1)])
    def test_any_size(self, fcn_8s, size):
        with torch.inference_mode():
            outputs = fcn_8s(torch.randn(2, 3, *size))
        assert {name: output.shape for name, output in outputs.items()} == dict.fromkeys(["out", "aux"], (2, 3, *size))

    def test_every_parameter_gets_a_gradient(self, fcn_8s):
        trained = copy.deepcopy(fcn_8s).train()
        sum(output.square().mean() for output in trained(torch.randn(2, 3, 64, 72)).values()).backward()
        assert all(p.grad is not None and p.grad.any() for p in trained.parameters())

    def test_export_any_size(self, fcn_8s):
        height, width = (torch.export.Dim(side, min=65, max=4096) for side in ("height", "width"))
        with torch.no_grad():
            program = torch.export.export(
                fcn_8s, (torch.randn(1, 3, 72, 96),), dynamic_shapes={"images": {2: height, 3: width}}
            ).module()
            for size in ((66, 96), (97, 65)):
                images = torch.randn(1, 3, *size)
                assert torch.allclose(program(images)["out"], fcn_8s(images)["out"], atol=1e-4)


def test_regseg_has_the_dilations_of_the_paper():
    model = seg_models.regseg()
    dilations = [
        sorted(m.dilation[0] for m in block.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3))
        for block in model.stage16
    ]
    assert dilations == [[1], [1], [1, 2], *[[1, 4]] * 4, *[[1, 14]] * 7]
    groups = {m.in_channels // m.groups for m in model.stage16.modules() if getattr(m, "kernel_size", 0) == (3, 3)}
    assert groups == {16}
