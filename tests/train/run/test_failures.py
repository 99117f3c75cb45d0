"""Failures that end a run, and those that must not."""

import json
import os
import re
import signal

import pytest
import torch

from seg_core.errors import ConfigError, NotEnoughMemoryError
from seg_core.progress import Progress
from seg_core.registry import DATASETS, LOGGERS, PREDICTORS
from seg_train import Logger, Trainer, load_config
from seg_train.data.batches import Batch
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.failures import (
    LossGuard,
    NonFiniteLossError,
    NonFiniteWeightsError,
    ProcessDiedError,
    WeightGuard,
    explain_failures,
)


class Collecting(Progress):
    def __init__(self):
        super().__init__()
        self.warnings, self.messages = [], []

    def warn(self, text):
        self.warnings.append(text)

    def message(self, text):
        self.messages.append(text)


# ---- a loss that is not finite ---------------------------------------------------------------------------------------


def poisoned(trainer, step, value):
    """The loss of one step is not finite."""
    criterion = trainer.parts.criterion
    forward = criterion.forward

    def poison(outputs, target, shares=None):
        loss = forward(outputs, target, shares)
        return loss * value if trainer.position.step == step - 1 else loss

    criterion.forward = poison


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_loss_that_is_not_finite_ends_the_run_and_names_the_files(value, tables, tmp_path):
    trainer = Trainer(load_config(tables, ["trainer.checkpoint_every_steps=1"]))
    poisoned(trainer, 5, value)
    plan = trainer.plan.batches(1)  # of the second epoch
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.run()
    report = json.loads((tmp_path / "runs" / "run" / "nonfinite_loss.json").read_text())
    assert (report["step"], report["epoch"]) == (5, 2)
    assert [sample["index"] for sample in report["samples"]] == list(plan[1])
    assert report["samples"][0]["files"] == [f"train/{plan[1][0]}.png"]
    message = str(caught.value)
    assert "the loss of step 5 (epoch 2) is" in message
    assert str(tmp_path / "runs" / "run" / "nonfinite_loss.json") in message
    assert "optimizer.params.lr" in message
    content = load_checkpoint(trainer.folder.checkpoints.last)
    assert content["position"]["step"] == 4
    assert all(v.isfinite().all() for v in content["model"].values())
    resumed = Trainer(load_config(tables, ["trainer.checkpoint_every_steps=1"]), resume=True).run()
    assert resumed.scores["step"] == 6


@pytest.mark.parametrize("scheduler", [True, False])
def test_advice_names_a_warmup_only_beside_a_scheduler(tables, scheduler):
    if not scheduler:
        del tables["lr_scheduler"]
    trainer = Trainer(load_config(tables))
    poisoned(trainer, 2, float("nan"))
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.run()
    assert ("warmup_steps" in str(caught.value)) == scheduler
    advised = re.findall(r"-s ([\w.]+=\w+)", str(caught.value))
    load_config(tables, [override for override in advised if "NAME" not in override])


