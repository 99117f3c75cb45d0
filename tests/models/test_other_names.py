"""Options by the names of torchvision, segmentation_models_pytorch and timm are told with our names."""

import re
from fnmatch import fnmatchcase

import pytest
import torch

import seg_models
from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError
from seg_models.builders.signatures import builder
from seg_models.catalog import BACKBONES, MODELS
from seg_models.other_names import WITHOUT_IMAGENET, advise_name


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pretrained": True}, "'pretrained'; use weights='DEFAULT'"),
        ({"pretrained": False}, "'pretrained'; remove it: without weights= all tensors are randomly initialized"),
        ({"pretrained": "imagenet"}, "'pretrained'; use weights_backbone='DEFAULT'"),
        ({"checkpoint_path": "my.pth"}, "'checkpoint_path'; use weights='my.pth'"),
        ({"encoder_weights": "imagenet"}, "'encoder_weights'; use weights_backbone='DEFAULT'"),
        ({"encoder_weights": None}, "'encoder_weights'; remove it: without weights_backbone="),
        ({"pretrained_backbone": True}, "'pretrained_backbone'; use weights_backbone='DEFAULT'"),
        ({"backbone_weights": "IMAGENET1K_V2"}, "use weights_backbone='IMAGENET1K_V2'"),
        ({"classes": 3}, "'classes'; use num_classes=3"),
        ({"n_classes": ["sky", "ground"]}, "use num_classes=2"),
        ({"num_class": "three"}, "use num_classes=, an integer"),
        ({"in_chans": 4}, "use in_channels=4"),
        ({"aux_params": {"classes": 2}}, "use aux_loss=True"),
        ({"aux": False}, "'aux'; remove it"),
        ({"activation": "softmax"}, "'activation'; remove it: networks return logits, whose .softmax(1)"),
        (
            {"encoder_name": "resnet18"},
            "remove it: the backbone is resnet50; create('FCN', backbone=...) builds others",
        ),
        (
            {"pretrained": True, "pretrained_backbone": True, "classes": 3},
            "s: 'pretrained' (use weights='DEFAULT'), 'pretrained_backbone' (remove it: weights hold the backbone), "
            "'classes' (use num_classes=3)",
        ),
    ],
)
def test_names_of_other_libraries_are_told_with_ours(options, words):
    with pytest.raises(TypeError, match=r"fcn_resnet50\(\): unknown argument.*?" + re.escape(words)):
        seg_models.fcn_resnet50(**options)
    for build in (seg_models.create, seg_models.get_model):
        with pytest.raises(InvalidArgumentError, match="^unknown argument.*?" + re.escape(words)):
            build("fcn_resnet50", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"encoder_name": "efficientnet-b0", "encoder_weights": "imagenet", "in_channels": 4, "classes": 2},
            "'encoder_name' (use backbone='efficientnet_b0'), 'encoder_weights' (use weights_backbone='DEFAULT'), "
            "'classes' (use num_classes=2)",
        ),
        ({"encoder_name": "tu-convnext_tiny"}, "use backbone='timm:convnext_tiny'"),
        (
            {"encoder_name": "resnet35"},
            "use backbone=, one of list_backbones(), or 'timm:' and a timm name. Did you mean",
        ),
        ({"encoder_name": "mit_b0", "encoder_weights": "imagenet"}, "there are no ImageNet weights for mit_b0"),
        ({"backbone": "resnet34", "classes": 2}, "'classes'; use num_classes=2"),
    ],
)
def test_create_of_a_network_on_an_encoder_is_told_the_backbone(options, words):
    for name in ("unet", "U-Net"):
        with pytest.raises(InvalidArgumentError, match=re.escape(words)):
            seg_models.create(name, **options)


def advised(message):
    """The options that a message says to use, as they are typed."""
    return dict(re.findall(r"use (\w+)='(\w+)'", message))


@pytest.mark.parametrize("name", seg_models.list_models())
def test_advice_about_weights_works_for_every_model(name):
    for option, value in (("pretrained", True), ("encoder_weights", "imagenet")):
        with pytest.raises(InvalidArgumentError) as error:
            seg_models.get_model(name, **{option: value})
        options = advised(str(error.value))
        assert options or "remove it" in str(error.value)
        if options == {"weights_backbone": "DEFAULT"}:
            backbone = MODELS[name].backbone
            assert backbone is not None and not any(fnmatchcase(backbone, p) for p in WITHOUT_IMAGENET)
        elif options:
            assert options == {"weights": "DEFAULT"}
            with torch.device("meta"), pytest.raises(WriteError, match="SEG_OFFLINE forbids requests"):
                seg_models.get_model(name, **options)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_get_backbone_is_told_weights_where_there_are_some(name):
    with pytest.raises(InvalidArgumentError) as error:
        seg_models.get_backbone(name, pretrained=True)
    if any(fnmatchcase(name, pattern) for pattern in WITHOUT_IMAGENET):
        assert "remove it: there are no ImageNet weights" in str(error.value)
        with torch.device("meta"), pytest.raises(UnknownNameError, match="publishes none"):
            seg_models.get_backbone(name, weights="DEFAULT")
    else:
        assert advised(str(error.value)) == {"weights": "DEFAULT"}


def test_get_backbone_of_timm_is_told_too():
    with pytest.raises(InvalidArgumentError, match="'in_chans'; use in_channels=4"):
        seg_models.get_backbone("timm:resnet18", in_chans=4)


