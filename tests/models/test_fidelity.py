"""Networks against what the published ones compute."""

import hashlib
import itertools
import re

import pytest
import torch

from seg_models import get_backbone, get_model

TORCHVISION = {"num_classes": 21, "form": "torchvision"}
SAME = {"num_classes": 19, "aux_loss": True}
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
    "bisenetv2-mmsegmentation": ("bisenetv2", SAME),
    "ddrnet23_slim-mmsegmentation": ("ddrnet23_slim", SAME),
    "fast_scnn-mmsegmentation": ("fast_scnn", {**SAME, "form": "mmsegmentation"}),
    "pidnet_s-mmsegmentation": ("pidnet_s", SAME),
    "pidnet_m-mmsegmentation": ("pidnet_m", SAME),
    "pidnet_l-mmsegmentation": ("pidnet_l", SAME),
    "segformer_b0-mmsegmentation": ("segformer_b0", {"num_classes": 150, "form": "mmsegmentation"}),
    "segformer_b2-mmsegmentation": ("segformer_b2", {"num_classes": 19, "form": "mmsegmentation"}),
    "stdc1-mmsegmentation": ("stdc1", {**SAME, "form": "mmsegmentation"}),
    "stdc2-mmsegmentation": ("stdc2", {**SAME, "form": "mmsegmentation"}),
}
# the deepest, and what a smaller one of the same kind shows already
LONG = {name for name in CASES if "resnet101" in name or name.endswith("-150")} | {
    f"{name}-mmsegmentation" for name in ("pidnet_m", "segformer_b2", "stdc2")
}
# where ours is not "out", "aux": model -> our outputs in the file's order
OUTPUTS = {
    "bisenetv2": ("out", "aux", "aux_8x", "aux_16x", "aux_32x"),
    "fast_scnn": ("out", "aux_32x", "aux"),
    "pidnet": ("out", "aux", "boundary"),
    "stdc": ("out", "aux", "aux_16x", "boundary"),
}


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
            for run in spec["runs"]:
                run["outputs"] = dict(zip(outputs_of(case, run), run["outputs"].values(), strict=True))
            model.load_state_dict(state_of(model, spec, fidelity), strict=True)
            last[case] = model.eval(), spec, name, options
        return last[case]

    return get


def outputs_of(case, run):
    return next((names for model, names in OUTPUTS.items() if case.startswith(model)), run["outputs"])


def state_of(model, spec, fidelity):
    """The file's tensors under our names; a kernel of 1x1 is a linear layer's weight where ours is one."""
    state = {}
    for ours, (theirs, shape, part) in names_of(model, spec).items():
        tensor = fidelity.tensor_by_rule(theirs, shape, spec["gain"])[part]
        wanted = model.state_dict()[ours].shape
        assert [side for side in tensor.shape if side > 1] == [side for side in wanted if side > 1]
        state[ours] = tensor.view(wanted)
    return state


def names_of(model, spec):
    """Our name of each parameter -> the file's, the file's shape, and the part of it that is ours."""
    state = [(name, shape, ...) for name, shape in spec["state"].items()]
    if spec["source"]["project"] == "mmsegmentation":
        # kernels of STDC's loss, which makes its targets
        state = [entry for entry in state if not entry[0].endswith(("laplacian_kernel", "fusion_kernel"))]
        state = sorted(itertools.chain.from_iterable(map(split_projection, state)), key=place_in_mmsegmentation)
    return dict(zip(model.state_dict(), state, strict=True))


def split_projection(entry):
    """There query, key and value are one layer; here the query is one of its own."""
    name, shape, _ = entry
    if name.endswith(".in_proj_bias"):
        return []
    if not name.endswith(".in_proj_weight"):
        return [entry]
    third = shape[0] // 3
    layer = (name, shape), (name.replace("_weight", "_bias"), shape[:1])
    return [(*tensor, rows) for rows in (slice(third), slice(third, None)) for tensor in layer]


def place_in_mmsegmentation(entry):
    """There the logits' convolutions come first, here each is the last of its head; the order is else the same."""
    part, *_ = path = entry[0].split(".")
    if part == "backbone":
        return 0, 0, False
    if part == "auxiliary_head":
        return 2, int(path[1]) if path[1].isdigit() else 0, "conv_seg" in path
    # PIDNet and DDRNet have their auxiliary heads in here
    head = ["aux", "p", "d"].index(path[1].split("_")[0]) + 1 if path[1].startswith(("aux_", "p_", "d_")) else 0
    return 1, head, path[1].endswith(("conv_seg", "cls_seg"))


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
def test_names_pair_with_the_published_ones(case, opened):
    model, spec, _, _ = opened(case)
    for ours, (theirs, _, _) in names_of(model, spec).items():
        # the kinds of tensors agree, and blocks bear the same names, so none was taken for another of its shape
        assert ours.rpartition(".")[2] == re.split(r"[._]proj_|\.", theirs)[-1]
        block = re.search(r"\.layer\d.*", theirs)
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
