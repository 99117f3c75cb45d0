import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18, resnet50

from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError
from seg_core.registry import BACKBONES


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_are_those_of_feature_info_from_fine_to_coarse(name, output_stride):
    with torch.device("meta"):
        backbone = BACKBONES.get(name)(output_stride=output_stride)
        features = backbone(torch.zeros(1, 3, 64, 96))
    assert [info.name for info in backbone.feature_info] == list(features)
    for info, feature in zip(backbone.feature_info, features.values(), strict=True):
        assert feature.shape == (1, info.channels, 64 // info.stride, 96 // info.stride)
    assert [info.stride for info in backbone.feature_info] == [min(s, output_stride) for s in (4, 8, 16, 32)]


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


def test_output_stride_unknown_is_refused():
    with pytest.raises(InvalidArgumentError, match="output_stride must be 8, 16 or 32, got 4"):
        BACKBONES.get("resnet18")(output_stride=4)


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
    backbone = BACKBONES.get("resnet18")(weights=weights, progress=False)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_weights_with_other_channels_start_the_first_convolution_anew_and_say_so(monkeypatch, caplog):
    state = resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **options: state)
    backbone = BACKBONES.get("resnet18")(weights="DEFAULT", in_channels=4)
    assert backbone.conv1.weight.shape == (64, 4, 7, 7)
    assert torch.equal(backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert "in_channels=4; initialised anew: conv1.weight" in caplog.text


def test_weights_that_cannot_be_fetched_are_one_clear_error(monkeypatch):
    def fail(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(WriteError, match="cannot fetch https://.*no route to host; check the network"):
        BACKBONES.get("resnet18")(weights="DEFAULT")
