"""Parts of a user's own in a run: a network of a plain builder, a loss around one of torch."""

import enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seg_core import load_model
from seg_core.errors import InvalidArgumentError
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
