"""Runs on a GPU: precisions, compilation and exact resuming."""

import math

import pytest
import torch

from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import load_checkpoint
from tests.train.run.test_killed_runs import same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Collecting(Progress):
    """Keeps the warnings."""

    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def gpu_tables(tables):
    tables["trainer"] |= {"device": "cuda", "epochs": 4, "ema_decay": 0.9}
    return tables


def killed_at(step, config):
    """Starts a run that is killed after `step`, as far as that is possible within this process."""
    trainer = Trainer(config, progress=Collecting())
    log_step = trainer._log_step

    def log_and_die(*arguments):
        log_step(*arguments)
        if trainer.position.step == step:
            raise SystemExit(9)

    trainer._log_step = log_and_die
    with pytest.raises(SystemExit):
        trainer.run()


@pytest.mark.parametrize(
    "options", [{}, {"channels_last": False}, {"compile": True}], ids=["defaults", "nchw", "compile"]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_run_learns_in_every_precision(gpu_tables, precision, options):
    gpu_tables["trainer"] |= {"precision": precision, "epochs": 12, **options}
    result = Trainer(load_config(gpu_tables)).run()
    assert math.isfinite(result.scores["val_loss"])
    assert result.scores["acc"] > 0.9
    content = load_checkpoint(result.run_dir / "checkpoints" / "last.pt")
    assert content["precision"] == precision
    assert (content["scaler"] is None) == (precision != "fp16")


def test_default_precision_is_bf16(gpu_tables):
    gpu_tables["trainer"]["precision"] = "auto"
    assert Trainer(load_config(gpu_tables)).accelerator.mixed_precision == "bf16"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_killed_and_resumed_run_equals_an_uninterrupted_one(gpu_tables, tmp_path, precision):
    gpu_tables["trainer"] |= {"precision": precision, "deterministic": True, "checkpoint_every_steps": 1}
    whole = Trainer(load_config(gpu_tables, ["paths.run=whole"]), progress=Collecting()).run()
    config = load_config(gpu_tables, ["paths.run=killed"])
    killed_at(5, config)
    resumed = Trainer(config, resume=True, progress=Collecting())
    assert resumed.position.step == 4, "the checkpoint before the step that was not written"
    resumed.run()
    found = [load_checkpoint(tmp_path / "runs" / run / "checkpoints" / "last.pt") for run in ("whole", "killed")]
    for key in ("model", "average", "optimizer", "scheduler", "scaler", "random"):
        assert same(found[0][key], found[1][key]), key
    assert whole.scores["miou"] == found[1]["last_row"]["miou"]


def test_deterministic_run_names_operations_without_an_algorithm(gpu_tables):
    gpu_tables["model"] = {"name": "enet"}  # with cross entropy, whose sum over pixels torch has no such algorithm for
    gpu_tables["trainer"] |= {"deterministic": True, "epochs": 1}
    progress = Collecting()
    Trainer(load_config(gpu_tables), progress=progress).run()
    assert progress.warnings
    for text in progress.warnings:
        assert "has no deterministic implementation on this device" in text


def test_out_of_memory_on_the_device_says_what_to_lower(gpu_tables):
    from seg_core.errors import NotEnoughMemoryError

    gpu_tables["data"]["transform"]["train"] = {"size": [2048, 2048]}
    gpu_tables["model"]["params"] = {"width": 4096}
    trainer = Trainer(load_config(gpu_tables))
    with pytest.raises(NotEnoughMemoryError, match="batch_size"):
        trainer.run()
