"""Backbones of timm: images of any size, and what is measured when one is built."""

import pytest
import torch
from torch.nn import functional as F

import seg_models
from seg_core.errors import InvalidArgumentError, WriteError
from seg_models import get_backbone

timm = pytest.importorskip("timm")

# family -> multiple and minimum of the sides of its images, and its first and last stride
FAMILIES = {
    "mobilenetv3_small_050": (1, 1, 2, 32),
    "efficientnet_b0": (1, 1, 2, 32),
    "convnext_atto": (1, 32, 4, 32),
    "hrnet_w18_small": (32, 32, 2, 32),
    "dla34": (32, 32, 2, 32),
    "mobilevitv2_050": (1, 1, 2, 32),
    "swin_tiny_patch4_window7_224": (32, 32, 4, 32),
    "test_vit": (16, 16, 16, 16),
    "convmixer_768_32": (1, 1, 7, 7),
    "shvit_s1": (1, 1, 16, 64),
    "pvt_v2_b0": (1, 1, 4, 32),
    "legacy_xception": (1, 1, 2, 32),
}
MORE = {
    "resnet10t": (1, 1, 2, 32),
    "regnetx_002": (1, 1, 2, 32),
    "res2net50_14w_8s": (1, 1, 2, 32),
    "edgenext_xx_small": (1, 32, 4, 32),
    "fastvit_t8": (1, 1, 4, 32),
    "repvit_m0_9": (1, 1, 4, 32),
    "hgnetv2_b0": (1, 1, 4, 32),
    "vit_tiny_patch16_224": (16, 16, 16, 16),
    "swinv2_cr_tiny_ns_224": (1, 1, 4, 32),
    "swinv2_tiny_window8_256": (32, 32, 4, 32),
    "csatv2": (64, 64, 8, 64),
    "maxvit_tiny_tf_224": (224, 224, 2, 32),
    "inception_v4": (1, 96, 2, 32),
    "nasnetalarge": (1, 1, 2, 32),
    "vitamin_xlarge_384": (16, 16, 16, 16),
}
ONE_SIZE = ["beit_base_patch16_224"]
every_family = pytest.mark.parametrize(
    ("name", "facts"),
    [*FAMILIES.items(), *(pytest.param(*more, marks=pytest.mark.full) for more in MORE.items())],
)


