"""Parts of a user's own in a run: a network of a plain builder, a loss around one of torch."""

import enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seg_core import load_model
from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.registry import LOSSES, MODELS, SCHEDULERS
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import load_checkpoint


class Plain(nn.Module):
    """A network whose builder leaves no description."""

    def __init__(self, num_classes, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, num_classes, 1))

    def forward(self, images):
        return {"out": self.layers(images)}


def build_plain(*, num_classes, weights=None, weights_backbone=None, aux_loss=False, variant=None, width=4):
    assert variant is None or variant == "wide"
    return Plain(num_classes, width if variant is None else 2 * width)


class StrictLoss(nn.Module):
    """As torch's own loss it takes int64 masks only."""

    def __init__(self, ignore_index):
        super().__init__()
        self.loss = nn.CrossEntropyLoss(ignore_index=ignore_index)
        self.seen = set()

    def forward(self, logits, target):
        self.seen.add(target.dtype)
        return self.loss(logits, target)


@pytest.fixture
def own_model():
    MODELS.register("plain_of_my_own", build_plain)


@pytest.mark.parametrize("variant", [None, "wide"])
def test_network_of_a_plain_builder_is_trained_and_saved(tables, own_model, variant):
    tables["model"] = {"name": "plain_of_my_own", "params": {"width": 3}} | ({"variant": variant} if variant else {})
    result = Trainer(load_config(tables)).run()
    network = load_model(result.run_dir / "model_best.pt")
    assert isinstance(network, Plain)
    assert network.layers[0].out_channels == (3 if variant is None else 6)
    assert Trainer(load_config(tables), resume=True).position.finished


def test_loss_around_one_of_torch_gets_int64_masks(tables):
    LOSSES.register("Strict", StrictLoss)
    tables["criterion"] = {"name": "Strict"}
    trainer = Trainer(load_config(tables))
    trainer.run()
    assert trainer.parts.criterion.criterion.seen == {torch.int64}


# ---- states that a checkpoint stores ---------------------------------------------------------------------------------


class Decay:
    """A function of a scheduler that returns a NumPy number, and whose state holds `kept`."""

    def __init__(self, kept):
        self.kept = kept

    def __call__(self, step):
        return np.float64(0.9) ** step


def use_scheduler(kept, tables):
    def numpy_decay(optimizer, last_epoch=-1):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, Decay(kept), last_epoch)

    SCHEDULERS.register("NumpyDecay", numpy_decay)
    tables["lr_scheduler"] = {"name": "NumpyDecay"}


def test_numbers_of_numpy_in_states_are_stored_as_plain_numbers(tables):
    kept = {"f": np.float32(0.1), "i": np.int64(3), "b": np.bool_(True), np.int32(7): [np.float64("inf")]}
    use_scheduler(kept, tables)
    result = Trainer(load_config(tables)).run()
    content = load_checkpoint(result.run_dir / "checkpoints" / "last.pt")
    assert repr(np.float32(0.1)) not in repr(content["scheduler"])
    assert "'i': 3, 'b': True, 7: [inf]" in repr(content["scheduler"])
    assert type(content["optimizer"]["param_groups"][0]["lr"]) is float
    tables["trainer"]["epochs"] = 3
    resumed = Trainer(load_config(tables), resume=True)
    assert resumed.position.step == 6
    resumed.run()


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (Path("x.csv"), r"scheduler\..*kept = 'x.csv' of type PosixPath"),
        ({"mode": [enum.Enum("Mode", "MAX").MAX]}, r"kept\.mode\[0\] = 'Mode.MAX' of type Mode"),
        (enum.IntEnum("Level", "HIGH").HIGH, r"kept = '1' of type Level"),
        (np.zeros(2), r"kept = '\[0. 0.\]' of type ndarray"),
        ({Path("x.csv"): 1}, r"a key of .*kept = 'x.csv' of type PosixPath"),
    ],
)
def test_state_that_cannot_be_stored_is_refused_before_the_first_step(tables, kept, words):
    use_scheduler(kept, tables)
    trainer = Trainer(load_config(tables))
    with pytest.raises(InvalidArgumentError, match=words):
        trainer.run()
    assert trainer.position.step == 0


# ---- weights for networks of own builders ----------------------------------------------------------------------------


def build_of_anything(**options):
    """As many write it: whatever the trainer passes is ignored."""
    return Plain(options["num_classes"], options.get("width", 4))


def build_with_weights(*, num_classes, weights, **others):
    assert others["weights_backbone"] is None
    network = Plain(num_classes)
    network.given = weights
    return network


@pytest.fixture
def first(tables):
    """The model file of a run."""
    MODELS.register("of_anything", build_of_anything)
    MODELS.register("with_weights", build_with_weights)
    tables["model"] = {"name": "of_anything"}
    tables["trainer"] = {**tables["trainer"], "epochs": None, "steps": 1}
    del tables["trainer"]["epochs"]
    result = Trainer(load_config(tables)).run()
    tables["paths"]["run"] = "second"
    return result.run_dir / "model.pt"


def start_of(tables, **options):
    return Trainer(load_config(tables, **options)).network.network


@pytest.mark.parametrize("kind", ["model file", "state dict", "run folder"])
@pytest.mark.parametrize("builder", ["of_anything", "with_weights"])
def test_file_of_weights_is_loaded_whatever_the_builder_does(tables, first, tmp_path, kind, builder):
    expected = load_model(first).state_dict()
    path = {"model file": first, "state dict": tmp_path / "state.pth", "run folder": first.parent}[kind]
    if kind == "state dict":
        torch.save({"state_dict": expected}, path)
    if kind == "run folder":
        expected = load_model(first.parent / "model_best.pt").state_dict()
    tables["model"] = {"name": builder}
    network = start_of(tables, weights=str(path))
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert getattr(network, "given", None) is None, "the builder does not load it too"


def test_file_of_another_network_or_none_is_refused(tables, first, tmp_path):
    tables["model"] = {"name": "of_anything", "params": {"width": 5}, "weights": str(first)}
    with pytest.raises(ConfigError, match=r"model.weights = .* the tensor 'layers.0.weight' has shape \(4, 3, 3, 3\)"):
        start_of(tables)
    tables["model"] = {"name": "of_anything", "weights": str(tmp_path / "none.pt")}
    with pytest.raises(ConfigError, match="there is no such file"):
        start_of(tables)


def test_names_of_weights_go_only_to_builders_that_take_them(tables, first):
    tables["model"] = {"name": "with_weights", "weights": "DEFAULT"}
    assert start_of(tables).given == "DEFAULT"
    tables["model"]["name"] = "of_anything"
    with pytest.raises(ConfigError, match=r"of_anything has no parameter .*or give the path"):
        load_config(tables)
    tables["model"] = {"name": "of_anything", "weights_backbone": "DEFAULT"}
    with pytest.raises(ConfigError, match=r'model.weights_backbone = "DEFAULT": of_anything has no parameter'):
        load_config(tables)


def test_run_from_a_file_is_resumed_without_it(tables, first):
    tables["model"] = {"name": "of_anything", "weights": str(first)}
    Trainer(load_config(tables)).run()
    first.unlink()
    assert Trainer(load_config(tables), resume=True).position.finished