def test_guard_that_is_asked_late_names_the_first_step(tables, tmp_path, stripes):
    guard = LossGuard(load_config(tables), tmp_path, stripes())
    empty = torch.empty(0)
    for step, loss in enumerate([1.0, float("nan"), float("nan"), 2.0], start=1):
        guard.add(torch.tensor(loss), step, Batch(empty, empty, [step, step + 1], 0, [step, step + 1]))
    assert "the loss of step 2 (epoch 1) is nan" in str(guard.check())
    assert [s["index"] for s in json.loads((tmp_path / "nonfinite_loss.json").read_text())["samples"]] == [2, 3]
    assert guard.check() is None, "it is reported once"


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_lower(error, tables):
    trainer = Trainer(load_config(tables))
    trainer.parts.criterion.forward = lambda *arguments: (_ for _ in ()).throw(error)
    with pytest.raises(NotEnoughMemoryError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message.startswith("out of memory during training (")
    for advice in (
        "raise trainer.accumulation_steps (now 1)",
        "lower data.loader.batch_size (now 4) or data.transform.train.size",
        'set trainer.precision = "bf16"',
    ):
        assert advice in message


def test_out_of_memory_of_whole_images_names_their_resize(tables):
    tables["data"]["transform"] = {"train": {"resize": {"size": [24, 32]}}}
    trainer = Trainer(load_config(tables))
    trainer.parts.criterion.forward = lambda *arguments: (_ for _ in ()).throw(MemoryError())
    with pytest.raises(NotEnoughMemoryError, match=r"batch_size \(now 4\) or data.transform.train.resize"):
        trainer.run()


def test_out_of_memory_in_an_evaluation_says_other_things(tables):
    trainer = Trainer(load_config(tables, ["evaluation.batch_size=3", "trainer.precision=bf16"]))
    if "tiled" not in PREDICTORS:
        PREDICTORS.register("tiled", lambda model, images: images)

    def predict(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer.validation.way = predict
    with pytest.raises(NotEnoughMemoryError) as caught:
        trainer.run()
    message = str(caught.value)
    assert "out of memory during evaluation (" in message
    assert "lower evaluation.batch_size (now 3)" in message
    assert "evaluation.tile = 512" in message
    assert "evaluation.loss = false" in message
    assert "trainer.precision" not in message


def test_other_errors_keep_their_traceback(tables):
    with pytest.raises(RuntimeError, match="a bug"), explain_failures(load_config(tables), "training"):
        raise RuntimeError("a bug")


# ---- processes -------------------------------------------------------------------------------------------------------


def test_worker_that_is_killed_ends_the_run_with_a_sentence(tables, stripes):
    class Deadly(stripes):
        def __getitem__(self, index):
            if index == 5 and torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    DATASETS._objects["Stripes"] = Deadly
    trainer = Trainer(load_config(tables, ["data.loader.num_workers=1"]))
    with pytest.raises(ProcessDiedError, match=r"a worker process .* was killed by the system \(Killed\)"):
        trainer.run()
    assert load_checkpoint(trainer.folder.checkpoints.last)["position"]["step"] == 0
    DATASETS._objects["Stripes"] = stripes
    assert Trainer(load_config(tables), resume=True).run().scores["step"] == 6


@pytest.mark.parametrize(
    "text",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:23",
        "NCCL communicator was aborted on rank 0: remote process exited or there was a network error",
    ],
)
def test_peer_that_died_is_named(text, tables):
    with (
        pytest.raises(ProcessDiedError, match="another process of this run died"),
        explain_failures(load_config(tables), "training"),
    ):
        raise RuntimeError(text)


def test_sigterm_stops_and_saves(tables):
    trainer = Trainer(load_config(tables, ["trainer.epochs=200"]))
    log_step = trainer._log_step

    def log_and_send(*arguments):
        log_step(*arguments)
        if trainer.position.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # launchers send it more than once

    trainer._log_step = log_and_send
    from seg_train.run.interruption import RunInterruptedError

    with pytest.raises(RunInterruptedError, match="stopped after step 4"):
        trainer.run()
    assert load_checkpoint(trainer.folder.checkpoints.last)["position"]["step"] == 4
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ---- loggers ---------------------------------------------------------------------------------------------------------

HOOKS = ("on_start", "on_step", "on_epoch", "on_confusion_matrix", "on_snapshots", "on_checkpoint", "on_end", "close")


@pytest.mark.parametrize("hook", [*HOOKS, "state"])
def test_logger_that_fails_is_left_out_and_the_run_goes_on(hook, tables):
    calls = []

    class Broken(Logger):
        pass

    for name in HOOKS:
        setattr(Broken, name, lambda self, *arguments, name=name: calls.append(name))

    def fail(self, *arguments):
        raise ConnectionError("no network")

    setattr(Broken, hook, fail)
    LOGGERS.register("broken", Broken)
    tables["log"]["broken"] = {}
    progress = Collecting()
    result = Trainer(load_config(tables), progress=progress).run()
    assert result.scores["epoch"] == 2
    assert len(progress.warnings) == 1
    assert progress.warnings[0].startswith(f"logger broken failed in {hook}; the run continues without it:")
    assert "ConnectionError: no network" in progress.warnings[0]
    assert "in fail" in progress.warnings[0], "whoever wrote the logger sees where"
    if hook == "on_start":
        assert calls == ["close"], "it is closed, and not called again"


def test_local_logger_that_cannot_write_keeps_its_rows(tables, monkeypatch):
    progress = Collecting()
    trainer = Trainer(load_config(tables, ["trainer.log_every_steps=1"]), progress=progress)
    local = trainer.loggers.loggers["local"]
    append, failures = local._append, []

    def append_unless_full(row):
        if row["step"] in (2, 3) and row["kind"] == "step":
            failures.append(row["step"])
            with monkeypatch.context() as patch:
                patch.setattr("pathlib.Path.open", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
                append(row)
        else:
            append(row)

    local._append = append_unless_full
    result = trainer.run()
    assert failures == [2, 3]
    assert len(progress.warnings) == 1, "it is told once"
    assert "logger local failed in on_step; it stays in use: cannot write" in progress.warnings[0]
    rows = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_logger_can_be_switched_off(tables):
    made = []

    class Own(Logger):
        def __init__(self, run_dir, key=0):
            super().__init__(run_dir)
            made.append(key)

    LOGGERS.register("own", Own)
    tables["log"]["own"] = {"key": 7}
    for enabled, built in (("false", []), ("true", [7])):
        loggers = Trainer(load_config(tables, [f"log.own.enabled={enabled}"])).loggers
        loggers.open()
        loggers.close()
        assert made == built


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("log.local.enabled=false", "log.local.enabled: the local logger is always on"),
        ("log.local.enable=false", "log.local.enable = False: local has no such parameter"),
    ],
)
def test_local_logger_cannot_be_switched_off(override, words, tables):
    with pytest.raises(ConfigError, match=words):
        load_config(tables, [override])


