"""Networks compared with the published ones, on tensors under the published names, converted by the key rules."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from seg_core.registry import MODELS
from seg_models import create, get_backbone, get_model
from seg_models.pretrained.lookup import table_of
from seg_models.pretrained.rules.pixseg import XCEPTION

FOLDER = Path(__file__).parents[2] / "expected" / "fidelity"
# file -> model and variant, where they are not the file's name and "pixseg" or "torchvision"
MODEL = {
    "mmsegmentation/bisenetv1_r18-d32": ("bisenet_resnet18", "mmsegmentation"),
    "mmsegmentation/bisenetv1_r50-d32": ("bisenet_resnet50", "mmsegmentation"),
    "mmsegmentation/bisenetv2": ("bisenetv2", "paper"),
    "mmsegmentation/ddrnet_23-slim": ("ddrnet23_slim", "paper"),
    "mmsegmentation/fast_scnn": ("fast_scnn", "mmsegmentation"),
    "mmsegmentation/lraspp_m-v3-d8": ("lraspp_mobilenet_v3_large", "mmsegmentation"),
    "mmsegmentation/lraspp_m-v3s-d8": ("lraspp_mobilenet_v3_small", "mmsegmentation"),
    "mmsegmentation/pidnet-s": ("pidnet_s", "paper"),
    "mmsegmentation/pidnet-m": ("pidnet_m", "paper"),
    "mmsegmentation/pidnet-l": ("pidnet_l", "paper"),
    "mmsegmentation/pspnet_r18b-d8": ("pspnet_resnet18", "mmsegmentation_plain"),
    "mmsegmentation/segformer_mit-b0": ("segformer_b0", "mmsegmentation"),
    "mmsegmentation/segformer_mit-b2": ("segformer_b2", "mmsegmentation"),
    "mmsegmentation/stdc1": ("stdc1", "mmsegmentation"),
    "mmsegmentation/stdc2": ("stdc2", "mmsegmentation"),
    "pixseg/bisenet_resnet18-20250304": ("bisenet_resnet18", "pixseg_20250304"),
    "pixseg/bisenet_resnet18-20250305": ("bisenet_resnet18", "pixseg"),
    "pixseg/enet-20250304": ("enet", "pixseg"),
    "pixseg/pspnet_resnet50-20250222": ("pspnet_resnet50", "pixseg_20250222"),
    "pixseg/pspnet_resnet50-20250304": ("pspnet_resnet50", "pixseg_20250304"),
    "pixseg/sfnet_lite_resnet18-fam_pooling": ("sfnet_lite_resnet18", "pixseg_fam_pooling"),
}
DEPTHS = {"r18": "resnet18", "r50": "resnet50", "r101": "resnet101"}
XCEPTION_FILE = "pixseg/xception"
CASES = sorted(
    str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.json") if file.stem != "xception"
)
# one of each network and variant
DEFAULT = {
    "mmsegmentation/bisenetv1_r18-d32",
    "mmsegmentation/bisenetv2",
    "mmsegmentation/ddrnet_23-slim",
    "mmsegmentation/deeplabv3_r18-d8",
    "mmsegmentation/deeplabv3plus_r18-d8",
    "mmsegmentation/deeplabv3plus_r18-d8-769",
    "mmsegmentation/fast_scnn",
    "mmsegmentation/fcn_r18-d8",
    "mmsegmentation/lraspp_m-v3s-d8",
    "mmsegmentation/pidnet-l",
    "mmsegmentation/pidnet-s",
    "mmsegmentation/pspnet_r18-d8",
    "mmsegmentation/pspnet_r18b-d8",
    "mmsegmentation/segformer_mit-b0",
    "mmsegmentation/stdc1",
    "mmsegmentation/upernet_r18",
    "pixseg/bisenet_resnet18-20250304",
    "pixseg/bisenet_resnet18-20250305",
    "pixseg/bisenet_resnet18-aux",
    "pixseg/bisenet_xception",
    "pixseg/deeplabv3_resnet18-aux",
    "pixseg/enet",
    "pixseg/enet-20250304",
    "pixseg/fcn_mobilenet_v3_large",
    "pixseg/fcn_resnet34-aux",
    "pixseg/fcn_vgg16-aux",
    "pixseg/lraspp_resnet18",
    "pixseg/pspnet_resnet50-20250304",
    "pixseg/pspnet_resnet50-aux",
    "pixseg/sfnet_lite_resnet18",
    "pixseg/sfnet_lite_resnet18-fam_pooling",
    "pixseg/sfnet_resnet18",
    "pixseg/upernet_resnet18",
    "torchvision/deeplabv3_mobilenet_v3_large",
    "torchvision/fcn_resnet50",
    "torchvision/lraspp_mobilenet_v3_large",
}
# model -> our outputs in the order of mmsegmentation's file, where they are not "out", "aux"
OUTPUTS = {
    "bisenet": ("out", "aux", "aux_16x"),
    "bisenetv2": ("out", "aux", "aux_8x", "aux_16x", "aux_32x"),
    "fast": ("out", "aux_32x", "aux"),
    "pidnet": ("out", "aux", "boundary"),
    "stdc1": ("out", "aux", "aux_16x", "boundary"),
    "stdc2": ("out", "aux", "aux_16x", "boundary"),
}

every_case = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in DEFAULT else [pytest.mark.full]) for case in CASES]
)


def model_of(case):
    """Name of the model, variant, and whether it has auxiliary heads."""
    project, file = case.split("/")
    if case in MODEL:
        return *MODEL[case], project == "mmsegmentation"
    if project == "mmsegmentation":
        network, depth, *variant = file.replace("_", "-").split("-")
        return f"{network}_{DEPTHS[depth]}", "mmsegmentation_769" if "769" in variant else project, True
    return file.removesuffix("-aux"), project, file.endswith("-aux") or project == "torchvision"


def build(case, spec, aux=True):
    name, variant, has_aux = model_of(case)
    options = {"num_classes": spec["num_classes"], "variant": variant}
    if name == "fcn_mobilenet_v3_large":  # no row of its own
        return create("fcn", backbone="mobilenet_v3_large", **options)
    if aux and has_aux and len(MODELS.entry(name).outputs) > 1:
        options["aux_loss"] = True
    return get_model(name, **options)


def facts_of(case):
    """What is published of a network: shapes, counts, outputs."""
    return json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))


def open_case(case, fidelity):
    """The model, filled with the published tensors through the converter, and the facts, outputs under our names."""
    spec = facts_of(case)
    model = build(case, spec)
    names = OUTPUTS.get(model.build_spec.builder.split("_")[0])
    for run in spec["runs"] if names and case.startswith("mmsegmentation") else ():
        run["outputs"] = dict(zip(names, run["outputs"].values(), strict=True))
    table = table_of(case.split("/")[0], model.build_spec.builder, model.build_spec.variant)
    model.load_state_dict(table.convert(fidelity.tensors_of(spec)), strict=True)
    return model.eval(), spec


@pytest.fixture(scope="module")
def opened(fidelity):
    """Model and facts by the name of a case; the last one is kept."""
    last = {}

    def get(case):
        if case not in last:
            last.clear()
            last[case] = open_case(case, fidelity)
        return last[case]

    return get


def test_rule_gives_the_published_digests(fidelity):
    tensors = {
        "12448d03e4250974": fidelity.tensor_by_rule("backbone.conv1.weight", [64, 3, 7, 7], 1.0),
        "9691bfa98b940451": fidelity.tensor_by_rule("bn1.running_var", [64], 1.0),
        "d2e740f7e82a0391": fidelity.image_by_rule(64, 96),
        "fa4f1dfc8d3170ac": fidelity.image_by_rule(65, 97),
    }
    for digest, tensor in tensors.items():
        assert hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest()[:16] == digest


def test_every_variant_but_our_own_is_that_of_a_published_network():
    shown = {model_of(case)[:2] for case in CASES}
    families = {(MODELS.entry(name).family, variant) for name, variant in shown if name in MODELS} | {("FCN", "pixseg")}
    for name in MODELS:
        entry = MODELS.entry(name)
        for variant in entry.variants:
            assert variant == "paper" or (entry.family, variant.removesuffix("_769")) in families


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("torchvision")])
def test_state_dict_has_torchvisions_names_and_order(case, opened, fidelity):
    model, spec = opened(case)
    assert [(k, list(v.shape)) for k, v in model.state_dict().items()] == list(fidelity.shapes_of(spec).items())


@every_case
def test_outputs_equal_the_published_ones(case, opened, fidelity):
    model, spec = opened(case)
    for dtype in (torch.float32, torch.float64):
        assert fidelity.worst_error(model, spec, dtype) < spec["tolerance"][str(dtype).removeprefix("torch.")]


@every_case
def test_parameters_and_macs_equal_the_published_ones(case, fidelity):
    spec = facts_of(case)
    with torch.device("meta"):
        model, bare = build(case, spec).eval(), build(case, spec, aux=False).eval()
    if "parameters_without_auxiliary" in spec:
        assert fidelity.count_parameters(bare) == spec["parameters_without_auxiliary"]
        assert fidelity.count_macs(bare) == spec["macs_512x1024_out_only"]
    assert fidelity.count_parameters(model) == spec["parameters"]
    assert fidelity.count_macs(model) == spec["macs_512x1024"]


def test_comparison_notices_another_alignment_of_the_last_resize(opened, fidelity):
    model, spec = opened("torchvision/fcn_resnet50")
    upsampling = model.upsampling
    try:
        model.upsampling = dict.fromkeys(upsampling, ("bilinear", True))
        assert fidelity.worst_error(model, spec, torch.float64) > 1e-3
    finally:
        model.upsampling = upsampling


def test_xception_equals_the_published_one(expected, fidelity):
    spec = expected(f"fidelity/{XCEPTION_FILE}.json")
    backbone = get_backbone("xception")
    model = Classifier(backbone)
    tensors = fidelity.tensors_of(spec)
    backbone.load_state_dict(XCEPTION.convert(tensors), strict=True)
    left = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if not XCEPTION.rename(name)}
    model.classifier.load_state_dict(left, strict=True)
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


def test_page_has_every_published_network_and_all_are_kept():
    page = (Path(__file__).parents[3] / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines()
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in page if "/" in row.split(" | ")[0]}
    assert set(CASES) <= set(rows), "the page is old: hatch run fidelity"
    for case in CASES:
        name, variant, _ = model_of(case)
        assert f"| `{name}` | `{variant}` |" in rows[case] or name == "fcn_mobilenet_v3_large"
        assert rows[case].endswith("| yes |")
