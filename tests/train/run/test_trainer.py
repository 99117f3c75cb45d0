import json
import re
import signal
import warnings

import pytest
import torch

from seg_core import (
    DatasetMetadata,
    EvaluationProtocol,
    Preprocessing,
    SegmentationAugment,
    load_model,
    read_model_info,
)
from seg_core.errors import (
    ConfigError,
    CorruptFileError,
    InvalidArgumentError,
    InvalidTypeError,
    UsageError,
    WriteError,
)
from seg_core.metrics.protocol import digest_of_dataset
from seg_core.progress import QuietProgress
from seg_core.registry import DATASETS
from seg_train import BoundaryLoss, CrossEntropyLoss, DeepSupervision, DiceLoss, Trainer, load_config
from seg_train.run.build import build_accelerator
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.data import build_data, open_data
from seg_train.run.interruption import RunInterruptedError
from seg_train.run.normalization import find_normalization
from seg_train.run.objects import RunObjects


def run(tables, *overrides, resume=False):
    return Trainer(load_config(tables, overrides), resume=resume).run()


def rows(result, kind=None):
    lines = (result.run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if kind in (None, row["kind"])]


def without_times(found):
    measured = ("seconds", "images_per_second", "data_wait", "memory_mib")
    return [{k: v for k, v in row.items() if k not in measured} for row in found]


def weights_of(path):
    return load_checkpoint(path)["model"]


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def stop_at(trainer, step):
    """Ctrl-C after a given step."""
    log_step = trainer._log_step

    def log_and_stop(*arguments):
        log_step(*arguments)
        if trainer.position.step == step:
            trainer._interruption.requested = True

    trainer._log_step = log_and_stop


def run_until(tables, step, *overrides):
    trainer = Trainer(load_config(tables, overrides))
    stop_at(trainer, step)
    with pytest.raises(RunInterruptedError) as caught:
        trainer.run()
    return str(caught.value)


def test_augmentation_follows_the_config_and_the_metadata_of_the_dataset(tables, stripes, monkeypatch):
    metadata = DatasetMetadata("Stripes", ("dark", "bright", "never"), ignore_index=9, left_right_pairs=[[0, 2]])
    monkeypatch.setattr(stripes, "metadata", metadata)
    tables["data"]["augment"] = {
        "rotation_range": [-20, 20],
        "zoom_range": [0.8, 1.2],
        "perspective": 0.2,
        "blur": 0.5,
        "color_jitter": [0.2, 0.2, 0.2],
        "auto_contrast": 0.3,
    }
    config = load_config(tables)
    accelerator, progress = build_accelerator(config), QuietProgress()
    splits = open_data(config, accelerator, RunObjects())
    normalization = find_normalization(config, None, splits.train_set, accelerator, progress)
    data = build_data(config, accelerator, splits, normalization)
    expected = SegmentationAugment(
        rotation_range=(-20, 20),
        zoom_range=(0.8, 1.2),
        perspective=0.2,
        blur=0.5,
        color_jitter=(0.2, 0.2, 0.2),
        auto_contrast=0.3,
        mask_fill=9,
        left_right_pairs=[(0, 2)],
    )
    assert repr(data.augment) == repr(expected)
    assert data.preprocessing == Preprocessing()


def test_run_with_every_augmentation_resumes_exactly(tables, tmp_path):
    tables["data"]["augment"] = {"hflip": 0.5, "rotation_range": [-20, 20], "perspective": 0.2, "blur": 0.5}
    tables["data"]["augment"] |= {"color_jitter": [0.2, 0.2, 0.2, 0.05], "auto_contrast": 0.3}
    whole = run(tables, "paths.run=whole")
    run_until(tables, 2, "paths.run=stopped")
    resumed = run(tables, "paths.run=stopped", resume=True)
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)))


