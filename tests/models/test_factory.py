import pytest
import torch

import seg_models
from seg_core import registry
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.weights import WeightsEnum
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.catalog import BACKBONES, MODELS


def test_list_models_names_the_catalog_and_takes_a_pattern():
    models = {name for name, entry in MODELS.items() if not entry.any_backbone}
    assert models <= set(seg_models.list_models())
    assert not {"fcn", "upernet"} & set(seg_models.list_models())
    assert seg_models.list_models("fcn_resnet[35]*") == ["fcn_resnet34", "fcn_resnet50"]
    assert seg_models.list_models("nothing*") == []


def test_get_model_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown model 'fcn_resnet5'.*Did you mean 'fcn_resnet50'"):
        seg_models.get_model("fcn_resnet5")


def test_get_model_unknown_option_suggests_the_nearest():
    with pytest.raises(
        InvalidArgumentError, match=r"model 'enet' has no parameter 'num_clases'.*Did you mean 'num_classes'"
    ):
        seg_models.get_model("enet", num_clases=3)
    with pytest.raises(InvalidArgumentError, match="'enet' has no parameter 'output_stride'"):
        seg_models.create("enet", output_stride=8)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "5"])
@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
def test_get_model_count_that_is_none_is_refused(option, value):
    words = f'{option} = "5": must be a number, without quotes' if value == "5" else f"{option} must be an integer >= 1"
    with pytest.raises(InvalidArgumentError, match=words):
        seg_models.get_model("enet", **{option: value})


def test_get_model_without_num_classes_has_vocs_21():
    assert seg_models.get_model("enet").build_spec.arguments["num_classes"] == 21


def test_create_finds_network_and_backbone_whatever_the_capitals():
    model = seg_models.create("FCN", backbone="resnet34", num_classes=2, output_stride=32)
    assert model.build_spec.builder == "fcn_resnet34"
    assert seg_models.create("enet", num_classes=2).build_spec.builder == "enet"
    with torch.device("meta"):
        for family in ("DeepLabV3+", "deeplabv3plus"):
            for backbone in ("xception", "xception65"):
                model = seg_models.create(family, backbone=backbone)
                assert model.build_spec.builder == "deeplabv3plus_xception"
        assert seg_models.create("sfnet-lite", backbone="resnet18").build_spec.builder == "sfnet_lite_resnet18"
        assert seg_models.create("PIDNet_S").build_spec.builder == "pidnet_s"
        assert seg_models.create("segformer", backbone="mit_b0").build_spec.builder == "segformer_b0"


ON_ANY = sorted(name for name, entry in MODELS.items() if entry.any_backbone)


@pytest.mark.parametrize("name", ON_ANY)
@pytest.mark.parametrize("backbone", ["efficientnet_b0", "vgg16_bn", "xception", "timm:resnet18"])
def test_create_takes_any_backbone(name, backbone):
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    with torch.device("meta"):
        model = seg_models.create(name, backbone=backbone, num_classes=5).eval()
        spec = model.build_spec
        images = torch.zeros(1, 3, 96, 128)
        assert model(images)["out"].shape == (1, 5, 96, 128)
        again = seg_models.get_model(spec.builder, variant=spec.variant, **spec.arguments)
    if spec.builder == name:
        assert spec.arguments["backbone"] == backbone
    assert list(again.state_dict()) == list(model.state_dict())


def test_create_on_a_backbone_of_timm_saves_and_loads(tmp_path):
    pytest.importorskip("timm")
    model = seg_models.create("upernet", backbone="timm:convnext_atto", num_classes=2, aux_loss=True).eval()
    assert model.build_spec.arguments["backbone"] == "timm:convnext_atto"
    metadata = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(model, tmp_path / "model.pt", metadata=metadata, preprocessing=Preprocessing())
    again = seg_models.load_model(tmp_path / "model.pt")
    images = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        outputs, expected = again(images), model(images)
    assert list(outputs) == ["out", "aux"]
    assert outputs["out"].shape == (1, 2, 65, 97)
    assert torch.equal(outputs["out"], expected["out"])


def test_get_model_of_a_network_without_its_backbone_asks_for_it():
    with pytest.raises(InvalidArgumentError, match=r"model 'upernet' needs backbone=, one of list_backbones\(\)"):
        seg_models.get_model("upernet")


def test_network_on_a_backbone_that_lacks_its_features_says_which():
    pytest.importorskip("timm")
    with torch.device("meta"):
        with pytest.raises(
            InvalidArgumentError,
            match="needs 4 features, but the backbone has 3; choose .*'timm:convnext_tiny'",
        ):
            seg_models.create("upernet", backbone="timm:vit_tiny_patch16_224")
        with pytest.raises(
            InvalidArgumentError, match="needs a feature of stride 4, but the backbone has strides 16, 16"
        ):
            seg_models.create("deeplabv3plus", backbone="timm:vit_tiny_patch16_224", output_stride=32)


def test_list_backbones_names_the_catalog_and_takes_a_pattern():
    assert seg_models.list_backbones("resnet*") == ["resnet101", "resnet18", "resnet34", "resnet50"]
    assert set(BACKBONES) <= set(seg_models.list_backbones())


