"""Networks and backbones of a user's own in model files and `seg predict`: imported by the user alone."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

import seg_models
from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, own_code, save_model
from seg_core.command import main
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError
from seg_core.own_code import import_code
from seg_models import Predictor

CODE = """
from torch import nn
from seg_models import get_backbone

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)

    def forward(self, images):
        return {"out": self.head(images)}

def build(*, num_classes=2, weights=None, aux_loss=None, weights_backbone=None, variant=None):
    return Net(num_classes)

def backbone(*, weights=None, progress=True, in_channels=3, output_stride=32):
    return get_backbone("resnet18", weights=weights, in_channels=in_channels, output_stride=output_stride)
"""
TWO = DatasetMetadata("two", ("sky", "ground"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the module `net_code`, a model file of its network, and an image."""
    place = tmp_path / "code"
    place.mkdir()
    (place / "net_code.py").write_text(CODE)
    network = import_code("net_code", [place]).build()
    network.build_spec = BuildSpec("net_code:build", "", {"num_classes": 2})
    save_model(network, place / "model.pt", metadata=TWO, preprocessing=Preprocessing())
    Image.new("RGB", (32, 24), "gray").save(place / "image.png")
    forget()
    monkeypatch.chdir(place)
    return place


def forget():
    """As in a new process."""
    own_code._modules.clear()
    sys.modules.pop("net_code", None)


def test_predict_refuses_until_the_module_is_imported(folder, capsys):
    words = ["predict", "image.png", "--model", "model.pt", "--device", "cpu"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "model 'net_code:build' is code of the module 'net_code'" in error
    assert "with --import net_code on the command line" in error
    assert "net_code" not in sys.modules
    assert main([*words, "--import", "net_code"]) == 0
    assert (folder / "predictions" / "image.png").is_file()
    assert main([*words, "--import", "no_such_code"]) == 2
    assert "--import no_such_code: module 'no_such_code' cannot be imported: there is no" in capsys.readouterr().err


def test_predictor_and_load_model_say_what_to_call(folder):
    for load in (Predictor, load_model, seg_models.load_model):
        with pytest.raises(UnknownNameError, match=r"seg_core.import_code\('net_code'\)"):
            load(folder / "model.pt")
    import_code("net_code", [folder])
    assert Predictor(folder / "model.pt")(Image.new("RGB", (8, 8))).labels.shape == (8, 8)


def test_command_in_a_process_of_its_own_finds_the_current_folder(folder):
    script = "import sys; from seg_core.command import main; sys.exit(main(sys.argv[1:]))"
    words = ["predict", "image.png", "--model", "model.pt", "--import", "net_code", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def with_arguments(path, **arguments):
    """Writes arguments into a model file, as a person could who wants its reader to run something."""
    content = torch.load(path, weights_only=True)
    content["builder"] = "fcn"  # that of any backbone
    content["arguments"] |= arguments
    torch.save(content, path)


def test_backbone_of_ones_own_is_named_alike(folder):
    import_code("net_code", [folder])
    network = seg_models.get_model("fcn", backbone="net_code:backbone", num_classes=2)
    save_model(network, folder / "fcn.pt", metadata=TWO, preprocessing=Preprocessing())
    forget()
    with pytest.raises(UnknownNameError, match="backbone 'net_code:backbone' is code of the module 'net_code'"):
        load_model(folder / "fcn.pt")
    import_code("net_code", [folder])
    found = load_model(folder / "fcn.pt")
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["os:system", "net_code:backbone", "subprocess:call"])
def test_file_cannot_name_code_as_its_backbone(folder, name):
    file = folder / "fcn.pt"
    network = seg_models.get_model("fcn", backbone="resnet18", num_classes=2)
    save_model(network, file, metadata=TWO, preprocessing=Preprocessing())
    with_arguments(file, backbone=name)
    with pytest.raises(UnknownNameError, match=f"backbone '{name}' is code of the module"):
        load_model(file, verify=False)
    assert "net_code" not in sys.modules
    assert os.getcwd() == str(folder)


def test_predict_loads_a_file_whatever_an_own_builder_does_with_it(folder, monkeypatch):
    text = CODE.replace("weights=None, aux_loss=None", "aux_loss=None").replace(
        "variant=None", "variant=None, **others"
    )
    (folder / "net_code.py").write_text(text)
    import_code("net_code", [folder])
    expected = torch.load(folder / "model.pt", weights_only=True)["state_dict"]
    network = Predictor("net_code:build", weights="model.pt").model
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    torch.save({"head.weight": expected["head.weight"]}, folder / "other.pt")
    with pytest.raises(
        CorruptFileError, match="is not of the network that net_code:build builds.*no tensor 'head.bias'"
    ):
        Predictor("net_code:build", weights="other.pt")
    with pytest.raises(InvalidArgumentError, match="has no parameter 'weights' of its own"):
        Predictor("net_code:build", weights="DEFAULT")