# ---- what a run says of itself ---------------------------------------------------------------------------------------


def test_deterministic_run_says_what_cannot_comply(tables):
    progress = Collecting()
    trainer = Trainer(load_config(tables, ["trainer.deterministic=true"]), progress=progress)
    body = trainer.network.network.body
    pool, unpool = torch.nn.MaxPool2d(2, return_indices=True), torch.nn.MaxUnpool2d(2)
    body.register_forward_hook(lambda module, inputs, output: unpool(*pool(output)))
    trainer.run()
    assert len(progress.warnings) == 1, progress.warnings
    assert (
        "trainer.deterministic: max_unpooling2d_forward_out has no deterministic implementation" in progress.warnings[0]
    )
    assert not torch.are_deterministic_algorithms_enabled(), "the process is as it was"


def test_deterministic_run_that_can_comply_says_nothing(tables):
    progress = Collecting()
    Trainer(load_config(tables, ["trainer.deterministic=true"]), progress=progress).run()
    assert progress.warnings == []


def test_predictor_of_the_config_is_used(tables):
    calls = []

    def sliding(model, images, tile=(8, 8), overlap=0.5):
        calls.append((tile, overlap))
        return model(images)["out"].argmax(1)  # labels, as streaming predictors give

    PREDICTORS.register("sliding", sliding)
    tables["evaluation"] = {"predictor": "sliding", "params": {"tile": [16, 16]}}
    result = Trainer(load_config(tables)).run()
    assert set(map(str, calls)) == {"([16, 16], 0.5)"}
    assert result.scores["val_loss"] is None, "labels have no loss"