def test_get_backbone_wrong_name_or_option_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'resnet51'.*Did you mean 'resnet50'"):
        seg_models.get_backbone("resnet51")
    with pytest.raises(InvalidArgumentError, match=r"backbone 'resnet18' has no parameter 'stemm'.*Did you"):
        seg_models.get_backbone("resnet18", stemm="deep")
    with pytest.raises(InvalidArgumentError, match=r"backbone 'resnet18' has no parameter 'depth'"):
        seg_models.pspnet_resnet18(backbone_options={"depth": 3})
    for option in ("output_stride", "weights"):
        with pytest.raises(
            InvalidArgumentError,
            match=f"backbone_options cannot hold '{option}', which the model sets itself",
        ):
            seg_models.pspnet_resnet18(backbone_options={option: None})


def test_backbone_options_reach_the_backbone_and_the_build_spec():
    with torch.device("meta"):
        model = seg_models.pspnet_resnet18(backbone_options={"stem": "deep"})
    assert model.build_spec.arguments["backbone_options"] == {"stem": "deep"}
    assert len(model.backbone.conv1) == 7


def test_model_of_ones_own_that_is_named_as_a_network_on_a_backbone_stays_apart():
    registry.MODELS.register("pspnet_efficientnet_b0", lambda: None)
    with torch.device("meta"):
        model = seg_models.get_model("pspnet", backbone="efficientnet_b0", aux_loss=True)
    assert model.build_spec.builder == "pspnet"
    assert model.build_spec.arguments["backbone"] == "efficientnet_b0"


@pytest.mark.parametrize(
    ("family", "backbone", "error", "words"),
    [
        ("bisnet", None, UnknownNameError, r"unknown network 'bisnet'.*Did you mean 'BiSeNet'"),
        ("fcn", None, InvalidArgumentError, r"network 'fcn' needs backbone=, .* it is known on resnet101, resnet18"),
        ("fcn", "resnet5", UnknownNameError, r"unknown backbone 'resnet5'.*Did you mean 'resnet50'"),
        ("enet", "resnet50", UnknownNameError, r"network 'enet' has no backbone to choose; remove backbone='resnet50'"),
        ("stdc", None, InvalidArgumentError, r"network 'stdc' has several sizes: stdc1, stdc2; name one"),
        ("stdc1", "resnet50", UnknownNameError, r"network 'stdc1' has no backbone to choose; remove backbone="),
    ],
)
def test_create_wrong_name_says_what_there_is(family, backbone, error, words):
    with pytest.raises(error, match=words):
        seg_models.create(family, backbone=backbone)


def test_get_model_weights_by_name_and_by_builder_is_one_enum():
    enum = seg_models.get_model_weights("fcn_resnet50")
    assert enum is seg_models.FCN_ResNet50_Weights
    assert seg_models.get_model_weights(seg_models.fcn_resnet50) is enum
    assert issubclass(enum, WeightsEnum)
    with pytest.raises(UnknownNameError, match="no published weights for model 'regseg'; there are for .*fcn_resnet50"):
        seg_models.get_model_weights("regseg")
    with pytest.raises(UnknownNameError, match="unknown model 'vnet'"):
        seg_models.get_model_weights("vnet")


def test_get_weight_finds_members_and_says_what_there_is():
    member = seg_models.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    assert seg_models.get_weight("FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1") is member
    assert seg_models.get_weight("FCN_ResNet50_Weights.DEFAULT") is member
    with pytest.raises(UnknownNameError, match=r"no enum 'FCN_ResNet5_Weights'.*Did you mean 'FCN_ResNet50_Weights'"):
        seg_models.get_weight("FCN_ResNet5_Weights.DEFAULT")
    with pytest.raises(UnknownNameError, match=r"has no member 'COCO'.*Members: COCO_WITH_VOC_LABELS_V1"):
        seg_models.get_weight("FCN_ResNet50_Weights.COCO")
    with pytest.raises(UnknownNameError, match=r"name no member; write for example 'FCN_ResNet50_Weights.DEFAULT'"):
        seg_models.get_weight("FCN_ResNet50_Weights")


def test_model_registered_by_hand_is_built_by_name():
    def tiny(*, num_classes=2):
        """A network outside the catalog."""
        return num_classes

    registry.MODELS.register("tiny_by_hand", tiny)
    assert seg_models.get_model("tiny_by_hand", num_classes=7) == 7
    with pytest.raises(UnknownNameError, match="no published weights for model 'tiny_by_hand'"):
        seg_models.get_model_weights("tiny_by_hand")
    assert "enet" in seg_models.list_models()
    assert seg_models.get_weight("FCN_ResNet50_Weights.DEFAULT")


@pytest.mark.parametrize(
    ("name", "options", "read"),
    [
        ("fcn_resnet18", {}, ["layer4"]),
        ("fcn_resnet18", {"aux_loss": True}, ["layer3", "layer4"]),
        ("fcn_vgg16", {}, ["stage3", "stage4", "stage5"]),
        ("deeplabv3_resnet18", {}, ["layer4"]),
        ("deeplabv3plus_resnet18", {}, ["layer1", "layer4"]),
        ("pspnet_resnet18", {"aux_loss": True}, ["layer3", "layer4"]),
        ("lraspp_resnet18", {}, ["layer2", "layer4"]),
        ("sfnet_lite_resnet18", {}, ["layer1", "layer3", "layer4"]),
    ],
)
def test_network_holds_only_the_features_that_it_reads(name, options, read):
    with torch.device("meta"):
        model = seg_models.get_model(name, **options)
    assert [info.name for info in model.backbone.feature_info] == read
