"""When a run evaluates, which weights, which are the best, and when it stops early."""

import copy
import json
import math

import pytest
import torch

from seg_core import load_model, read_model_info
from seg_core.errors import ConfigError
from seg_train import Trainer, evaluate, load_config
from seg_train.loggers.base import Moment
from seg_train.monitor import Monitor
from seg_train.run import build
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.ema import WeightAverage
from seg_train.run.state import Position


def run(tables, *overrides, resume=False):
    return Trainer(load_config(tables, overrides), resume=resume).run()


def rows(result, kind="epoch"):
    lines = (result.run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_evaluations_every_other_epoch_and_at_the_end(tables):
    result = run(tables, "evaluation.every_epochs=2", "trainer.epochs=5")
    found = rows(result)
    assert [(row["epoch"], row["step"], "miou" in row) for row in found] == [
        (1, 3, False), (2, 6, True), (3, 9, False), (4, 12, True), (5, 15, True),
    ]  # fmt: skip
    assert all(row["train_loss"] > 0 for row in found)
    assert found[-1]["miou"] == result.scores["miou"]


def test_evaluations_every_few_steps(tables):
    result = run(tables, "evaluation.every_steps=2", "trainer.epochs=2", "log.local.max_drawing_share=1")
    found = rows(result)
    # 3 steps an epoch: within it, at its end without an evaluation, and at the end of the run
    assert [(row["epoch"], row["step"], "miou" in row) for row in found] == [
        (1, 2, True), (1, 3, False), (2, 4, True), (2, 6, True),
    ]  # fmt: skip
    names = sorted(p.name for p in (result.run_dir / "confusion").iterdir())
    assert names == ["epoch_0001_step_00000002.png", "epoch_0002.png", "epoch_0002_step_00000004.png"]


def test_rows_of_training_cover_each_step_once(tables):
    """The mean loss of an epoch is that of its rows, each weighted by its steps."""
    whole = run(tables, "paths.run=a", "trainer.epochs=1", "trainer.log_every_steps=1")
    parts = run(tables, "paths.run=b", "trainer.epochs=1", "evaluation.every_steps=2")
    losses = [row["loss"] for row in rows(whole, "step")]
    first, second = (row["train_loss"] for row in rows(parts))
    assert first == pytest.approx(sum(losses[:2]) / 2)
    assert second == pytest.approx(losses[2])


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_run_that_evaluates_within_epochs_resumes_exactly(step, tables):
    from tests.train.run.test_trainer import assert_equal_weights, run_until, without_times

    options = ["evaluation.every_steps=2", "trainer.ema_decay=0.8", "trainer.log_every_steps=1"]
    whole = run(tables, *options, "paths.run=whole")
    run_until(tables, step, *options, "paths.run=stopped")
    resumed = run(tables, *options, "paths.run=stopped", resume=True)
    found = [load_checkpoint(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)]
    assert_equal_weights(*(content["model"] for content in found))
    assert_equal_weights(*(content["average"]["tensors"] for content in found))
    assert without_times(rows(whole)) == without_times(rows(resumed))


@pytest.mark.parametrize(
    ("moment", "name", "title"),
    [
        (Moment(4, 120), "epoch_0004", "epoch 4"),
        (Moment(4, 120, "ema"), "epoch_0004_ema", "epoch 4, ema"),
        (Moment(4, 120, "ema", epoch_ended=False), "epoch_0004_step_00000120_ema", "epoch 4, step 120, ema"),
    ],
)
def test_moments_name_files_and_titles(moment, name, title):
    assert (moment.name, moment.title) == (name, title)


# ---- EMA -------------------------------------------------------------------------------------------------------------


def test_average_follows_its_formula():
    """Against the recurrence written down in Python."""
    tensors = {"w": torch.tensor([1.0, -2.0]), "count": torch.tensor(0)}
    average = WeightAverage(tensors, decay=0.5)
    expected = [1.0, -2.0]
    for n in range(12):
        tensors["w"] += torch.tensor([0.25, n])
        tensors["count"] += 1
        average.update(tensors)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, tensors["w"].tolist(), strict=True)]
    assert average.tensors["w"].tolist() == pytest.approx(expected, rel=1e-5)
    assert average.tensors["count"] == 12
    assert average.updates == 12