@pytest.mark.parametrize(
    "watch",
    [
        {"evaluation": {"monitor": "val_loss", "predictor": "sliding"}},
        {
            "lr_scheduler": {"name": "ReduceLROnPlateau", "params": {"monitor": "loss"}},
            "evaluation": {"predictor": "sliding"},
        },
    ],
)
def test_watched_loss_of_a_way_without_logits_is_an_error_before_the_run(tables, tmp_path, watch):
    PREDICTORS.register("sliding", lambda model, images: model(images)["out"].argmax(1))
    with pytest.raises(ConfigError, match=r"needs val_loss, which is not computed \(the predictor 'sliding'"):
        Trainer(load_config(tables | watch))
    assert not (tmp_path / "runs").exists()


def test_loss_is_left_out_where_the_config_says_so(tables):
    tables["evaluation"] = {"loss": False}
    result = Trainer(load_config(tables)).run()
    assert result.scores["val_loss"] is None
    whole = Trainer(load_config(tables, ["evaluation.loss=true", "paths.run=whole"])).run()
    assert whole.scores["miou"] == result.scores["miou"]
    assert 0 <= result.scores["miou"] <= 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluation.predictor=tilde", 'evaluation.predictor = "tilde": '),
        ("evaluation.params={tiles = 3}", "evaluation.params.tiles = 3: whole has no such parameter"),
        ("evaluation.monitor=mIou", "Did you mean 'miou'"),
        ("evaluation.monitor=ema_miou", "with trainer.ema_decay the same with the prefix ema_"),
        (
            "evaluation={every_steps = 5, every_epochs = 1}",
            "give one of evaluation.every_epochs and evaluation.every_s",
        ),
        ("trainer.accumulation_steps=3", "data.loader.batch_size = 4: must be a multiple of 3"),
        ("trainer.ema_decay=1.0", "trainer.ema_decay = 1.0: must be less than 1"),
    ],
)
def test_wrong_keys_are_errors(override, words, tables):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [override])
    assert words in str(caught.value)


def test_class_that_is_not_there_cannot_be_monitored(tables):
    with pytest.raises(ConfigError, match=r"there is no class 'drak'. Did you mean 'dark'"):
        Trainer(load_config(tables, ["evaluation.monitor=iou_per_class.drak"]))


def test_fp16_on_a_cpu_is_an_error(tables):
    with pytest.raises(ConfigError, match='trainer.precision = "fp16" needs a GPU'):
        Trainer(load_config(tables, ["trainer.precision=fp16"]))


# ---- weights that are not finite -------------------------------------------------------------------------------------


def test_infinite_update_is_not_written(tables):
    """A finite loss, and a last step whose update is infinite: the files from before it stay."""
    tables["optimizer"] = {"name": "SGD", "params": {"lr": 1e37, "weight_decay": 1e8}}
    tables["lr_scheduler"] = {"name": "ConstantLR"}
    tables["trainer"]["epochs"] = 1
    tables["data"]["loader"]["batch_size"] = 12  # one step
    trainer = Trainer(load_config(tables))
    words = r"after step 1, \d+ entries of .* are NaN or infinite.*: they were not written; .*last.pt and the model"
    with pytest.raises(NonFiniteWeightsError, match=words) as caught:
        trainer.run()
    run = trainer.folder
    assert load_checkpoint(run.checkpoints.last)["position"]["step"] == 0
    assert not run.model.exists()
    command = re.search(r"seg train (\S+config.toml) -s paths.run=NAME", str(caught.value))
    config = load_config(command[1], ["paths.run=calmer", "optimizer.params.lr=0.01", "trainer.max_grad_norm=1"])
    assert Trainer(config).run().scores["miou"] >= 0


def test_infinity_that_a_network_starts_with_is_no_error(tables, tmp_path):
    network = torch.nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    guard = WeightGuard(load_config(tables), tmp_path, network)
    assert guard.check(3, tmp_path / "last.pt") is None
    with torch.no_grad():
        network.weight[0] = 3e38  # the sum of huge weights is not finite, but they are
    assert guard.check(3, tmp_path / "last.pt") is None
    with torch.no_grad():
        network.bias[1] = torch.nan
    assert "1 entries of bias are NaN or infinite: " in str(guard.check(3, tmp_path / "last.pt"))
