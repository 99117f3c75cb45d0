"""The catalog of published weights: every entry has a variant, key rules and a label set; nothing is downloaded."""

import re

import pytest
import torch

import seg_models
from seg_core.errors import CorruptFileError
from seg_core.labels.metadata import resolve_metadata
from seg_core.model_files.weights import WeightsEnum
from seg_models.catalog import MODELS
from seg_models.pretrained.key_table import OWN
from seg_models.pretrained.lookup import table_of
from seg_models.published import WEIGHTS

MEMBERS = [(model, member) for model, (_, members, _) in WEIGHTS.items() for member in members]


def test_every_row_stands_under_a_model_and_its_enum():
    assert {name for name, entry in MODELS.items() if entry.weights} == set(WEIGHTS)
    enums = [enum for enum, _, _ in WEIGHTS.values()]
    assert len(set(enums)) == len(enums)
    assert {"FCN_ResNet50_Weights", "DeepLabV3_MobileNet_V3_Large_Weights", "PIDNet_S_Weights"} <= set(enums)
    assert all(enum in dir(seg_models) for enum in enums)
    urls = [entry.url for _, members, _ in WEIGHTS.values() for entry in members.values()]
    assert len(set(urls)) == len(urls)


@pytest.mark.parametrize(("model", "member"), MEMBERS)
def test_member_resolves_without_network(model, member):
    weights = seg_models.get_model_weights(model)[member]
    assert seg_models.get_weight(str(weights)) is weights
    entry = MODELS[model].weights[member]
    assert entry.variant in MODELS[model].variants
    metadata = resolve_metadata(entry.label_set)
    assert weights.meta["categories"] == metadata.labels
    assert weights.url == entry.url
    assert re.fullmatch(r"https://\S+\.pth", entry.url)
    assert (entry.verified, bool(entry.hash)) in {("prefix", True), ("first-use", False)}
    table = table_of(entry.key_rules, model, entry.variant)
    assert (table is OWN) == (entry.key_rules == "torchvision")
    assert weights.transforms().mean == (0.485, 0.456, 0.406)
    assert weights.meta["num_params"] > 0
    assert 0.01 < weights.meta["time"] < 10
    assert 2**24 < weights.meta["memory"] < 2**31
    assert weights.meta["protocol"]
    assert weights.meta["license"]


@pytest.mark.parametrize("model", WEIGHTS)
def test_facts_of_the_default_are_those_of_its_network(model, fidelity):
    weights = seg_models.get_model_weights(model).DEFAULT
    entry = next(entry for entry in MODELS[model].weights.values() if entry.url == weights.url)
    classes = resolve_metadata(entry.label_set).num_classes
    options = {"num_classes": classes, "variant": entry.variant, **({"aux_loss": True} if entry.aux else {})}
    assert fidelity.count(model, (512, 1024), **options) == (weights.meta["num_params"], weights.meta["macs"])


def test_default_is_torchvisions_or_the_best_of_mmsegmentation_or_pixsegs():
    for model, (_, members, default) in WEIGHTS.items():
        chosen = members[default]
        rules = {entry.key_rules for entry in members.values()}
        assert chosen.key_rules == min(rules, key=["torchvision", "mmsegmentation", "pixseg"].index), model
        scenes = [
            e
            for e in members.values()
            if e.label_set in ("CityscapesClass", "ADE20K") and e.key_rules == chosen.key_rules
        ]
        if chosen.key_rules == "mmsegmentation":
            assert chosen.meta["metrics"].get("miou", 0) == max(e.meta["metrics"].get("miou", 0) for e in scenes)
    assert WEIGHTS["fcn_resnet34"][2] == "VOC2012"
    assert "CITYSCAPES_PIXSEG" in WEIGHTS["bisenet_resnet18"][1]


def test_named_weights_are_converted_and_bring_their_classes(monkeypatch, expected, fidelity):
    tensors = fidelity.tensors_of(expected("fidelity/mmsegmentation/ddrnet_23-slim.json"))
    monkeypatch.setattr(seg_models.DDRNet23_Slim_Weights, "get_state_dict", lambda self, progress=True: tensors)
    model = seg_models.ddrnet23_slim(weights="DEFAULT", aux_loss=True).eval()
    assert model.randomly_initialized == ()
    assert model.model_info.metadata.name == "CityscapesClass"
    assert model.model_info.metrics == {"miou": 0.7784, "miou_tta": 0.8015}
    assert torch.equal(model.classifier[3].weight, tensors["decode_head.conv_seg.weight"])


# What the published file names say: pattern of the beginning -> model, and part of the name -> dataset.
_NETWORKS = {
    r"bisenetv1_r(\d+)-d32_": r"bisenet_resnet\1",
    r"bisenetv2_fcn_": "bisenetv2",
    r"ddrnet_23-slim_": "ddrnet23_slim",
    r"fast_scnn_lr": "fast_scnn",
    r"lraspp_m-v3-d8_": "lraspp_mobilenet_v3_large",
    r"lraspp_m-v3s-d8_": "lraspp_mobilenet_v3_small",
    r"pidnet-([sml])_": r"pidnet_\1",
    r"segformer_mit-b(\d)_": r"segformer_b\1",
    r"stdc(\d)_in1k": r"stdc\1",
    r"(deeplabv3|deeplabv3plus|fcn|pspnet)_r(\d+)-d8_": r"\1_resnet\2",
    r"upernet_r(\d+)_": r"upernet_resnet\1",
    r"([a-z0-9_]+?)(?:_coco)?-(?:[0-9a-f]{8}\.|(?:cityscapes|sbd|voc2012)-\d+x\d+)": r"\1",  # torchvision and pixseg
}
_DATASETS = {
    "pascal_context_59": {"PascalContext"},
    "pascal_context_2": {"PascalContext60"},  # the date follows
    "cityscapes": {"CityscapesClass", "CityscapesBackground"},
    "ade20k": {"ADE20K"},
    "voc12aug": {"VOC"},
    "voc2012": {"VOC"},
    "sbd": {"VOC"},
    "coco-stuff": {"COCOStuff"},
    "potsdam": {"Potsdam"},
    "vaihingen": {"Vaihingen"},
    "isaid": {"iSAID"},
    "loveda": {"LoveDA"},
    "mapillay_v1_65": {"MapillaryVistas_v1.2"},
}