@pytest.mark.smoke
def test_run_learns_and_leaves_everything_in_the_run_folder(tables, tmp_path):
    options = ["trainer.epochs=8", "log.local.max_drawing_share=0.03"]
    result = run(tables, *options)
    assert result.run_dir == tmp_path / "runs" / "run"
    assert result.scores["miou"] > 0.9
    found = {str(p.relative_to(result.run_dir)) for p in result.run_dir.rglob("*") if p.is_file()}
    assert found >= {
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "model.pt",
        "model_best.pt",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "plots/metrics.png",
        "confusion/epoch_0001.png",
        "confusion/epoch_0008.png",
        "snapshots/epoch_0001.png",
        "snapshots/epoch_0008.png",
    }
    hidden = [name for name in found if "/." in name or name.startswith(".")]
    assert hidden == [".lock"], "the lock's file stays; no temporary files are left"
    assert load_config(result.run_dir / "config.toml") == load_config(tables, options)
    assert json.loads((result.run_dir / "environment.json").read_text())["packages"]["torch"]


def test_rows_hold_what_readers_expect(tables):
    result = run(tables, "trainer.epochs=6", "trainer.log_every_steps=4")
    steps, epochs = rows(result, "step"), rows(result, "epoch")
    assert [row["step"] for row in steps] == [4, 8, 12, 16]
    assert steps[0].keys() == {
        "kind", "epoch", "step", "loss", "lr", "images_per_second", "data_wait", "memory_mib", "seconds",
    }  # fmt: skip
    assert [(row["epoch"], row["step"]) for row in epochs] == [(i, 3 * i) for i in range(1, 7)]
    last = epochs[-1]
    assert last["iou_per_class"].keys() == {"dark", "bright", "never"}
    assert last["iou_per_class"]["never"] is None
    assert {"train_loss", "train_miou", "val_loss", "miou", "acc", "macc", "fwiou", "dice", "lr"} <= last.keys()
    assert last["seconds"] >= epochs[0]["seconds"] > 0
    assert last["miou"] == result.scores["miou"]


def test_model_file_says_how_it_was_evaluated_and_loads(tables, stripes):
    result = run(tables)
    model = load_model(result.run_dir / "model.pt")
    info = model.model_info
    assert info.metrics["miou"] == pytest.approx(result.scores["miou"])
    assert info.protocol_text == (
        "val split of Stripes (12 images), each image at its own size, predictor whole, fp32, absent=skip"
    )
    protocol = EvaluationProtocol.from_dict(info.protocol)
    assert protocol.classes == ("dark", "bright", "never")
    assert protocol.digest == digest_of_dataset(stripes(split="val"))
    assert info.metadata.labels == ("dark", "bright", "never")
    assert info.preprocessing.scale is None
    assert_equal_weights(model.state_dict(), weights_of(result.run_dir / "checkpoints" / "last.pt"))


def test_val_resize_becomes_the_preprocessing_of_the_model_file(tables):
    result = run(tables, "evaluation.resize={scale = 0.5}", "trainer.epochs=1")
    info = read_model_info(result.run_dir / "model.pt")
    assert info.preprocessing.scale == 0.5
    assert info.protocol["resize"] == {"scale": 0.5}


def test_scores_are_those_of_evaluate_on_the_saved_model(tables, stripes):
    from seg_train import evaluate

    result = run(tables)
    store = evaluate(load_model(result.run_dir / "model.pt"), stripes(split="val"), batch_size=5)
    assert store.summarize()["miou"] == result.scores["miou"]
    assert store.confusion_matrix.sum() == 12 * (32 * 24 - 1), "each pixel of val counts once"


def test_best_model_is_that_of_the_best_epoch(tables):
    # a learning rate that grows until it destroys the network: the best epoch is not the last
    scheduler = "lr_scheduler={name = 'ExponentialLR', params = {gamma = 30.0}, interval = 'epoch'}"
    result = run(tables, "trainer.epochs=5", scheduler, "optimizer.name=SGD", "optimizer.params.lr=0.05")
    scores = [row["miou"] for row in rows(result, "epoch")]
    assert max(scores) > scores[-1]
    best = read_model_info(result.run_dir / "model_best.pt")
    assert best.metrics["miou"] == max(scores)
    assert load_checkpoint(result.run_dir / "checkpoints" / "best.pt")["last_row"]["miou"] == max(scores)


