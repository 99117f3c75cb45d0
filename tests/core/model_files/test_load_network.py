from pathlib import Path

import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, save_model
from seg_core.catalog import ModelEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError
from seg_core.model_files.load_network import (
    NetworkSource,
    find_network,
    is_model_name,
    load_network,
    looks_like_path,
)
from seg_core.model_files.paths import split_nest
from seg_core.registry import LOADERS, MODELS


class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)


def tiny(*, weights=None, num_classes=2, variant="paper"):
    network = Tiny(num_classes)
    network.build_spec = BuildSpec("tiny", variant, {"num_classes": num_classes})
    network.weights = weights
    if weights == "PARTIAL":
        network.randomly_initialized = ("head.weight", "head.bias")
    return network


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    MODELS.register("tiny", tiny)
    target = f"{__name__}:tiny"
    entries = {
        "published": ModelEntry(target, default_weights="STREET", weights_enum="Tiny_Weights"),
        "bare": ModelEntry(target),
        "two_variants": ModelEntry(target, variants=("paper", "other"), default_weights="STREET", weights_enum="W"),
        "general": ModelEntry(target, any_backbone=True),
    }
    for name, entry in entries.items():
        MODELS.register(name, entry)
        monkeypatch.setitem(MODELS._objects, name, tiny)


def save(path):
    network = tiny()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(network, path, metadata=DatasetMetadata("two", ("a", "b")), preprocessing=Preprocessing())
    return network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fcn_resnet50", False),
        ("model.pt", True),
        ("a.pth", True),
        ("a.safetensors", True),
        ("runs/enet", True),
        ("net.plan", False),
        ("there", True),
    ],
)
def test_looks_like_path_tells_files_from_names(tmp_path, text, expected):
    (tmp_path / "there").touch()
    assert looks_like_path(text) is expected


def test_model_file_is_loaded_as_saved():
    saved = save(Path("net.pt"))
    said = []
    loaded = load_network("net.pt", say=said.append)
    assert torch.equal(loaded.head.weight, saved.head.weight)
    assert loaded.model_info.metadata.name == "two"
    assert not said


def test_run_folder_gives_its_best_weights_and_names_the_others():
    save(Path("runs/tiny/model.pt"))
    saved = save(Path("runs/tiny/model_best.pt"))
    said = []
    assert torch.equal(load_network("runs/tiny", say=said.append).head.weight, saved.head.weight)
    assert said == [f"taking the best weights of the run, {Path('runs/tiny/model_best.pt')}; it also has model.pt"]
    found = find_network(Path("runs/tiny"))
    assert (found.path, found.run) == (Path("runs/tiny/model_best.pt"), Path("runs/tiny"))


def test_run_folder_without_best_weights_gives_the_last_and_says_so():
    saved = save(Path("runs/tiny/model.pt"))
    said = []
    assert torch.equal(load_network("runs/tiny", say=said.append).head.weight, saved.head.weight)
    assert said == [f"taking the last weights of the run, {Path('runs/tiny/model.pt')}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.pth#ema", ("net.pth", "ema")),
        ("net.ckpt#ema.module", ("net.ckpt", "ema.module")),
        ("there#teacher", ("there", "teacher")),
        ("a#1.pth", ("a#1.pth", None)),
        ("a#1.pth#ema", ("a#1.pth", "ema")),
        ("none#ema", ("none#ema", None)),
        ("net.pth", ("net.pth", None)),
        ("net.pth#", ("net.pth#", None)),
    ],
)
def test_network_within_a_file_is_named_after_a_mark(tmp_path, text, expected):
    for name in ("there", "a#1.pth"):
        (tmp_path / name).touch()
    assert split_nest(text) == expected
    assert split_nest(Path(text)) == expected
    assert looks_like_path("net.pth#ema")


def test_folder_with_the_name_of_a_model_is_that_model(tmp_path):
    (tmp_path / "published").mkdir()
    assert find_network("published").path is None


def test_name_without_weights_takes_the_default_and_says_so():
    said = []
    assert load_network("published", say=said.append).weights == "STREET"
    assert said == ["no weights given, taking Tiny_Weights.STREET"]


def test_name_with_weights_is_built_with_them():
    assert load_network("published", "CITY").weights == "CITY"
    assert load_network("tiny", "MINE").weights == "MINE"
    with pytest.raises(InvalidArgumentError, match="'mine.pt' look like a file, but there is no such file"):
        load_network("tiny", Path("mine.pt"))  # registered by hand: a builder of no catalog does not load files
    assert find_network("published", "DEFAULT") == NetworkSource("published", weights="STREET")
    assert find_network("tiny", "DEFAULT") == NetworkSource("tiny", weights="DEFAULT")