@pytest.mark.parametrize(("model", "member"), MEMBERS)
def test_file_is_of_the_model_and_the_dataset_that_its_name_says(model, member):
    entry = WEIGHTS[model][1][member]
    folder, name = entry.url.split("/")[-2:]
    said = next(
        found.expand(network)
        for pattern, network in _NETWORKS.items()
        if (found := re.match(pattern, name, re.ASCII)) is not None
    )
    assert said == model
    data = next((sets for part, sets in _DATASETS.items() if part in name), {"VOC"})  # torchvision's name none
    assert entry.label_set in data
    if entry.key_rules == "mmsegmentation":
        assert name.startswith(folder)
        assert ("769x769" in name) == entry.variant.endswith("_769")
    elif entry.key_rules == "torchvision":
        assert entry.label_set == "VOC"


def test_default_without_a_published_score_is_said_once(monkeypatch, caplog):
    from seg_models.builders import build

    build._say_without_score.cache_clear()
    without = {model for model, (_, members, default) in WEIGHTS.items() if not members[default].meta["metrics"]}
    assert len(without) == 9
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, progress=True: {})
    for model in ("enet", "enet", "fcn_resnet50"):
        with pytest.raises(CorruptFileError, match="is not of this network"):
            seg_models.get_model(model, weights="DEFAULT")
    for member in ("CITYSCAPES_PIXSEG_20250304", "CITYSCAPES_PIXSEG"):
        with pytest.raises(CorruptFileError):
            seg_models.enet(weights=member)
    (said,) = caplog.messages
    assert said.startswith("no score was published for ENet_Weights.CITYSCAPES_PIXSEG, the default weights")


class TestClassNames:
    @pytest.fixture(autouse=True)
    def _weights(self, monkeypatch, expected, fidelity):
        self.tensors = fidelity.tensors_of(expected("fidelity/mmsegmentation/ddrnet_23-slim.json"))
        monkeypatch.setattr(seg_models.DDRNet23_Slim_Weights, "get_state_dict", lambda own, progress=True: self.tensors)

    def test_rows_are_those_of_the_classes_of_that_name(self, caplog):
        names = ["Car", "pavement", "zebra", "road"]
        model = seg_models.ddrnet23_slim(weights="DEFAULT", class_names=names)
        labels = resolve_metadata("CityscapesClass").labels
        published = self.tensors["decode_head.conv_seg.weight"]
        for row, label in ((0, "car"), (1, "sidewalk"), (3, "road")):
            assert torch.equal(model.classifier[3].weight[row], published[labels.index(label)])
        assert not any(torch.equal(model.classifier[3].weight[2], each) for each in published)
        assert model.build_spec.arguments["num_classes"] == 4
        assert model.model_info.metadata.labels == tuple(names)
        assert model.randomly_initialized == ("classifier.3.weight", "classifier.3.bias")
        assert "has no classes for zebra: their rows are randomly initialized" in caplog.text

    def test_all_found_leave_nothing_randomly_initialized(self):
        labels = resolve_metadata("CityscapesClass").labels
        model = seg_models.ddrnet23_slim(weights="DEFAULT", class_names=labels[::-1])
        assert model.randomly_initialized == ()
        assert torch.equal(model.classifier[3].bias, self.tensors["decode_head.conv_seg.bias"].flip(0))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"weights": "DEFAULT", "class_names": ["car", "car"]}, "class_names must be a list of different names"),
            ({"weights": "DEFAULT", "class_names": "car"}, "class_names must be a list of different names"),
            ({"weights": "DEFAULT", "class_names": ["car"], "num_classes": 2}, "num_classes=2 contradicts the 1"),
            ({"class_names": ["car"]}, "class_names select from the classes of weights, but weights is None"),
        ],
    )
    def test_wrong_names_are_refused(self, options, words):
        with pytest.raises(seg_models.builders.build.InvalidArgumentError, match=words):
            seg_models.ddrnet23_slim(**options)

    def test_file_without_classes_cannot_be_matched(self, tmp_path):
        path = tmp_path / "plain.pth"
        torch.save(self.tensors, path)
        with pytest.raises(seg_models.builders.build.InvalidArgumentError, match="does not name its classes"):
            seg_models.ddrnet23_slim(weights=path, class_names=["car"])


def test_files_that_likely_hold_pickled_objects_say_so():
    said = {model for model, (_, members, _) in WEIGHTS.items() for entry in members.values() if "note" in entry.meta}
    assert said == {"ddrnet23_slim", "deeplabv3plus_resnet50", "pidnet_s", "pidnet_m", "pidnet_l"}
