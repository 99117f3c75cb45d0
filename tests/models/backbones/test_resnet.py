import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18, resnet50

from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError
from seg_core.registry import BACKBONES


def test_output_stride_32_equals_torchvision():
    trunk = resnet18().eval()
    backbone = BACKBONES.get("resnet18")().eval()
    backbone.load_state_dict({k: v for k, v in trunk.state_dict().items() if not k.startswith("fc.")})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = backbone(images)["layer4"].mean((2, 3))
        torch.testing.assert_close(trunk.fc(pooled), trunk(images))


def test_output_stride_8_of_bottlenecks_is_torchvisions_dilation():
    trunk = resnet50(replace_stride_with_dilation=[False, True, True])
    backbone = BACKBONES.get("resnet50")(output_stride=8)
    for stage in ("layer3", "layer4"):
        for theirs, ours in zip(getattr(trunk, stage), getattr(backbone, stage), strict=True):
            assert (ours.conv2.stride, ours.conv2.dilation, ours.conv2.padding) == (
                theirs.conv2.stride,
                theirs.conv2.dilation,
                theirs.conv2.padding,
            )


def test_basic_blocks_dilate_their_first_convolution_only():
    backbone = BACKBONES.get("resnet18")(output_stride=8)
    assert [block.conv1.dilation[0] for stage in (backbone.layer3, backbone.layer4) for block in stage] == [1, 2, 2, 4]
    assert {block.conv2.dilation[0] for stage in (backbone.layer3, backbone.layer4) for block in stage} == {1}


def test_weights_unknown_name_suggests_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"unknown weights_backbone 'IMAGENET1K_V2'.*'IMAGENET1K_V1'.*ResNet18_Weights"
    ):
        BACKBONES.get("resnet18")(weights="IMAGENET1K_V2")
    with pytest.raises(UnknownNameError, match="ResNet18_Weights"):
        BACKBONES.get("resnet18")(weights=3)


@pytest.mark.parametrize("weights", ["DEFAULT", "ResNet18_Weights.IMAGENET1K_V1", ResNet18_Weights.IMAGENET1K_V1])
def test_weights_named_are_loaded(weights, monkeypatch):
    state = resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **options: state)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    backbone = BACKBONES.get("resnet18")(weights=weights, progress=False)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_deep_stem_has_three_convolutions_and_no_published_weights():
    with torch.device("meta"):
        backbone = BACKBONES.get("resnet18")(stem="deep", in_channels=4)
        assert backbone(torch.zeros(1, 4, 65, 97))["layer1"].shape == (1, 64, 17, 25)
    stem = [m for m in backbone.conv1 if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in stem] == [
        (4, 32, (3, 3), (2, 2)),
        (32, 32, (3, 3), (1, 1)),
        (32, 64, (3, 3), (1, 1)),
    ]
    with pytest.raises(InvalidArgumentError, match="weights_backbone='DEFAULT' are torchvision's, which only"):
        BACKBONES.get("resnet18")(stem="deep", weights="DEFAULT")
    with pytest.raises(InvalidArgumentError, match="stem must be 'plain' or 'deep', got 'wide'"):
        BACKBONES.get("resnet18")(stem="wide")


def test_multi_grid_multiplies_the_dilation_of_the_last_stage():
    for name, block in (("resnet50", "conv2"), ("resnet18", "conv1")):
        for output_stride, dilation in ((8, 4), (16, 2), (32, 1)):
            with torch.device("meta"):
                backbone = BACKBONES.get(name)(output_stride=output_stride, multi_grid=(1, 2, 4))
            found = [getattr(b, block).dilation[0] for b in backbone.layer4]
            assert found == [dilation, 2 * dilation, 4 * dilation][: len(backbone.layer4)]
    with pytest.raises(
        InvalidArgumentError, match=r"multi_grid must be at least 3 integers >= 1 .*resnet50, got \(1, 2\)"
    ):
        BACKBONES.get("resnet50")(multi_grid=(1, 2))


def test_weights_that_cannot_be_fetched_are_one_clear_error(monkeypatch):
    def fail(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", fail)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    with pytest.raises(WriteError, match="cannot fetch https://.*no route to host; check the network"):
        BACKBONES.get("resnet18")(weights="DEFAULT")


def test_published_weights_are_downloaded_with_the_limits_of_all_downloads(monkeypatch):
    asked = []

    def fetch(url, digest, progress, argument):
        asked.append((url, digest, argument))
        raise WriteError("cannot fetch it: download it by hand to that path")

    monkeypatch.setattr("seg_models.backbones.base.fetch", fetch)
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **options: pytest.fail("not reached"))
    monkeypatch.delenv("SEG_OFFLINE", raising=False)
    with pytest.raises(WriteError, match="by hand to that path, or remove weights_backbone='DEFAULT'"):
        BACKBONES.get("resnet18")(weights="DEFAULT")
    assert asked == [(ResNet18_Weights.DEFAULT.url, "f37072fd", "")]
