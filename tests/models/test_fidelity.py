"""Networks against what the published ones compute."""

import hashlib
import re

import pytest
import torch

from seg_models import get_backbone, get_model

TORCHVISION = {"num_classes": 21, "form": "torchvision"}
MMSEGMENTATION = {"num_classes": 19, "aux_loss": True, "backbone_options": {"stem": "deep"}}
# file -> model and options; the names of the parameters are the file's own for torchvision only
CASES = {
    "fcn_resnet50-torchvision": ("fcn_resnet50", {**TORCHVISION, "aux_loss": True}),
    "fcn_resnet101-torchvision": ("fcn_resnet101", {**TORCHVISION, "aux_loss": True}),
    "deeplabv3_resnet50-torchvision": ("deeplabv3_resnet50", {**TORCHVISION, "aux_loss": True}),
    "deeplabv3_resnet101-torchvision": ("deeplabv3_resnet101", {**TORCHVISION, "aux_loss": True}),
    "deeplabv3_mobilenet_v3_large-torchvision": ("deeplabv3_mobilenet_v3_large", {**TORCHVISION, "aux_loss": True}),
    "lraspp_mobilenet_v3_large-torchvision": ("lraspp_mobilenet_v3_large", TORCHVISION),
    "pspnet_resnet18-mmsegmentation": ("pspnet_resnet18", MMSEGMENTATION),
    "pspnet_resnet18-mmsegmentation-769": ("pspnet_resnet18", {**MMSEGMENTATION, "align_corners": True}),
    "pspnet_resnet18-mmsegmentation-plain": ("pspnet_resnet18", {"num_classes": 19, "aux_loss": True}),
    "pspnet_resnet50-mmsegmentation": ("pspnet_resnet50", MMSEGMENTATION),
    "pspnet_resnet101-mmsegmentation": ("pspnet_resnet101", MMSEGMENTATION),
    "upernet_resnet18-mmsegmentation": ("upernet_resnet18", MMSEGMENTATION),
    "upernet_resnet50-mmsegmentation": ("upernet_resnet50", MMSEGMENTATION),
    "upernet_resnet50-mmsegmentation-150": ("upernet_resnet50", {**MMSEGMENTATION, "num_classes": 150}),
    "upernet_resnet101-mmsegmentation": ("upernet_resnet101", MMSEGMENTATION),
}
# the deepest, and what a smaller one of the same kind shows already
LONG = {name for name in CASES if "resnet101" in name or name.endswith("-150")}


def cases(*projects):
    return [
        pytest.param(name, marks=[pytest.mark.full] if name in LONG else [])
        for name in CASES
        if any(project in name for project in projects)
    ]


@pytest.fixture(scope="module")
def opened(expected, fidelity):
    """Model, file, name and options by the name of a case; the last one is kept."""
    last = {}

    def get(case):
        if case not in last:
            last.clear()
            spec = expected(f"fidelity/{case}.json")
            name, options = CASES[case]
            model = get_model(name, **options)
            state = {
                ours: fidelity.tensor_by_rule(theirs, shape, spec["gain"])
                for ours, (theirs, shape) in names_of(model, spec).items()
            }
            model.load_state_dict(state, strict=True)
            last[case] = model.eval(), spec, name, options
        return last[case]

    return get


def names_of(model, spec):
    """Our name of each parameter -> the file's, and the file's shape."""
    state = list(spec["state"].items())
    if spec["source"]["project"] == "mmsegmentation":
        state = sorted(state, key=place_in_mmsegmentation)
    return dict(zip(model.state_dict(), state, strict=True))


def place_in_mmsegmentation(entry):
    """There the logits' convolution is the first of a head, here it is the last; the order is else the same."""
    part = entry[0].partition(".")[0]
    return ["backbone", "decode_head", "auxiliary_head"].index(part), ".conv_seg." in entry[0]


def test_rule_gives_the_published_digests(fidelity):
    tensors = {
        "12448d03e4250974": fidelity.tensor_by_rule("backbone.conv1.weight", [64, 3, 7, 7], 1.0),
        "9691bfa98b940451": fidelity.tensor_by_rule("bn1.running_var", [64], 1.0),
        "d2e740f7e82a0391": fidelity.picture_by_rule(64, 96),
        "fa4f1dfc8d3170ac": fidelity.picture_by_rule(65, 97),
    }
    for digest, tensor in tensors.items():
        assert hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("case", cases("torchvision"))
def test_state_dict_has_the_published_names_shapes_and_order(case, opened):
    model, spec, _, _ = opened(case)
    assert [(k, list(v.shape)) for k, v in model.state_dict().items()] == list(spec["state"].items())


@pytest.mark.parametrize("case", cases("mmsegmentation"))
def test_state_dict_has_the_published_shapes(case, opened):
    model, spec, _, _ = opened(case)
    for ours, (theirs, shape) in names_of(model, spec).items():
        assert list(model.state_dict()[ours].shape) == shape
        # blocks and norms bear the same names, so none was taken for another of its shape
        block = re.search(r"layer\d.*", theirs)
        assert block is None or ours.endswith(block[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", cases("torchvision", "mmsegmentation"))
def test_outputs_equal_the_published_ones(case, opened, fidelity, dtype):
    model, spec, _, _ = opened(case)
    assert fidelity.worst_error(model, spec, dtype) < spec["tolerance"][str(dtype).removeprefix("torch.")]


@pytest.mark.parametrize("case", cases("torchvision", "mmsegmentation"))
def test_parameters_and_macs_equal_the_published_ones(case, fidelity, opened):
    model, spec, name, options = opened(case)
    assert fidelity.count_parameters(model) == spec["parameters"]
    with torch.device("meta"):
        model = get_model(name, **options).eval()
        bare = get_model(name, **{**options, "aux_loss": None}).eval()
    if "parameters_without_auxiliary" in spec:
        assert fidelity.count_parameters(bare) == spec["parameters_without_auxiliary"]
        assert fidelity.count_macs(bare) == spec["macs_512x1024_out_only"]
    assert fidelity.count_macs(model) == spec["macs_512x1024"]


def test_comparison_notices_another_alignment_of_the_last_resize(opened, fidelity):
    model, spec, _, _ = opened("fcn_resnet50-torchvision")
    upsampling = model.upsampling
    try:
        model.upsampling = dict.fromkeys(upsampling, ("bilinear", True))
        assert fidelity.worst_error(model, spec, torch.float64) > 1e-3
    finally:
        model.upsampling = upsampling


def test_xception_equals_the_published_one(expected, fidelity):
    spec = expected("fidelity/xception-pixseg.json")
    backbone = get_backbone("xception")
    model = Classifier(backbone)
    entries = zip(model.state_dict().items(), spec["state"].items(), strict=True)
    state = {}
    for (ours, tensor), (theirs, shape) in entries:
        assert list(tensor.shape) == shape
        state[ours] = fidelity.tensor_by_rule(theirs, shape, spec["gain"])
    model.load_state_dict(state, strict=True)
    assert fidelity.count_parameters(model) == spec["parameters"]
    for dtype in (torch.float32, torch.float64):
        error = fidelity.worst_error(model.eval(), spec, dtype)
        assert error < spec["tolerance"][str(dtype).removeprefix("torch.")]


class Classifier(torch.nn.Module):
    """A backbone with the classifier that it was published with."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.classifier = torch.nn.Linear(backbone.feature_info[-1].channels, 1000)

    def forward(self, images):
        *_, coarsest = self.backbone(images).values()
        return {"out": self.classifier(coarsest.mean((2, 3)))}