def rounded_up(size, stride):
    return tuple(-(-side // stride) for side in size)


@every_family
def test_features_of_any_size_are_those_of_feature_info(name, facts):
    with torch.device("meta"):
        backbone = get_backbone(f"timm:{name}").eval()
        measured = backbone.measured
        info = backbone.feature_info
        assert (measured.multiple, measured.minimum, info[0].stride, info[-1].stride) == facts
        for size in ((97, 130), (33, 47), (1, 7), (64, 96)):
            if measured.multiple == 1 and measured.minimum == 1 and min(size) < 32:
                continue  # such networks may need a few pixels, which theirs say
            features = backbone(torch.zeros(1, 3, *size))
            for fact, feature in zip(info, features.values(), strict=True):
                assert feature.shape[:2] == (1, fact.channels)
                for found, side in zip(feature.shape[2:], size, strict=True):
                    assert found in (side // fact.stride, -(-side // fact.stride))


@pytest.mark.parametrize("name", ONE_SIZE)
def test_network_for_one_size_is_refused_when_it_is_built(name):
    with pytest.raises(
        InvalidArgumentError,
        match=f"timm's '{name}' cannot be a backbone, because it does not take images of any size: .*; choose another, "
        "such as 'timm:convnext_tiny'",
    ):
        get_backbone(f"timm:{name}")


def test_features_are_timms_own_where_nothing_is_padded():
    torch.manual_seed(0)
    backbone = get_backbone("timm:swin_tiny_patch4_window7_224").eval()
    theirs = timm.create_model("swin_tiny_patch4_window7_224", features_only=True).eval()
    theirs.load_state_dict(backbone.model.state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        for found, expected in zip(backbone(images).values(), theirs(images), strict=True):
            torch.testing.assert_close(found, expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_features_of_padded_images_are_cropped():
    torch.manual_seed(0)
    backbone = get_backbone("timm:dla34").eval()
    images = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        padded = backbone.model(F.pad(images, (0, 31, 0, 31)))
        for info, found, whole in zip(backbone.feature_info, backbone(images).values(), padded, strict=True):
            height, width = rounded_up((97, 65), info.stride)
            assert torch.equal(found, whole[..., :height, :width])


@pytest.mark.parametrize(
    ("network", "backbone"),
    [
        ("unet", "hrnet_w18_small"),
        ("unet", "convnext_atto"),
        ("unet", "convmixer_768_32"),
        ("unet", "shvit_s1"),
        ("fpn", "dla34"),
        ("pspnet", "test_vit"),
        ("upernet", "swin_tiny_patch4_window7_224"),
        ("segformer", "mobilevitv2_050"),
        ("deeplabv3plus", "legacy_xception"),
    ],
)
def test_networks_give_logits_of_any_size(network, backbone):
    options = {"output_stride": 32} if network in ("pspnet", "deeplabv3plus") else {}
    with torch.device("meta"):
        model = seg_models.create(network, backbone=f"timm:{backbone}", num_classes=2, **options)
        for size, training in (((97, 130), True), ((33, 47), False)):
            assert model.train(training)(torch.zeros(2, 3, *size))["out"].shape == (2, 2, *size)


def test_unet_on_padded_features_trains_and_exports():
    torch.manual_seed(0)
    model = seg_models.create("unet", backbone="timm:dla34", num_classes=2)
    model(torch.randn(1, 3, 97, 65))["out"].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    model.eval()
    height, width = (torch.export.Dim(side, min=65, max=4096) for side in ("height", "width"))
    # padded to a multiple of 32, of which torch.export can reason
    height, width = (32 * torch.export.Dim(side, min=3, max=128) for side in ("height", "width"))
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(1, 3, 96, 128),), dynamic_shapes={"images": {2: height, 3: width}}
        )
        torch.testing.assert_close(program.module()(images)["out"], model(images)["out"], rtol=1e-3, atol=1e-4)


def test_random_numbers_are_drawn_for_the_network_alone():
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", features_only=True, dynamic_img_size=True)
    torch.manual_seed(0)
    ours = get_backbone("timm:test_vit")
    assert torch.equal(next(ours.parameters()), next(theirs.parameters()))


def test_tag_in_the_name_is_the_default_of_the_weights(monkeypatch):
    built = []
    create = timm.create_model

    def without_download(name, pretrained=False, **options):
        built.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    for weights, tag in (("DEFAULT", "a2_in1k"), ("a1_in1k", "a1_in1k")):
        get_backbone("timm:resnet18.a2_in1k", weights=weights)
        assert built[-1] == (f"resnet18.{tag}", True)


def test_network_that_needs_another_stride_names_backbones_that_have_it():
    with pytest.raises(InvalidArgumentError, match=r"'test_vit' has no option output_stride, .* a network .* 'unet'"):
        seg_models.create("deeplabv3plus", num_classes=2, backbone="timm:test_vit")
    with pytest.raises(InvalidArgumentError, match=r"stride 4, .* 16, 16, 16; choose .* 'timm:convnext_tiny'"):
        seg_models.create("deeplabv3plus", num_classes=2, backbone="timm:test_vit", output_stride=32)


def test_offline_weights_come_from_the_cache_of_the_hub_or_are_refused(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("SEG_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *names: None)
    with pytest.raises(WriteError, match="SEG_OFFLINE forbids requests, and the file is not in the cache"):
        get_backbone("timm:resnet18", weights="DEFAULT")
    published = timm.create_model("resnet18").state_dict()
    torch.save(published, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *names: str(tmp_path / "pytorch_model.bin"))
    backbone = get_backbone("timm:resnet18", weights="DEFAULT")
    assert torch.equal(backbone.model.conv1.weight, published["conv1.weight"])
