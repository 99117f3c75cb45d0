"""Checkpoint files of other projects by path: their key rules and variant are recognized from the file."""

import dataclasses
import hashlib
import logging
import types

import pytest
import torch

import seg_models
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.registry import MODELS

# file -> model, the variant that is recognized, and the others that it could be
FILES = {
    "mmsegmentation/fcn_r18-d8": ("fcn_resnet18", "mmsegmentation", ["mmsegmentation_769"]),
    "mmsegmentation/bisenetv1_r18-d32": ("bisenet_resnet18", "mmsegmentation", []),
    "mmsegmentation/ddrnet_23-slim": ("ddrnet23_slim", "paper", []),
    "mmsegmentation/segformer_mit-b0": ("segformer_b0", "mmsegmentation", []),
    "mmsegmentation/stdc1": ("stdc1", "mmsegmentation", []),
    "mmsegmentation/pspnet_r18b-d8": ("pspnet_resnet18", "mmsegmentation_plain", ["mmsegmentation_plain_769"]),
    "pixseg/bisenet_resnet18": ("bisenet_resnet18", "pixseg", []),
    "pixseg/bisenet_resnet18-20250304": ("bisenet_resnet18", "pixseg_20250304", []),
    "pixseg/enet": ("enet", "pixseg", []),
    "pixseg/pspnet_resnet50-20250222": ("pspnet_resnet50", "pixseg_20250222", ["pixseg_20250304"]),
    "pixseg/pspnet_resnet50": ("pspnet_resnet50", "pixseg", []),
    "pixseg/lraspp_resnet18": ("lraspp_resnet18", "pixseg", []),
    "pixseg/upernet_resnet18": ("upernet_resnet18", "pixseg", []),
    "torchvision/deeplabv3_mobilenet_v3_large": ("deeplabv3_mobilenet_v3_large", "torchvision", []),
}


@pytest.fixture
def saved(expected, fidelity, tmp_path):
    """Writes the published tensors of a case to a file, as its project does; returns the path and the file's facts."""

    def write(case, name="published.pth"):
        spec = expected(f"fidelity/{case}.json")
        tensors = fidelity.tensors_of(spec)
        path = tmp_path / name
        if path.suffix == ".safetensors":
            pytest.importorskip("safetensors.torch").save_file(tensors, path)
        else:
            torch.save({"state_dict": tensors, "meta": {"epoch": 1}} if "mmseg" in case else tensors, path)
        return path, spec

    return write


@pytest.mark.parametrize("case", FILES)
def test_variant_and_key_rules_are_recognized_from_the_file(case, saved, fidelity, caplog):
    path, spec = saved(case)
    name, variant, others = FILES[case]
    model = seg_models.get_model(name, weights=path)
    assert model.build_spec.variant == variant
    assert model.build_spec.arguments["num_classes"] == spec["num_classes"]
    assert model.randomly_initialized == ()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == bool(others)
    assert all(repr(other) in warnings[0] for other in others)
    run = spec["runs"][0]
    run["outputs"] = {"out": run["outputs"]["out"]}
    spec["runs"] = [run]
    assert fidelity.worst_error(model.eval(), spec, torch.float32) < spec["tolerance"]["float32"]


def test_variant_that_is_passed_decides(saved, caplog):
    path, _ = saved("mmsegmentation/pspnet_r18-d8")
    model = seg_models.get_model("pspnet_resnet18", weights=path, variant="mmsegmentation_769")
    assert model.build_spec.variant == "mmsegmentation_769"
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("how", ["published", "recorded at first use"])
def test_known_hash_decides(how, saved, monkeypatch, caplog):
    path, _ = saved("mmsegmentation/pspnet_r18-d8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = MODELS.entry("pspnet_resnet18")
    member, weights = next((m, w) for m, w in entry.weights.items() if w.variant == "mmsegmentation_769")
    if how == "published":
        weights = dataclasses.replace(weights, hash=digest, verified="sha256")
        known = types.SimpleNamespace(
            entry=lambda name: dataclasses.replace(entry, weights={**entry.weights, member: weights})
        )
        monkeypatch.setattr("seg_models.pretrained.recognition.MODELS", known)
    else:
        row = {"url": weights.url, "sha256": digest}
        monkeypatch.setattr("seg_models.pretrained.recognition.read_manifest", lambda: {path.name: row})
    model = seg_models.get_model("pspnet_resnet18", weights=path)
    assert model.build_spec.variant == "mmsegmentation_769"
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_safetensors_are_recognized_too(saved):
    path, _ = saved("mmsegmentation/ddrnet_23-slim", "published.safetensors")
    model = seg_models.get_model("ddrnet23_slim", weights=path, aux_loss=True)
    assert model.randomly_initialized == ()
    assert model.build_spec.arguments["num_classes"] == 19


def test_auxiliary_heads_are_left_out_and_said_or_kept(saved, caplog):
    path, _ = saved("mmsegmentation/pidnet-s")
    caplog.set_level(logging.INFO)
    assert seg_models.get_model("pidnet_s", weights=path).randomly_initialized == ()
    assert "auxiliary heads dropped; aux_loss=True keeps them" in caplog.text
    assert "has the parameter names of mmsegmentation" in caplog.text
    kept = seg_models.get_model("pidnet_s", weights=path, aux_loss=True)
    assert kept.randomly_initialized == ()


def test_another_number_of_classes_keeps_what_fits(saved):
    path, _ = saved("mmsegmentation/stdc1")
    model = seg_models.get_model("stdc1", weights=path, num_classes=4)
    assert model.randomly_initialized == ("classifier.4.weight", "classifier.4.bias")


def test_file_of_another_network_names_the_nearest_variant_and_what_differs(saved):
    path, _ = saved("mmsegmentation/pidnet-s")
    with pytest.raises(CorruptFileError, match="is not of this .* Nearest is variant 'mmsegmentation'") as caught:
        seg_models.get_model("stdc1", weights=path)
    assert "it lacks" in str(caught.value)
    assert "it also holds" in str(caught.value)


def test_option_that_contradicts_every_variant_is_refused(saved):
    path, _ = saved("pixseg/upernet_resnet18")
    with pytest.raises(InvalidArgumentError, match="variant 'pixseg' has no option 'align_corners'"):
        seg_models.get_model("upernet_resnet18", weights=path, variant="pixseg", align_corners=True)


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "fcn_resnet50"])
def test_file_of_torchvisions_own_code_gives_its_output(name, tmp_path):
    torchvision_models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = torchvision_models.get_model(name, weights=None, weights_backbone=None, num_classes=5).double().eval()
    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    model = seg_models.get_model(name, weights=path, variant="torchvision").double().eval()
    assert model.randomly_initialized == ()
    images = torch.randn(1, 3, 65, 97, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(model(images)["out"], theirs(images)["out"], rtol=0, atol=1e-12)


def test_file_with_pickled_objects_is_read_on_consent(saved, monkeypatch, tmp_path):
    path, _ = saved("mmsegmentation/ddrnet_23-slim")
    content = torch.load(path, weights_only=True)
    content["message_hub"] = types.SimpleNamespace(history=[1, 2])
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="SEG_OLD_CHECKPOINTS=1"):
        seg_models.get_model("ddrnet23_slim", weights=path)
    monkeypatch.setenv("SEG_OLD_CHECKPOINTS", "1")
    assert seg_models.get_model("ddrnet23_slim", weights=path).randomly_initialized == ()