def test_average_does_not_touch_the_weights(tables):
    plain = run(tables, "paths.run=plain")
    averaged = run(tables, "paths.run=averaged", "trainer.ema_decay=0.9")
    first, second = (load_checkpoint(r.run_dir / "checkpoints" / "last.pt")["model"] for r in (plain, averaged))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["miou"] for row in rows(plain)] == [row["miou"] for row in rows(averaged)]


def test_average_is_evaluated_logged_and_saved(tables, stripes):
    result = run(tables, "trainer.ema_decay=0.9", "log.local.max_drawing_share=1")
    row = rows(result)[-1]
    assert {"ema_miou", "ema_acc", "ema_macc", "ema_fwiou", "ema_dice", "ema_val_loss"} <= row.keys()
    assert row["ema_iou_per_class"].keys() == {"dark", "bright", "never"}
    model = load_model(result.run_dir / "model_ema.pt")
    assert model.model_info.metrics["miou"] == row["ema_miou"]
    assert evaluate(model, stripes(split="val"), batch_size=4).summarize()["miou"] == row["ema_miou"]
    kept = load_checkpoint(result.run_dir / "checkpoints" / "last.pt")["average"]["tensors"]
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert row["ema_miou"] != row["miou"]
    for kind in ("confusion", "snapshots"):
        assert (result.run_dir / kind / "epoch_0002_ema.png").is_file()
    header = (result.run_dir / "epochs.csv").read_text().splitlines()[0].split(",")
    assert {"ema_miou", "iou_per_class.dark", "ema_iou_per_class.dark"} <= set(header)


def test_best_is_that_of_the_average_if_it_is_monitored(tables):
    result = run(tables, "trainer.ema_decay=0.9", "trainer.epochs=4", "evaluation.monitor=ema_miou")
    scores = [row["ema_miou"] for row in rows(result)]
    best = load_model(result.run_dir / "model_best.pt")
    assert best.model_info.metrics["miou"] == max(scores)
    average = load_checkpoint(result.run_dir / "checkpoints" / "best.pt")["average"]["tensors"]
    assert all(torch.equal(average[name], value) for name, value in best.state_dict().items())


def test_best_is_the_better_one_of_last_weights_and_average(tables):
    result = run(tables, "trainer.ema_decay=0.9", "trainer.epochs=4")
    scores = [max(row["miou"], row["ema_miou"]) for row in rows(result)]
    best = load_model(result.run_dir / "model_best.pt")
    assert best.model_info.metrics["miou"] == max(scores)
    kept = load_checkpoint(result.run_dir / "checkpoints" / "best.pt")
    assert kept["position"]["best"] == max(scores)
    weights = kept["average"]["tensors"] if max(scores) > max(r["miou"] for r in rows(result)) else kept["model"]
    assert all(torch.equal(weights[name], value) for name, value in best.state_dict().items())


# ---- the best, and early stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "best", "min_delta", "better"),
    [
        ("miou", 0.6, None, 0.0, True),
        ("miou", 0.6, 0.5, 0.0, True),
        ("miou", 0.5, 0.5, 0.0, False),
        ("miou", 0.55, 0.5, 0.1, False),
        ("miou", math.nan, None, 0.0, False),
        ("val_loss", 0.4, 0.5, 0.0, True),
        ("val_loss", 0.6, 0.5, 0.0, False),
        ("val_loss", 0.45, 0.5, 0.1, False),
        ("ema_val_loss", 0.4, 0.5, 0.0, True),
    ],
)
def test_better_is_higher_except_for_losses(name, value, best, min_delta, better):
    assert Monitor(name, has_ema=True).is_better(value, best, min_delta) is better


def test_iou_of_a_class_can_be_monitored():
    monitor = Monitor("ema_iou_per_class.traffic light. red", True, ("sky", "traffic light. red"))
    assert monitor.best_of({"ema_iou_per_class": {"sky": 0.1, "traffic light. red": 0.2}}) == (0.2, "ema")
    assert monitor.best_of({"ema_iou_per_class": {"traffic light. red": None}}) == (None, "ema")


