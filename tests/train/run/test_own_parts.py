"""Parts of a user's own in a run: a network of a plain builder, a loss around one of torch."""

import pytest
import torch
from torch import nn

from seg_core import load_model
from seg_core.registry import LOSSES, MODELS
from seg_train import Trainer, load_config


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