def test_equal_seeds_give_equal_runs_and_others_do_not(tables):
    first = run(tables, "paths.run=a")
    again = run(tables, "paths.run=b", "data.loader.num_workers=2")
    other = run(tables, "paths.run=c", "trainer.seed=1")
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (first, again)))
    assert without_times(rows(first)) == without_times(rows(again)) != without_times(rows(other))


@pytest.mark.smoke
@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(tables, step, precision):
    options = [f"trainer.precision={precision}", "criterion.class_weights=enet", "model.aux_loss=true"]
    with pytest.warns(UserWarning, match="do not occur"):
        whole = run(tables, "paths.run=whole", *options)
    with pytest.warns(UserWarning, match="do not occur"):
        message = run_until(tables, step, "paths.run=halves", *options)
    assert f"stopped after step {step} of 6" in message
    assert f"seg train --resume {whole.run_dir.parent / 'halves'}" in message
    resumed = run(tables, "paths.run=halves", *options, resume=True)
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)))
    assert without_times(rows(whole)) == without_times(rows(resumed))
    assert (whole.run_dir / "class_weights.json").read_text() == (resumed.run_dir / "class_weights.json").read_text()


def test_interrupt_during_evaluation_resumes_with_the_evaluation(tables):
    whole = run(tables, "paths.run=whole")
    trainer = Trainer(load_config(tables, ["paths.run=halves"]))
    way = trainer.validation.way

    def interrupting(*arguments, **options):
        trainer._interruption.requested = True
        return way(*arguments, **options)

    trainer.validation.way = interrupting
    with pytest.raises(RunInterruptedError, match=r"stopped after step 3 of 6 \(epoch 1\)"):
        trainer.run()
    resumed = run(tables, "paths.run=halves", resume=True)
    assert without_times(rows(whole)) == without_times(rows(resumed))


def test_rows_newer_than_the_checkpoint_are_dropped_on_resume(tables):
    whole = run(tables, "paths.run=whole", "trainer.log_every_steps=1")
    options = ["paths.run=halves", "trainer.log_every_steps=1", "trainer.checkpoint_every_steps=2"]
    trainer = Trainer(load_config(tables, options))

    class Killed(BaseException):
        pass

    def on_step(row, original=trainer.loggers.loggers["local"].on_step):
        original(row)
        if row["step"] == 5:
            raise Killed

    trainer.loggers.loggers["local"].on_step = on_step
    with pytest.raises(Killed):
        trainer.run()
    assert load_checkpoint(trainer.folder.checkpoints.last)["position"]["step"] == 4
    resumed = run(tables, *options, resume=True)
    assert without_times(rows(resumed)) == without_times(rows(whole))
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)))


def test_finished_run_resumed_says_so_and_gives_the_same_scores(tables):
    from seg_core.progress import Progress

    said = []

    class Collecting(Progress):
        def message(self, text):
            said.append(text)

    first = run(tables)
    before = (first.run_dir / "metrics.jsonl").read_bytes()
    again = Trainer(load_config(tables), resume=True, progress=Collecting()).run()
    assert again.scores["miou"] == first.scores["miou"]
    assert said == [f"the run in {first.run_dir} is finished; there is nothing left to do"]
    assert (first.run_dir / "metrics.jsonl").read_bytes() == before


def test_steps_end_a_run_within_an_epoch(tables):
    del tables["trainer"]["epochs"]
    result = run(tables, "trainer.steps=4")
    assert [(row["epoch"], row["step"]) for row in rows(result, "epoch")] == [(1, 3), (2, 4)]


