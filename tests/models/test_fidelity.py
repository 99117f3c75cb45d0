"""Networks against what the published ones compute."""

import hashlib

import pytest
import torch

from seg_models import get_model

FILES = {"fcn_resnet50-torchvision.json": ("fcn_resnet50", {"form": "torchvision", "aux_loss": True})}


@pytest.fixture(scope="module", params=FILES)
def case(request, expected, fidelity):
    spec = expected(f"fidelity/{request.param}")
    name, options = FILES[request.param]
    return fidelity.fill_by_rule(get_model(name, num_classes=21, **options), spec), spec, name, options


def test_rule_gives_the_published_digests(fidelity):
    tensors = {
        "12448d03e4250974": fidelity.tensor_by_rule("backbone.conv1.weight", [64, 3, 7, 7], 1.0),
        "9691bfa98b940451": fidelity.tensor_by_rule("bn1.running_var", [64], 1.0),
        "d2e740f7e82a0391": fidelity.picture_by_rule(64, 96),
        "fa4f1dfc8d3170ac": fidelity.picture_by_rule(65, 97),
    }
    for digest, tensor in tensors.items():
        assert hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest()[:16] == digest


def test_state_dict_has_the_published_names_shapes_and_order(case):
    model, spec, _, _ = case
    assert [(k, list(v.shape)) for k, v in model.state_dict().items()] == list(spec["state"].items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_equal_the_published_ones(case, fidelity, dtype):
    model, spec, _, _ = case
    assert fidelity.worst_error(model, spec, dtype) < spec["tolerance"][str(dtype).removeprefix("torch.")]


def test_parameters_and_macs_equal_the_published_ones(case, fidelity):
    model, spec, name, options = case
    assert fidelity.count_parameters(model) == spec["parameters"]
    with torch.device("meta"):
        bare = get_model(name, num_classes=21, **options).eval()
    assert fidelity.count_macs(bare) == spec["macs_512x1024"]


def test_comparison_notices_another_alignment_of_the_last_resize(case, fidelity):
    model, spec, _, _ = case
    upsampling = model.upsampling
    try:
        model.upsampling = dict.fromkeys(upsampling, ("bilinear", True))
        assert fidelity.worst_error(model, spec, torch.float64) > 1e-3
    finally:
        model.upsampling = upsampling