@pytest.mark.parametrize(
    ("last", "ema", "found"),
    [
        (0.5, 0.6, (0.6, "ema")),
        (0.6, 0.5, (0.6, "last")),
        (0.6, 0.6, (0.6, "last")),
        (None, 0.5, (0.5, "ema")),
        (math.nan, 0.5, (0.5, "ema")),
        (math.nan, None, (None, "last")),
        (0.5, None, (0.5, "last")),
        (None, None, (None, "last")),
    ],
)
def test_by_default_the_better_one_of_last_weights_and_average_counts(last, ema, found):
    assert Monitor.of(None, True, ("sky",)).best_of({"miou": last, "ema_miou": ema}) == found
    assert Monitor.of("ema_miou", True, ("sky",)).best_of({"miou": last, "ema_miou": ema}) == (ema, "ema")


def test_loss_of_a_network_that_diverged_counts_as_no_better():
    assert math.isnan(Monitor("val_loss").best_of({"val_loss": math.nan})[0])
    assert Monitor("val_loss").best_of({"val_loss": None}) == (None, "last")


def test_small_improvements_add_up_for_early_stopping():
    position, monitor = Position(), Monitor("miou")
    stale = []
    for value in (0.5, 0.506, 0.512, 0.518, 0.524, None, 0.525):
        is_best = position.update_best(value, monitor, 0.01)
        assert is_best is (value is not None)
        stale.append(position.stale)
    assert stale == [0, 1, 0, 1, 0, 0, 1]
    assert (position.best, position.counted) == (0.525, 0.524)


def test_score_of_an_absent_class_is_told_and_does_not_stop_the_run(tables):
    warned = []
    overrides = ["trainer.epochs=4", "evaluation.patience=2", "evaluation.monitor=iou_per_class.never"]
    trainer = Trainer(load_config(tables, overrides))
    trainer.progress.warn = warned.append
    result = trainer.run()
    assert len(rows(result)) == 4
    assert [text for text in warned if 'evaluation.monitor = "iou_per_class.never": this score is undefined' in text]
    assert sum("undefined" in text for text in warned) == 1
    assert (result.run_dir / "model.pt").is_file()
    assert not (result.run_dir / "model_best.pt").exists()


def test_monitored_loss_chooses_the_best(tables):
    result = run(tables, "evaluation.monitor=val_loss", "trainer.epochs=5")
    losses = [row["val_loss"] for row in rows(result)]
    assert load_checkpoint(result.run_dir / "checkpoints" / "best.pt")["position"]["best"] == min(losses)


@pytest.mark.parametrize("name", ["loss", "mIoU", "train_loss", "iou_per_class", "iou_per_class.", "ema_acc"])
def test_unknown_score_is_an_error(name):
    with pytest.raises(ConfigError, match="evaluation.monitor"):
        Monitor(name, False, ("sky",))


def test_run_stops_early_without_a_better_score(tables):
    said = []
    trainer = Trainer(load_config(tables, ["trainer.epochs=50", "evaluation.patience=2", "evaluation.min_delta=1"]))
    trainer.progress.message = said.append
    result = trainer.run()
    found = rows(result)
    # the first is the best so far; no other is better by 1
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert any("stopped early: miou was not better than" in text for text in said)
    assert Trainer(
        load_config(tables, ["trainer.epochs=50", "evaluation.patience=2", "evaluation.min_delta=1"]), resume=True
    ).position.finished


def test_patience_is_counted_over_a_resumed_run(tables):
    from tests.train.run.test_trainer import run_until

    options = ["trainer.epochs=50", "evaluation.patience=3", "evaluation.min_delta=1"]
    run_until(tables, 7, *options)
    assert [row["epoch"] for row in rows(run(tables, *options, resume=True))] == [1, 2, 3, 4]


def test_plateau_waits_for_evaluations(tables):
    """Epochs without an evaluation do not count for a scheduler that watches a score."""
    plateau = "lr_scheduler={name = 'ReduceLROnPlateau', params = {monitor = 'acc', patience = 0, threshold = 9.0}}"
    result = run(tables, plateau, "trainer.epochs=6", "evaluation.every_epochs=2")
    assert [row["lr"] for row in rows(result)] == pytest.approx([0.02, 0.02, 0.02, 0.02, 0.002, 0.002])