def test_polynomial_scheduler_spans_the_run(tables):
    result = run(tables, "trainer.log_every_steps=1", "trainer.epochs=4")
    rates = [row["lr"] for row in rows(result, "step")]
    assert rates == pytest.approx([0.02 * (1 - step / 12) for step in [*range(1, 12), 11]])


def test_one_cycle_takes_its_peak_from_the_optimizer(tables):
    result = run(tables, "lr_scheduler.name=OneCycleLR", "trainer.log_every_steps=1", "trainer.epochs=4")
    rates = [row["lr"] for row in rows(result, "step")]
    assert max(rates) == pytest.approx(0.02, rel=0.1)
    assert rates[-1] < 1e-3


def test_epoch_scheduler_changes_once_per_epoch(tables):
    scheduler = "lr_scheduler={name = 'StepLR', params = {step_size = 1, gamma = 0.5}, interval = 'epoch'}"
    result = run(tables, scheduler, "trainer.epochs=3", "trainer.log_every_steps=1")
    assert [row["lr"] for row in rows(result, "step")] == [0.02] * 3 + [0.01] * 3 + [0.005] * 3


def test_warm_up_rises_by_steps_and_leaves_the_rest_to_the_scheduler(tables):
    scheduler = "lr_scheduler={name = 'PolynomialLR', warmup_steps = 2, warmup_factor = 0.5}"
    result = run(tables, scheduler, "trainer.log_every_steps=1")
    # after each of 6 steps: 0.02 is reached with the second, then a straight line down over the last four
    expected = [0.015, 0.02, 0.015, 0.01, 0.005]
    assert [row["lr"] for row in rows(result, "step")][:5] == pytest.approx(expected)


def test_plateau_lowers_the_rate_once_the_score_no_longer_rises_and_resumes_exactly(tables):
    plateau = "lr_scheduler={name = 'ReduceLROnPlateau', params = {monitor = 'acc', patience = 0, threshold = 9.0}}"
    options = [plateau, "trainer.epochs=4"]
    whole = run(tables, *options, "paths.run=whole")
    # no epoch is as much better as the threshold wants, so all after the first lower the rate of the next one
    assert [row["lr"] for row in rows(whole, "epoch")] == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    run_until(tables, 7, *options, "paths.run=stopped")
    resumed = run(tables, *options, "paths.run=stopped", resume=True)
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)))


def test_optimizer_that_needs_a_closure_trains(tables):
    lbfgs = "optimizer={name = 'LBFGS', params = {lr = 0.3, max_iter = 3}}"
    result = run(tables, lbfgs, "trainer.channels_last=false", "trainer.epochs=3")
    losses = [row["train_loss"] for row in rows(result, "epoch")]
    assert losses[-1] < losses[0]


def test_run_with_padam_and_groups_resumes_exactly(tables):
    optimizer = "optimizer={name = 'Padam', params = {lr = 0.1}, decay_norms_and_biases = false}"
    whole = run(tables, optimizer, "paths.run=whole")
    run_until(tables, 2, optimizer, "paths.run=stopped")
    resumed = run(tables, optimizer, "paths.run=stopped", resume=True)
    assert_equal_weights(*(weights_of(r.run_dir / "checkpoints" / "last.pt") for r in (whole, resumed)))


def test_backbone_factor_for_a_network_without_backbone_is_an_error(tables):
    with pytest.raises(InvalidArgumentError, match="TinyNet has no backbone"):
        Trainer(load_config(tables, ["optimizer.backbone_lr_factor=0.1"]))


def test_outputs_have_their_own_losses(tables):
    tables["model"] = {"name": "tiny_net", "aux_loss": True, "params": {"boundary": True}}
    tables["criterion"] = {
        "class_weights": [1.0, 2.0, 3.0],
        "params": {"label_smoothing": 0.1},
        "outputs": {"aux": {"weight": 0.2, "name": "DiceLoss"}, "boundary": {"weight": 3.0, "name": "BoundaryLoss"}},
        "boundary_aware_weight": 0.5,
    }
    trainer = Trainer(load_config(tables))
    result = trainer.run()
    assert result.scores["train_loss"] > 0
    weight = torch.tensor([1.0, 2.0, 3.0])
    main = CrossEntropyLoss(weight, label_smoothing=0.1)
    expected = DeepSupervision(
        main, outputs={"aux": (0.2, DiceLoss(weight)), "boundary": (3.0, BoundaryLoss())}, boundary_aware_weight=0.5
    )
    assert repr(trainer.parts.criterion) == repr(expected)


