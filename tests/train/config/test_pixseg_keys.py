"""A config of pixseg: each of its keys is told with what to write here, and following that gives a valid config."""

import re
import tomllib

import pytest

from seg_core.errors import ConfigError
from seg_train import load_config
from seg_train.config.pixseg_keys import _RENAMED, advice_on_pixseg, named_as_here
from seg_train.config.schema import all_keys

OLD = {
    "model": {"model": "enet", "state_file": "enet.pth", "params": {}},
    "data": {
        "dataset": {"dataset": "Shapes", "pad_crop_size": [64, 64], "params": {}},
        "loader": {"num_workers": 0, "params": {"batch_size": 2, "drop_last": True, "shuffle": True}},
        "augment": {"params": {"hflip": 0.5}},
    },
    "criterion": {"criterion": "DiceLoss", "class_weight": "class_frequency", "aux_weight": 0, "params": {}},
    "optimizer": {"optimizer": "SGD", "effective_batch_size": 8, "params": {"lr": 3e-4, "momentum": 0.9}},
    "lr_scheduler": {"lr_scheduler": "StepLR", "params": {"step_size": 20, "gamma": 0.1}},
    "scaler": {"params": {}},
    "trainer": {"device": "auto", "params": {"num_epochs": 50, "checkpoint_steps": 5, "best_by": "max:miou"}},
    "paths": {"runs_folder": "../runs", "checkpoint": "latest_checkpoint.pth"},
    "log": {"tensorboard": {"enabled": True, "params": {"log_dir": "x"}}},
}


def problems_of(tables):
    with pytest.raises(ConfigError) as caught:
        load_config(tables)
    return str(caught.value)


@pytest.mark.parametrize(
    "told",
    [
        'model.model = "enet": unknown key. Write model.name = "enet"',
        'model.state_file = "enet.pth": unknown key. Write model.weights = "enet.pth"',
        'data.dataset.dataset = "Shapes": unknown key. Write data.dataset.name = "Shapes"',
        "data.dataset.pad_crop_size = [64, 64]: unknown key. Write data.transform.train.size = [64, 64]",
        "data.loader.params: unknown key. Write data.loader.batch_size = 2; remove drop_last (",
        "data.augment.params: unknown key. Write data.augment.hflip = 0.5",
        'criterion.criterion = "DiceLoss": unknown key. Write criterion.name = "DiceLoss"',
        'criterion.class_weight = "class_frequency": unknown key. Write criterion.class_weights = "inverse"',
        'optimizer.optimizer = "SGD": unknown key. Write optimizer.name = "SGD"',
        "optimizer.effective_batch_size = 8: unknown key. Write this number as data.loader.batch_size",
        'Write lr_scheduler.name = "StepLR", and lr_scheduler.interval = "epoch"',
        'scaler: unknown key. Remove it: trainer.precision = "fp16" scales the loss by itself',
        'Write trainer.epochs = 50, evaluation.monitor = "miou"; remove checkpoint_steps (',
        'paths.runs_folder = "../runs": unknown key. Write paths.output = "../runs"',
        'paths.checkpoint = "latest_checkpoint.pth": unknown key. Remove it, and resume a run with: seg train --resume',
        "tensorboard has no such parameter. Write its keys in this section itself",
    ],
)
def test_each_key_is_told_with_what_to_write(told):
    assert told in problems_of(OLD)


def test_what_the_old_names_name_is_checked_too_and_nothing_else_is_told():
    found = problems_of(OLD)
    assert "missing" not in found  # the names are there, under other keys
    assert "no such parameter: momentum" not in found and "optimizer.params" not in found  # they are those of SGD
    wrong = {**OLD, "optimizer": {"optimizer": "SGB", "params": {}}}
    assert "Did you mean 'SGD'?" in problems_of(wrong)


def test_following_the_advice_gives_a_valid_config():
    kept = {"num_workers": 0}
    tables = {
        "model": {"params": {}},
        "data": {"dataset": {"params": {}}, "loader": kept},
        "criterion": {"aux_weight": 0.0, "params": {}},
        "optimizer": {"params": {"lr": 3e-4, "momentum": 0.9}},
        "lr_scheduler": {"params": {"step_size": 20, "gamma": 0.1}},
    }
    # every `key = value` after "Write" in the messages
    lines = []
    for line in problems_of(OLD).splitlines():
        advice = line.partition(" Write ")[2].partition("; remove")[0]
        lines += re.findall(r"[a-z_]+(?:\.[a-z_]+)+ = (?:\"[^\"]*\"|\[[^\]]*\]|[\d.]+)", advice)
    written = [line for line in lines if not line.startswith("model.weights")]  # a file that does not exist here
    assert len(written) >= 12
    overrides = [f"{key}={value}" for key, _, value in (line.partition(" = ") for line in written)]
    config = load_config(tables, overrides)
    assert config.model.name == "enet" and config.optimizer.name == "SGD" and config.trainer.epochs == 50
    assert config.data.loader.batch_size == 2 and tuple(config.data.transform.train.size) == (64, 64)


def test_keys_that_are_named_exist_and_others_have_no_advice():
    assert set(_RENAMED.values()) <= set(all_keys())
    assert advice_on_pixseg("trainer.epochs", 3) is None
    assert "remove it: without" in advice_on_pixseg("data.dataset.pad_crop_size", "none")
    assert advice_on_pixseg("data.dataset.dataset", "Cityscapes") == 'write data.dataset.name = "CityscapesClass"'
    assert advice_on_pixseg("trainer.params", {}) == "remove it: its keys stand in [trainer] itself"
    today = tomllib.loads('[model]\nname = "enet"\n[data.dataset]\nname = "Shapes"\n')
    assert named_as_here(today) == today