def test_name_is_built_in_the_variant_that_is_named():
    assert load_network(find_network("two_variants", "mine.pth", "other")).build_spec.variant == "other"
    assert load_network(find_network("two_variants", "mine.pth")).build_spec.variant == "paper"
    assert load_network(find_network("two_variants", variant="other")).build_spec.variant == "other"
    assert load_network(find_network("tiny", "MINE", "any")).build_spec.variant == "any"  # registered by hand
    with pytest.raises(UnknownNameError, match=r"model 'two_variants' has no variant 'othr'. Did you mean 'other'\?"):
        find_network("two_variants", "mine.pth", "othr")
    for source in ("net.pt", "."):
        Path("model.pt").touch()
        with pytest.raises(InvalidArgumentError, match=r"variant other cannot be used with .*; remove variant"):
            find_network(source, variant="other")


@pytest.mark.parametrize("source", ["", " "])
def test_empty_string_is_no_model(source):
    with pytest.raises(InvalidArgumentError, match="the model is an empty string"):
        find_network(source)


def test_network_is_returned_as_it_is():
    network = tiny()
    assert load_network(network) is network


def test_source_that_was_found_before_is_loaded_without_a_word():
    said = []
    assert load_network(find_network("published"), say=said.append).weights == "STREET"
    assert not said


def test_exported_file_goes_to_the_loader_of_its_suffix():
    LOADERS.register(".plan", lambda path: ("exported", path))
    Path("net.plan").touch()
    assert load_network("net.plan") == ("exported", Path("net.plan"))
    assert looks_like_path("other.plan")


@pytest.mark.parametrize(
    ("source", "weights", "error", "message"),
    [
        ("runs/none.pt", None, FileNotFoundError, "there is no model file runs/none.pt"),
        ("damaged.pt", None, CorruptFileError, "damaged.pt cannot be read"),
        ("net.pt", "CITY", InvalidArgumentError, "weights CITY cannot be used with model file net.pt, .*remove w"),
        ("run", "CITY", InvalidArgumentError, "weights CITY cannot be used with run run, .* remove weights"),
        (
            "empty",
            None,
            InvalidArgumentError,
            "empty is a folder without a model_best.pt or .*; give a run folder or the",
        ),
        (".", None, InvalidArgumentError, ". is a folder without .*; run folders in it: run; give a run folder"),
        ("publishd", None, UnknownNameError, "unknown model 'publishd'. Did you mean 'published'"),
        ("general", None, InvalidArgumentError, "model 'general' needs a backbone; name a model that has one"),
        ("bare", None, InvalidArgumentError, "model 'bare' has no published weights; give a model file"),
        ("tiny", None, InvalidArgumentError, "model 'tiny' has no published weights; give a model file"),
        (
            "tiny",
            "PARTIAL",
            InvalidArgumentError,
            "weights PARTIAL leave 2 tensors of 'tiny' randomly initialized, the",
        ),
        (Tiny(2), "CITY", InvalidArgumentError, "weights='CITY' cannot be used with a network"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(tmp_path, source, weights, error, message):
    save(tmp_path / "net.pt")
    save(tmp_path / "run" / "model.pt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.pt").write_bytes(b"no archive")
    with pytest.raises(error, match=message):
        load_network(source, weights)


def test_default_say_is_a_logged_warning(caplog):
    load_network("published")
    assert caplog.messages == ["no weights given, taking Tiny_Weights.STREET"]


@pytest.mark.parametrize("name", ["run.toml", "run.yaml", "run.py", "run.json"])
def test_config_is_no_model_and_the_message_names_its_run(tmp_path, name):
    Path(name).write_text("")
    with pytest.raises(
        InvalidArgumentError, match=rf"^{name} is a config, not a model; give a run folder \(training w"
    ):
        find_network(name)
    save_model(tiny(), "model.pt", metadata=DatasetMetadata("two", ("a", "b")), preprocessing=Preprocessing())
    with pytest.raises(InvalidArgumentError, match=r"is a config, not a model; give its run folder, (.*), or a model"):
        find_network(tmp_path / name)
    assert find_network(tmp_path).path == tmp_path / "model.pt"


def test_checkpoint_is_no_model_file_and_the_message_names_its_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    last = tmp_path / "checkpoints" / "last.pt"
    torch.save({"model": {"a": torch.zeros(1)}, "position": {}}, last)
    with pytest.raises(CorruptFileError, match="but not a model file of this toolkit"):
        load_network(last)  # no run
    save_model(
        tiny(), tmp_path / "model.pt", metadata=DatasetMetadata("two", ("a", "b")), preprocessing=Preprocessing()
    )
    with pytest.raises(CorruptFileError, match=rf"is a checkpoint, .* give its run folder, {tmp_path}$"):
        load_network(last)
    assert load_network(tmp_path) is not None


def test_a_registered_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MODELS.register("own_net", lambda: None)
    assert is_model_name("own_net")
    assert is_model_name("won_net")  # an unknown name, for a message about names
    for folder in ("own_net", "won_net"):
        (tmp_path / folder).mkdir()
    assert is_model_name("own_net")
    assert not is_model_name("won_net")
    assert not is_model_name(Path("own_net"))
    assert not is_model_name("own_net.pt")