def test_output_without_a_loss_is_an_error_of_the_first_step(tables):
    tables["model"] = {"name": "tiny_net", "aux_loss": True, "params": {"boundary": True}}
    with pytest.raises(InvalidArgumentError, match="criterion.outputs.boundary"):
        run(tables)


def test_class_weights_of_wrong_length_end_the_run_before_the_network_is_built(tables):
    with pytest.raises(ConfigError, match="criterion.class_weights has 2 numbers but Stripes has 3 classes"):
        Trainer(load_config(tables, ["criterion.class_weights=[1, 2]"]))


def test_gradient_norm_is_clipped(tables):
    sgd = ("optimizer={name = 'SGD', params = {lr = 1.0}}", "trainer.epochs=1", "paths.run=a")
    result = run(tables, *sgd, "trainer.max_grad_norm=1e-9")
    start = Trainer(load_config(tables, ["paths.run=b"])).parts.model.state_dict()
    moved = weights_of(result.run_dir / "checkpoints" / "last.pt")
    assert torch.allclose(moved["head.weight"], start["head.weight"], atol=1e-6)


def test_auxiliary_outputs_join_the_loss(tables):
    first = run(tables, "model.aux_loss=true", "criterion.aux_weight=0", "paths.run=a", "trainer.epochs=1")
    second = run(tables, "model.aux_loss=true", "criterion.aux_weight=1", "paths.run=b", "trainer.epochs=1")
    assert rows(second, "step")[0]["loss"] > 1.5 * rows(first, "step")[0]["loss"]


def test_fused_optimizer_is_used_where_there_is_one(tables):
    assert Trainer(load_config(tables)).parts.optimizer.param_groups[0]["fused"] is True
    chosen = Trainer(load_config(tables, ["optimizer.params.foreach=false"])).parts.optimizer
    assert not chosen.param_groups[0]["fused"]


def test_two_trainers_of_different_precision_in_one_process(tables):
    first = run(tables, "paths.run=a", "trainer.epochs=1")
    second = run(tables, "paths.run=b", "trainer.epochs=1", "trainer.precision=bf16")
    assert rows(first)[0]["loss"] != rows(second)[0]["loss"]


def test_non_empty_folder_is_an_error_that_names_resume(tables):
    run(tables, "trainer.epochs=1")
    with pytest.raises(ConfigError, match=r"run is not empty; resume its run with `seg train --resume"):
        run(tables)


def test_nothing_is_written_before_run(tables, tmp_path):
    Trainer(load_config(tables))
    assert not (tmp_path / "runs").exists()


def test_failing_build_leaves_no_folder(tables, tmp_path):
    with pytest.raises(Exception, match="is no image"), warnings.catch_warnings():
        run(tables, "data.dataset.params.broken=2", "criterion.class_weights=enet")
    assert not (tmp_path / "runs").exists()


def test_nothing_to_resume_is_an_error(tables):
    with pytest.raises(UsageError, match=r"nothing to resume: .*run contains no checkpoints/last.pt; start a new run"):
        run(tables, resume=True)
    del tables["paths"]["run"]
    with pytest.raises(UsageError, match=r"nothing to resume: there is no run tiny_net-stripes-\* with a checkpoint"):
        run(tables, resume=True)


def test_newest_run_is_resumed_by_default(tables, tmp_path):
    run(tables, "paths.run=tiny_net-stripes-20240101-000000")
    newer = run(tables, "paths.run=tiny_net-stripes-20250101-000000")
    (tmp_path / "runs" / "tiny_net-stripes-20260101-000000").mkdir()
    del tables["paths"]["run"]
    assert run(tables, resume=True).run_dir == newer.run_dir