def test_networks_without_a_backbone_or_auxiliary_heads_are_told_to_remove_it():
    for options, words in (
        ({"encoder_weights": "imagenet"}, "this network has no backbone of its own"),
        ({"backbone_name": "resnet18"}, "this network has no backbone to choose"),
        ({"aux": True}, "this network has no auxiliary heads"),
    ):
        with pytest.raises(TypeError, match=f"enet\\(\\): unknown argument '.*'; remove it: {words}"):
            seg_models.enet(**options)


def test_builder_of_ones_own_keeps_options_of_these_names():
    @builder()
    def own(**arguments):
        return arguments

    with pytest.raises(TypeError, match="'pretrained'; use weights"):
        own(pretrained=True)

    from seg_core import registry

    registry.MODELS.register("with_pretrained", lambda pretrained, classes=2: (pretrained, classes))
    registry.MODELS.register("with_anything", lambda **options: options)
    assert seg_models.get_model("with_pretrained", pretrained=True) == (True, 2)
    assert seg_models.get_model("with_anything", encoder_name="x") == {"encoder_name": "x"}
    with pytest.raises(InvalidArgumentError, match="has no parameter 'encoder_weights'"):
        seg_models.get_model("with_pretrained", encoder_weights="imagenet")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seg_models.fcn_resnet50(True), r"fcn_resnet50\(\) takes no positional .* use weights='DEFAULT'"),
        (lambda: seg_models.get_model("fcn_resnet18", 5), "instead of 5 use num_classes=5"),
        (lambda: seg_models.get_model("fcn_resnet18", "resnet50"), "the backbone is resnet18; create"),
        (lambda: seg_models.create("unet", "resnet50"), "use backbone='resnet50'"),
        (lambda: seg_models.create("unet", "resnet50", "imagenet"), "use weights_backbone='DEFAULT'"),
        (lambda: seg_models.get_backbone("resnet50", True), "use weights='DEFAULT'"),
        (lambda: seg_models.list_models(include="fcn*"), r"include= \(use pattern='fcn\*'\)"),
        (lambda: seg_models.list_models(module=re), "does not take module="),
        (lambda: seg_models.list_backbones(filter="r*"), r"use pattern='r\*'"),
    ],
)
def test_arguments_by_position_or_of_other_libraries_are_told(call, words):
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("tu-convnext_tiny", "timm:convnext_tiny"),
        ("timm/resnet18.a1_in1k", "timm:resnet18"),
        ("timm-efficientnet-b0", "efficientnet_b0"),
        ("timm-regnetx_002", "timm:regnetx_002"),
    ],
)
def test_backbones_by_other_names_are_told(name, here):
    with pytest.raises(UnknownNameError, match=f"unknown backbone '{name}'; use '{here}'"):
        seg_models.create("unet", backbone=name)


def test_options_of_decoders_are_told():
    with pytest.raises(InvalidArgumentError, match="'encoder_depth' .*remove it.*'decoder_channels' .*remove it"):
        seg_models.create("unet", backbone="resnet18", encoder_depth=4, decoder_channels=(64, 32))


def test_classes_of_networks_are_told_the_builder_and_hasattr_is_false():
    with pytest.raises(AttributeError, match=re.escape("use create('unet', backbone='resnet50')")):
        seg_models.Unet  # noqa: B018 - the access is what is tested
    with pytest.raises(ImportError, match=re.escape("use create('deeplabv3plus', backbone='resnet50')")):
        from seg_models import DeepLabV3Plus  # noqa: F401
    with pytest.raises(ImportError, match="use pidnet_l or pidnet_m or pidnet_s"):
        from seg_models import PIDNet  # noqa: F401
    assert not hasattr(seg_models, "Unet")


@pytest.mark.parametrize("family", sorted(name for name, entry in MODELS.items() if entry.any_backbone))
def test_advice_for_a_class_of_networks_works(family):
    assert f"create({family!r}, backbone='resnet50')" in advise_name(family)
    with torch.device("meta"):
        seg_models.create(family, backbone="resnet50")


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0", "vgg16", "mobilenet_v3_small"])
def test_offline_backbones_make_no_request(backbone):
    with torch.device("meta"), pytest.raises(WriteError, match="SEG_OFFLINE forbids requests. The file belongs at"):
        seg_models.get_backbone(backbone, weights="DEFAULT")


def test_members_of_torchvisions_enums_are_ours_with_the_same_file():
    from torchvision.models.segmentation import FCN_ResNet50_Weights, FCN_ResNet101_Weights

    own = seg_models.get_model_weights("fcn_resnet50")
    assert own.verify(FCN_ResNet50_Weights.DEFAULT) is own.COCO_WITH_VOC_LABELS_V1
    with pytest.raises(TypeError, match="none of the files published for this model; pass the name of a member: 'COCO"):
        own.verify(FCN_ResNet101_Weights.DEFAULT)
    with pytest.raises(TypeError, match="got True; pass one of: 'COCO"):
        own.verify(True)


def test_weights_of_another_number_of_classes_are_told(tmp_path, caplog):
    torch.save(seg_models.get_model("enet", num_classes=4).state_dict(), tmp_path / "four.pth")
    seg_models.get_model("enet", weights=str(tmp_path / "four.pth"), num_classes=3)
    assert "four.pth has 4 classes, the network has 3; these tensors depend on the classes" in caplog.text
    assert "lacks these tensors" not in caplog.text
