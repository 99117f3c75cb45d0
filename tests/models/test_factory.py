import pytest

import seg_models
from seg_core import registry
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.weights import WeightsEnum
from seg_models.catalog import MODELS


def test_list_models_names_the_catalog_and_takes_a_pattern():
    assert set(MODELS) <= set(seg_models.list_models())
    assert seg_models.list_models("fcn_*") == ["fcn_resnet34", "fcn_resnet50"]
    assert seg_models.list_models("nothing*") == []


def test_get_model_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown model 'fcn_resnet5'.*Did you mean 'fcn_resnet50'"):
        seg_models.get_model("fcn_resnet5")


def test_get_model_unknown_option_suggests_the_nearest():
    with pytest.raises(
        InvalidArgumentError, match=r"model 'enet' has no option 'num_class'.*Did you mean 'num_classes'"
    ):
        seg_models.get_model("enet", num_class=3)
    with pytest.raises(InvalidArgumentError, match="'enet' has no option 'output_stride'"):
        seg_models.create("enet", output_stride=8)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "5"])
@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
def test_get_model_count_that_is_none_is_refused(option, value):
    with pytest.raises(InvalidArgumentError, match=f"{option} must be a whole number from 1 on, got"):
        seg_models.get_model("enet", **{option: value})


def test_get_model_without_num_classes_has_vocs_21():
    assert seg_models.get_model("enet").build_spec.arguments["num_classes"] == 21


def test_create_finds_network_and_backbone_whatever_the_capitals():
    model = seg_models.create("FCN", backbone="resnet34", num_classes=2, output_stride=32)
    assert model.build_spec.builder == "fcn_resnet34"
    assert seg_models.create("enet", num_classes=2).build_spec.builder == "enet"


@pytest.mark.parametrize(
    ("family", "backbone", "error", "words"),
    [
        ("fnc", None, UnknownNameError, r"unknown network 'fnc'.*Did you mean 'FCN'"),
        ("fcn", None, InvalidArgumentError, r"network 'fcn' needs backbone=, one of resnet34, resnet50"),
        ("fcn", "resnet5", UnknownNameError, r"no backbone 'resnet5'.*Did you mean 'resnet50'"),
        ("enet", "resnet50", UnknownNameError, r"network 'enet' has no backbone to choose, got backbone='resnet50'"),
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
    with pytest.raises(UnknownNameError, match="no published weights for model 'enet'; there are for fcn_resnet50"):
        seg_models.get_model_weights("enet")
    with pytest.raises(UnknownNameError, match="unknown model 'unet'"):
        seg_models.get_model_weights("unet")


def test_get_weight_finds_members_and_says_what_there_is():
    member = seg_models.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    assert seg_models.get_weight("FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1") is member
    assert seg_models.get_weight("FCN_ResNet50_Weights.DEFAULT") is member
    with pytest.raises(UnknownNameError, match=r"no enum 'FCN_ResNet5_Weights'.*Did you mean 'FCN_ResNet50_Weights'"):
        seg_models.get_weight("FCN_ResNet5_Weights.DEFAULT")
    with pytest.raises(UnknownNameError, match=r"has no member 'COCO'.*Members: COCO_WITH_VOC_LABELS_V1"):
        seg_models.get_weight("FCN_ResNet50_Weights.COCO")
    with pytest.raises(UnknownNameError, match=r"name no member; write 'FCN_ResNet50_Weights.DEFAULT'"):
        seg_models.get_weight("FCN_ResNet50_Weights")


def test_model_registered_by_hand_is_built_by_name():
    def tiny(*, num_classes=2):
        """A network of one's own."""
        return num_classes

    registry.MODELS.register("tiny_by_hand", tiny)
    assert seg_models.get_model("tiny_by_hand", num_classes=7) == 7
    with pytest.raises(UnknownNameError, match="no published weights for model 'tiny_by_hand'"):
        seg_models.get_model_weights("tiny_by_hand")
    assert "enet" in seg_models.list_models()
    assert seg_models.get_weight("FCN_ResNet50_Weights.DEFAULT")