def test_new_runs_of_one_second_get_names_of_their_own(tables):
    del tables["paths"]["run"]
    names = {run(tables, "trainer.epochs=1").run_dir.name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("tiny_net-stripes-2") for name in names)


def test_resume_with_other_settings_names_them(tables):
    run(tables)
    with pytest.raises(ConfigError) as caught:
        run(tables, "optimizer.params.lr=0.5", resume=True)
    message = str(caught.value)
    assert " was started with other settings: optimizer.params.lr (run: 0.02, now: 0.5); resume it without" in message
    assert "this change, or start a new run from its weights: seg train CONFIG --weights " in message
    assert "These keys may change on resume: trainer.epochs or trainer.steps (the new total), and data." in message


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_damaged_checkpoint_is_refused_by_name(tables, damage):
    path = run(tables).run_dir / "checkpoints" / "last.pt"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[content.find(b"head.weight") + 2] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"weights": 1}, path)
    with pytest.raises(CorruptFileError) as caught:
        run(tables, resume=True)
    before = path.with_name("step_00000003.pt")
    assert str(path) in str(caught.value)
    assert f"{before} is intact; resume from it with: seg train --resume {before}" in str(caught.value)


def test_best_checkpoint_in_place_of_a_damaged_last_one_is_resumed(tables):
    folder = run(tables, "trainer.epochs=3").run_dir / "checkpoints"
    (folder / "last.pt").write_bytes((folder / "best.pt").read_bytes())
    result = run(tables, "trainer.epochs=3", resume=True)
    assert [row["epoch"] for row in rows(result, "epoch")] == [1, 2, 3]