# ---- precision, compiled code ----------------------------------------------------------------------------------------


def test_bf16_on_a_processor_that_does_not_compute_in_it_is_told(tables, monkeypatch):
    monkeypatch.setattr("seg_core.device.has_bf16", lambda device: False)
    with pytest.warns(UserWarning, match='does not compute in bf16, .*; use trainer.precision = "auto"'):
        Trainer(load_config(tables, ["trainer.precision=bf16"]))


def test_auto_precision_is_kept_by_a_resumed_run(tables, monkeypatch):
    tables["trainer"]["precision"] = "auto"
    monkeypatch.setattr("seg_train.run.build.fastest_precision", lambda device: "bf16")
    trainer = Trainer(load_config(tables, ["trainer.epochs=1"]))
    assert trainer.accelerator.mixed_precision == "bf16"
    trainer.run()
    monkeypatch.setattr("seg_train.run.build.fastest_precision", lambda device: "fp32")
    assert Trainer(load_config(tables, ["trainer.epochs=1"]), resume=True).accelerator.mixed_precision == "bf16"
    assert Trainer(load_config(tables, ["paths.run=new"])).accelerator.mixed_precision == "no"


def test_accumulation_is_the_same_step_but_for_batch_norm(tables):
    """TinyNet has batch norm and dropout: the losses differ a little, and the run has as many steps."""
    whole = run(tables, "paths.run=a")
    parts = run(tables, "paths.run=b", "trainer.accumulation_steps=2")
    assert [row["step"] for row in rows(parts)] == [row["step"] for row in rows(whole)]
    assert rows(parts)[0]["train_loss"] == pytest.approx(rows(whole)[0]["train_loss"], rel=0.2)


def test_deep_copy_of_a_config_gives_the_same_run(tables):
    first = run(copy.deepcopy(tables), "paths.run=a", "trainer.deterministic=true")
    second = run(copy.deepcopy(tables), "paths.run=b", "trainer.deterministic=true")
    weights = [load_checkpoint(r.run_dir / "checkpoints" / "last.pt")["model"] for r in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_info_of_the_last_model_is_that_of_the_last_weights(tables):
    result = run(tables, "trainer.ema_decay=0.9")
    assert read_model_info(result.run_dir / "model.pt").metrics["miou"] == result.scores["miou"]


def test_depthwise_convolutions_train_in_full_precision_and_predict_in_half():
    from torch import nn

    from seg_train.run.model import train_depthwise_in_full_precision

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, stride=2, groups=8), nn.Conv2d(8, 4, 1, groups=2))
    changed = copy.deepcopy(plain)
    train_depthwise_in_full_precision(changed)
    changed = copy.deepcopy(changed)  # as the copy that evaluates the EMA
    changed[1].weight.data += 1
    assert not torch.equal(plain[1].weight, changed[1].weight), "the copy has its own weights"
    changed[1].weight.data = plain[1].weight.data.clone()
    images, seen = torch.rand(2, 3, 32, 32), []
    for convolution in changed:
        convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            assert torch.equal(plain(images), changed(images))
        assert set(seen) == {torch.bfloat16}
        seen.clear()
        changed(images).float().sum().backward()
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert changed[1].weight.grad.isfinite().all()


def test_compiled_run_learns_the_same(tables, tiny_runs, monkeypatch):
    # captures the graph as ever, without the minute of generating C++ code; a GPU test compiles it whole
    plugin = build.TorchDynamoPlugin
    monkeypatch.setattr(build, "TorchDynamoPlugin", lambda backend: plugin(backend="aot_eager"))
    tables["model"]["name"] = "plain_net"
    tables["optimizer"] = {"name": "SGD", "params": {"lr": 0.05}}
    plain = run(tables, "paths.run=plain")
    compiled = run(tables, "paths.run=compiled", "trainer.compile=true")
    weights = [load_checkpoint(r.run_dir / "checkpoints" / "last.pt")["model"] for r in (plain, compiled)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-6)
