"""Model files of the networks here: each can be written and read, and `weights=` is as careful as load_model."""

import pytest
import torch

import seg_models
from seg_core import DatasetMetadata, Preprocessing
from seg_core.errors import CorruptFileError, UnknownNameError
from seg_core.model_files import reading
from seg_core.model_files.digest import digest_of
from seg_core.model_files.fit import check_description, check_tensors
from seg_core.model_files.model_file import load_model, read_model_info, save_model
from seg_core.registry import MODELS
from seg_models.pretrained.checkpoint import read_checkpoint

TWO = DatasetMetadata("two", ("sky", "ground"))


@pytest.fixture
def small(monkeypatch):
    """A builder of a hundred numbers, so that all of its file can be looked at."""
    from torch import nn

    from seg_core import BuildSpec
    from seg_models.builders.build import build_network

    class Small(nn.Module):
        def __init__(self, num_classes, in_channels):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, num_classes, 3)

        def forward(self, images):
            return {"out": self.conv(images)}

    def small(**arguments):
        return build_network("small", Small, arguments)

    MODELS.register("small", small)
    assert isinstance(small().build_spec, BuildSpec)
    return small


def save(path, network):
    save_model(network, path, metadata=TWO, preprocessing=Preprocessing(scale=0.5), metrics={"miou": 0.5})
    return path


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[pytest.mark.full] if number else [])
        for name in seg_models.list_models()
        for number, variant in enumerate(MODELS.entry(name).variants)
    ],
)
def test_every_network_fits_its_own_description(name, variant):
    with torch.device("meta"):
        network = seg_models.get_model(name, num_classes=2, variant=variant)
    check_description(network.build_spec)
    check_tensors(network.build_spec, network.state_dict())


def test_network_on_a_backbone_of_timm_is_read_again(tmp_path):
    pytest.importorskip("timm")
    network = seg_models.create("fcn", backbone="timm:lcnet_035", num_classes=2, aux_loss=True).eval()
    loaded = load_model(save(tmp_path / "model.pt", network))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images)["out"], network(images)["out"])
    assert loaded.build_spec == network.build_spec


def test_compiled_network_is_read_again(tmp_path):
    network = seg_models.lraspp_mobilenet_v3_large(num_classes=2)
    loaded = load_model(save(tmp_path / "model.pt", torch.compile(network)))
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_published_protocol_is_the_sentence(monkeypatch):
    """What was published has no table; the sentence is kept."""
    from seg_models.builders.build import _open_weights

    enum = seg_models.get_model_weights("fcn_resnet50")
    monkeypatch.setattr(enum, "get_state_dict", lambda self, progress: {})
    info = _open_weights("fcn_resnet50", "DEFAULT", False).info
    assert (info.protocol, info.protocol_text) == ({}, enum.DEFAULT.meta["protocol"])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("consented", [False, True], ids=["", "consented"])
def test_flipped_byte_gives_weights_of_no_other_network(small, tmp_path, monkeypatch, consented):
    if consented:
        monkeypatch.setenv("SEG_OLD_CHECKPOINTS", "1")
    path = save(tmp_path / "model.pt", small(num_classes=2))
    expected, data = read_checkpoint(path), path.read_bytes()
    errors = unharmed = 0
    for place in range(0, len(data), 11 if consented else 5):
        for pattern in (0x01, 0xFF):
            changed = bytearray(data)
            changed[place] ^= pattern
            path.write_bytes(changed)
            try:
                found = read_checkpoint(path)
            except CorruptFileError:
                errors += 1
                continue
            unharmed += 1
            assert found.info == expected.info, (place, pattern)
            assert found.tensors.keys() == expected.tensors.keys(), (place, pattern)
            for name, value in expected.tensors.items():
                assert torch.equal(found.tensors[name], value), (place, pattern)
    assert min(errors, unharmed) > 100


def test_damaged_model_file_is_no_weights(small, tmp_path):
    path = save(tmp_path / "model.pt", small(num_classes=2))
    content = torch.load(path, weights_only=True)
    content["state_dict"]["conv.bias"] += 1
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="model.pt is damaged: its content does not match its digest"):
        small(weights=path)
    with pytest.raises(CorruptFileError, match="does not match its digest"):
        seg_models.Predictor(path)
    del content["format"]
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="not a model file of this toolkit"):
        small(weights=path)


def test_variant_of_a_file_that_the_model_lacks_suggests_the_nearest(small, tmp_path):
    path = save(tmp_path / "model.pt", small(num_classes=2))
    content = torch.load(path, weights_only=True)
    content["variant"] = "papper"
    content["digest"] = digest_of({key: value for key, value in content.items() if key != "digest"})
    torch.save(content, path)
    with pytest.raises(UnknownNameError, match="model 'small' has no variant 'papper'. Did you mean 'paper'"):
        small(weights=path)


def test_file_without_a_digest_is_weights_as_before_and_told(small, tmp_path, monkeypatch):
    network = small(num_classes=2)
    path = save(tmp_path / "model.pt", network)
    content = torch.load(path, weights_only=True)
    del content["digest"], content["protocol_text"]
    torch.save({**content, "format_version": 1, "protocol": "val", "form": content.pop("variant")}, path)
    monkeypatch.setattr(reading, "_warned_of_no_digest", False)
    with pytest.warns(UserWarning, match="model.pt has no digest"):
        loaded = small(weights=path)
    assert torch.equal(loaded.conv.weight, network.conv.weight)
    assert loaded.model_info.protocol_text == "val"
    assert read_model_info(path).protocol == {}