def test_full_disk_is_reported_and_the_last_checkpoint_stays(tables):
    resource = pytest.importorskip("resource")
    trainer = Trainer(load_config(tables))
    saved = trainer.save
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save():
        if trainer.position.step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        saved()

    trainer.save = save
    try:
        with pytest.raises(WriteError, match="cannot write .*.pt"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(trainer.folder.checkpoints.last)["position"]["step"] == 0
    assert {p.name for p in trainer.folder.checkpoints.folder.iterdir()} == {"last.pt", "step_00000000.pt"}
    assert [row["epoch"] for row in rows(run(tables, resume=True), "epoch")] == [1, 2]


def test_batch_larger_than_the_split_says_what_to_lower(tables):
    with pytest.raises(ConfigError) as caught:
        run(tables, "data.loader.batch_size=13")
    assert 'data.dataset.train_split = "train" has 12 samples, fewer than the 13 of one batch' in str(caught.value)
    assert "lower data.loader.batch_size (now 13) to at most 12" in str(caught.value)


def test_val_split_without_samples_is_told_without_the_batch_size(tables, stripes):
    class Empty(stripes):
        def __len__(self):
            return 12 if self.split == "train" else 0

    DATASETS._objects["Stripes"] = Empty
    with pytest.raises(
        ConfigError, match='val_split = "val" has 0 samples; set data.dataset.val_split to a split with'
    ):
        run(tables)


def test_scheduler_that_ends_before_a_run_in_epochs_is_an_error(tables):
    tables["lr_scheduler"] = {"name": "PolynomialLR", "params": {"total_iters": 4}}
    with pytest.raises(ConfigError, match=r"total_iters = 4: PolynomialLR ends before the run, which has 6 steps, and"):
        run(tables)
    tables["lr_scheduler"]["params"] = {"total_iters": 1}
    with pytest.raises(
        ConfigError, match=r"total_iters = 1: PolynomialLR ends before the run, which has 2 epochs, and"
    ):
        run(tables, "lr_scheduler.interval=epoch")


def test_unreadable_sample_ends_the_run_with_one_sentence(tables):
    with pytest.raises(CorruptFileError, match="train/2.png is no image; replace it"):
        run(tables, "data.dataset.params.broken=2", "data.loader.num_workers=1")


def test_own_logger_gets_every_hook(tables):
    from seg_core.registry import LOGGERS
    from seg_train import Logger

    calls = []

    class Recorder(Logger):
        def __init__(self, run_dir, prefix=""):
            super().__init__(run_dir)
            self.prefix = prefix

        def on_start(self, config, environment, metadata):
            calls.append((self.prefix + "start", config["model"]["name"], metadata.name))

        def on_step(self, row):
            calls.append(("step", row["step"]))

        def on_epoch(self, row):
            calls.append(("epoch", row["epoch"]))

        def on_confusion_matrix(self, moment, matrix):
            calls.append(("confusion", moment.name, tuple(matrix.shape)))

        def on_snapshots(self, moment, snapshots):
            calls.append(("snapshots", moment.step, [s.index for s in snapshots], snapshots[0].prediction.shape))

        def on_checkpoint(self, path):
            calls.append(("checkpoint", path.name))

        def on_end(self, summary):
            calls.append(("end", summary["epoch"]))

        def close(self):
            calls.append(("close",))

    LOGGERS.register("recorder", Recorder)
    run(tables, "trainer.epochs=1", "log.recorder.prefix=my-")
    assert calls == [
        ("my-start", "tiny_net", "Stripes"),
        ("checkpoint", "last.pt"),
        ("step", 2),
        ("epoch", 1),
        ("confusion", "epoch_0001", (3, 3)),
        ("snapshots", 3, [0, 11], (32, 24)),
        ("end", 1),
        ("checkpoint", "last.pt"),
        ("close",),
    ]


def test_drawing_share_zero_draws_nothing(tables):
    result = run(tables)
    assert not list(result.run_dir.rglob("*.png"))


def test_small_drawing_share_draws_first_and_last_evaluation_only(tables):
    result = run(tables, "log.local.max_drawing_share=1e-9", "trainer.epochs=4")
    assert sorted(p.name for p in (result.run_dir / "snapshots").iterdir()) == ["epoch_0001.png", "epoch_0004.png"]
    assert len(rows(result, "epoch")) == 4


def test_drawing_share_one_draws_every_evaluation(tables):
    result = run(tables, "log.local.max_drawing_share=1", "trainer.epochs=3")
    for kind in ("snapshots", "confusion"):
        assert len(list((result.run_dir / kind).iterdir())) == 3


def test_no_snapshots_leaves_no_folder(tables):
    result = run(tables, "trainer.snapshots=0", "trainer.epochs=1", "log.local.max_drawing_share=1")
    assert (result.run_dir / "confusion").exists()
    assert not (result.run_dir / "snapshots").exists()


def test_given_class_weights_reach_the_loss(tables):
    trainer = Trainer(load_config(tables, ["criterion.class_weights=[1, 2, 3]"]))
    assert trainer.parts.criterion.criterion.weight.tolist() == [1.0, 2.0, 3.0]
    assert trainer.parts.criterion.criterion.ignore_index == 255


@pytest.mark.parametrize(("config", "words"), [("run.toml", "load_config('run.toml')"), ({}, "load_config(tables)")])
def test_config_of_another_type_says_how_to_load_it(config, words):
    with pytest.raises(InvalidTypeError, match=re.escape(words)):
        Trainer(config)


def test_sigterm_during_the_first_checkpoint_saves_the_first_step(tables):
    trainer = Trainer(load_config(tables))
    save = trainer.save

    def save_and_send():
        if trainer.position.step == 0:
            # what the run has not set would end this process
            assert signal.getsignal(signal.SIGTERM) == trainer._interruption._handle
            signal.raise_signal(signal.SIGTERM)
        save()

    trainer.save = save_and_send
    with pytest.raises(RunInterruptedError, match="stopped after step 1 of 6"):
        trainer.run()
    assert load_checkpoint(trainer.folder.checkpoints.last)["position"]["step"] == 1
