"""Runs resumed with another length, and the checks of resumed runs."""

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from seg_core.command import main
from seg_core.errors import ConfigError
from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.config.schema import SchedulerSection
from seg_train.optim.schedulers import build_scheduler
from seg_train.run.checkpoint import load_checkpoint, save_checkpoint
from seg_train.run.data import RunLength
from seg_train.run.new_length import adapt_position, describe_rates, replay_scheduler, set_groups
from seg_train.run.state import Position
from tests.train.run.test_trainer import rows, run_until, weights_of

LENGTH = RunLength(20, 5)  # 4 steps in each epoch


def halve(step):
    return 0.5**step


# ---- the scheduler ---------------------------------------------------------------------------------------------------

SCHEDULERS = {
    "polynomial": {"name": "PolynomialLR", "params": {"power": 0.9}},
    "cosine": {"name": "CosineAnnealingLR", "params": {"eta_min": 0.001}},
    "one_cycle": {"name": "OneCycleLR", "params": {"pct_start": 0.3}},
    "step": {"name": "StepLR", "params": {"step_size": 3, "gamma": 0.5}},
    "lambda": {"name": "LambdaLR", "params": {"lr_lambda": f"{__name__}:halve"}},
    "multiplicative": {"name": "MultiplicativeLR", "params": {"lr_lambda": f"{__name__}:halve"}},
    "warm_up": {"name": "PolynomialLR", "warmup_steps": 6},
    "warm_up_ends_later": {"name": "CosineAnnealingLR", "warmup_steps": 16, "warmup_factor": 0.1},
    "epochs": {"name": "PolynomialLR", "interval": "epoch"},
    "epochs_and_warm_up": {"name": "StepLR", "params": {"step_size": 1}, "interval": "epoch", "warmup_steps": 18},
    "sequence": {
        "name": "SequentialLR",
        "params": {"schedulers": [{"name": "LinearLR"}, {"name": "PolynomialLR"}], "milestones": [7]},
    },
    "chain": {
        "name": "ChainedScheduler",
        "params": {"schedulers": [{"name": "PolynomialLR"}, {"name": "ExponentialLR", "params": {"gamma": 0.9}}]},
    },
}


def optimizer_with(section, total):
    """A fresh optimizer of two groups and its scheduler."""
    layer = nn.Linear(2, 1)
    groups = [{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    return optimizer, build_scheduler(optimizer, total=total, **dict(section))


def advance(optimizer, scheduler, steps, done=0):
    """Makes steps, with the ends of epochs of 4; returns the settings of each of them."""
    found = []
    for step in range(done, steps):
        found.append([{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
        if (step + 1) % 4 == 0:
            scheduler.end_epoch(None)
    return found


@pytest.mark.parametrize("done", [1, 4, 13, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_over_another_length_stands_where_a_new_run_would_have_come(name, done):
    section = SchedulerSection.model_validate(SCHEDULERS[name])
    by_epoch = section.interval == "epoch"
    former, now = (5, 9) if by_epoch else (20, 36)
    optimizer, scheduler = optimizer_with(section, former)
    advance(optimizer, scheduler, done)
    state = scheduler.state_dict(), optimizer.state_dict()
    expected = advance(*optimizer_with(section, now), 36)[done:]

    optimizer, scheduler = optimizer_with(section, now)
    groups = replay_scheduler(scheduler, state[0]["steps"], done // 4, 4)
    optimizer.load_state_dict(state[1])
    set_groups(scheduler, groups)
    assert advance(optimizer, scheduler, 36, done) == expected


def test_learning_rate_in_a_tensor_stays_that_tensor():
    section = SchedulerSection(name="PolynomialLR")
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=torch.tensor(0.1))
    scheduler = build_scheduler(optimizer, total=10, **dict(section))
    groups = replay_scheduler(scheduler, 5, 0, 100)
    held = optimizer.param_groups[0]["lr"]
    held.fill_(7.0)
    set_groups(scheduler, groups)
    assert optimizer.param_groups[0]["lr"] is held
    assert held.item() == pytest.approx(0.05)


def test_scheduler_whose_own_length_ends_before_the_run_is_an_error():
    section = SchedulerSection(name="OneCycleLR", params={"total_steps": 20})
    _, scheduler = optimizer_with(section, 36)
    with pytest.raises(ConfigError, match=r"OneCycleLR ends after 20 .* and cannot be extended to 36; only a run"):
        replay_scheduler(scheduler, 20, 5, 4)


def test_scheduler_that_watches_a_score_is_not_replayed():
    _, scheduler = optimizer_with(SchedulerSection(name="ReduceLROnPlateau"), 36)
    assert replay_scheduler(scheduler, 20, 5, 4) is None


@pytest.mark.parametrize(
    ("section", "length", "words"),
    [
        (None, {"epochs": 9}, "the learning rate stays 0.1: the run has no learning-rate scheduler"),
        (
            {"name": "PolynomialLR"},
            {"epochs": 9},
            "the learning rate now follows PolynomialLR over 9 epochs: 0.1 at step 21 (the checkpoint had 0.2)",
        ),
        ({"name": "PolynomialLR"}, {"steps": 36}, "now follows PolynomialLR over 36 steps: 0.1 at step 21"),
        ({"name": "PolynomialLR", "params": {"total_iters": 9}}, {"epochs": 9}, "PolynomialLR as before: 0.1 at step"),
        ({"name": "StepLR", "params": {"step_size": 2}}, {"epochs": 9}, "follows StepLR as before: 0.1 at step 21"),
        ({"name": "ReduceLROnPlateau"}, {"epochs": 9}, "the learning rate stays 0.1 until ReduceLROnPlateau lowers"),
    ],
)
def test_message_about_the_learning_rate_has_its_values(tables, section, length, words):
    tables["trainer"] = {**tables["trainer"], "epochs": None} | length
    tables["lr_scheduler"] = section
    config = load_config(tables)
    scheduler = None if section is None else optimizer_with(config.lr_scheduler, 36)[1]
    assert words in describe_rates(scheduler, config, RunLength(36, 9), 20, 0.2, 0.1)


# ---- the position ----------------------------------------------------------------------------------------------------


def adapted(position, now, former=LENGTH, extend=False):
    said = adapt_position(position, former, now, 4, extend=extend, folder=Path("runs/run"))
    return position, said


def test_finished_run_continues_to_a_greater_length():
    end = Position(step=20, epoch=5, evaluated=20, finished=True, stale=2)
    position, said = adapted(replace(end), RunLength(36, 9))
    assert position == replace(end, finished=False)
    assert said == "the run now ends after 36 steps (9 epochs), before it was 20 steps (5 epochs)"


def test_epoch_that_the_end_cut_short_continues():
    end = Position(step=18, epoch=5, evaluated=18, finished=True)
    position, _ = adapted(end, RunLength(36, 9), former=RunLength(18, 5))
    assert (position.epoch, position.batches, position.finished) == (4, 2, False)


def test_same_length_changes_nothing():
    for position in (Position(step=20, epoch=5, finished=True), Position(step=7, epoch=1, batches=3)):
        assert adapted(replace(position), LENGTH, extend=True) == (position, None)
    early = Position(step=12, epoch=3, finished=True, stale=3)
    assert adapted(replace(early), LENGTH) == (early, None)


def test_run_that_was_stopped_early_continues_and_resets_its_count():
    for now, extend in ((LENGTH, True), (RunLength(36, 9), False)):
        early = Position(step=12, epoch=3, evaluated=12, finished=True, stale=3, best=0.5)
        position, said = adapted(early, now, extend=extend)
        assert (position.finished, position.stale, position.best) == (False, 0, 0.5)
        assert said.startswith(f"the run was stopped early after step 12 and continues to {now.steps} steps")


def test_length_that_is_done_ends_the_run():
    position, _ = adapted(Position(step=12, epoch=3, evaluated=12), RunLength(12, 3))
    assert position.finished
    # without the evaluation that a run ends with, it is the end of its last epoch
    position, _ = adapted(Position(step=12, epoch=3, evaluated=8), RunLength(12, 3))
    assert (position.finished, position.epoch, position.batches) == (False, 2, 4)
    position, _ = adapted(Position(step=12, epoch=3, evaluated=12, finished=True), RunLength(12, 3))
    assert position.finished


def test_length_below_what_is_done_is_an_error():
    words = r"the run in runs.run has done 12 steps, but its new total is 8 steps \(2 epochs\); set a total of at "
    with pytest.raises(ConfigError, match=words):
        adapted(Position(step=12, epoch=3), RunLength(8, 2))


# ---- whole runs ------------------------------------------------------------------------------------------------------


class Collecting(Progress):
    """Keeps the messages."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def resume(tables, *overrides, **options):
    said = Collecting()
    trainer = Trainer(load_config(tables, overrides), resume=True, progress=said, **options)
    return trainer, said.lines


def rates(result):
    return {row["step"]: row["lr"] for row in rows(result, "step")}


def last_checkpoint(result):
    return result.run_dir / "checkpoints" / "last.pt"


def same_weights(first, second):
    first, second = (weights_of(last_checkpoint(result)) for result in (first, second))
    return all(torch.equal(first[name], second[name]) for name in first)


EVERY = "trainer.log_every_steps=1"


@pytest.mark.parametrize("name", ["polynomial", "one_cycle", "epochs", "sequence"])
@pytest.mark.parametrize("stopped", [None, 4])
def test_extended_run_has_the_learning_rates_of_a_new_run_of_that_length(tables, name, stopped):
    tables["lr_scheduler"] = SCHEDULERS[name]
    if name == "sequence":
        tables["lr_scheduler"]["params"]["milestones"] = [2]
    whole = Trainer(load_config(tables, [EVERY, "trainer.epochs=5", "paths.run=whole"])).run()
    if stopped is None:
        Trainer(load_config(tables, [EVERY])).run()
    else:
        run_until(tables, stopped, EVERY)
    trainer, said = resume(tables, EVERY, "trainer.epochs=5")
    done = stopped or 6
    assert said[0] == "the run now ends after 15 steps (5 epochs), before it was 6 steps (2 epochs)"
    assert said[1].startswith(f"the learning rate now follows {tables['lr_scheduler']['name']} over 5 epochs: ")
    assert f" at step {done + 1} (the checkpoint had " in said[1]
    result = trainer.run()
    expected, found = rates(whole), rates(result)
    assert found.keys() == expected.keys()
    # a row has the learning rate after its step
    assert {k: v for k, v in found.items() if k > done} == {k: v for k, v in expected.items() if k > done}
    figure = float(said[1].split(": ")[1].split()[0])
    if name == "polynomial":
        assert figure == pytest.approx(0.02 * (1 - done / 15) ** 0.9, rel=1e-4)
    assert [row["epoch"] for row in rows(result, "epoch")] == [1, 2, 3, 4, 5]


def test_run_without_influence_of_its_length_is_the_same_extended_or_not(tables):
    """Without a scheduler and with one by fixed steps an extended run is a longer run, to the last bit."""
    for number, scheduler in enumerate((None, SCHEDULERS["step"])):
        tables["lr_scheduler"] = scheduler
        runs = [[f"paths.run={kind}-{number}", EVERY] for kind in ("whole", "extended")]
        whole = Trainer(load_config(tables, [*runs[0], "trainer.epochs=4"])).run()
        Trainer(load_config(tables, runs[1])).run()
        trainer, said = resume(tables, *runs[1], "trainer.epochs=4")
        assert "the learning rate " in said[1]
        extended = trainer.run()
        assert same_weights(whole, extended)


def test_run_that_ended_within_an_epoch_continues_with_the_rest_of_it(tables):
    tables["lr_scheduler"] = None
    del tables["trainer"]["epochs"]
    whole = Trainer(load_config(tables, ["trainer.steps=8", "paths.run=whole"])).run()
    Trainer(load_config(tables, ["trainer.steps=4"])).run()
    trainer, _ = resume(tables, "trainer.steps=8")
    assert (trainer.position.epoch, trainer.position.batches) == (1, 1)
    assert same_weights(whole, trainer.run())


def test_extended_run_that_is_killed_continues_to_the_new_length_exactly(tables, tmp_path):
    Trainer(load_config(tables)).run()
    shutil.copytree(tmp_path / "runs" / "run", tmp_path / "runs" / "other")
    whole = resume(tables, "trainer.epochs=5")[0].run()
    other = tmp_path / "runs" / "other"
    trainer = Trainer(load_config(tables, ["trainer.epochs=5", "paths.run=other"]), resume=True)
    save = trainer.save

    def save_or_die():
        if trainer.position.step == 12:
            raise KeyboardInterrupt
        save()

    trainer.save = save_or_die
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert tomllib.loads((other / "config.toml").read_text())["trainer"]["epochs"] == 5
    assert main(["train", "--resume", str(other), "--progress", "quiet"]) == 0
    assert same_weights(whole, type(whole)(other, whole.metadata, {}))


def test_plateau_keeps_its_state_in_an_extended_run(tables):
    tables["lr_scheduler"] = {
        "name": "ReduceLROnPlateau",
        "params": {"monitor": "acc", "patience": 1, "threshold": 9.0},
        "warmup_steps": 2,
    }
    whole = Trainer(load_config(tables, ["trainer.epochs=6", "paths.run=whole"])).run()
    Trainer(load_config(tables, ["trainer.epochs=4"])).run()
    trainer, said = resume(tables, "trainer.epochs=6")
    assert said[1].startswith("the learning rate stays 0.002 until ReduceLROnPlateau lowers it")
    extended = trainer.run()
    assert [row["lr"] for row in rows(extended, "epoch")] == [row["lr"] for row in rows(whole, "epoch")]
    assert same_weights(whole, extended)


def test_length_in_steps_takes_the_place_of_epochs(tables, tmp_path, capsys):
    Trainer(load_config(tables)).run()
    folder = tmp_path / "runs" / "run"
    assert main(["train", "--resume", str(folder), "--steps", "8"]) == 0
    err = capsys.readouterr().err
    assert "the run now ends after 8 steps (3 epochs), before it was 6 steps (2 epochs)\n" in err
    assert "the learning rate now follows PolynomialLR over 8 steps: 0.005 at step 7 (the checkpoint had " in err
    trainer = tomllib.loads((folder / "config.toml").read_text())["trainer"]
    assert trainer["steps"] == 8
    assert "epochs" not in trainer
    assert main(["train", "--resume", str(folder)]) == 0
    assert "is finished; there is nothing left to do" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "-s", "trainer.steps=10", "--progress", "quiet"]) == 0
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["position"]["step"] == 10
    assert main(["train", "--resume", str(folder), "--epochs", "4", "--progress", "quiet"]) == 0
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["position"]["step"] == 12


def test_length_that_is_done_or_less(tables, tmp_path, capsys):
    Trainer(load_config(tables)).run()
    folder = str(tmp_path / "runs" / "run")
    assert main(["train", "--resume", folder, "--epochs", "2"]) == 0
    assert "is finished; there is nothing left to do" in capsys.readouterr().err
    assert main(["train", "--resume", folder, "--epochs", "1"]) == 2
    err = capsys.readouterr().err
    assert "has done 6 steps, but its new total is 3 steps (1 epoch); set a total of at least 6 steps" in err
    assert main(["train", "--resume", folder, "--epochs", "0"]) == 2
    assert "trainer.epochs = 0: must be greater than or equal to 1" in capsys.readouterr().err


def test_run_that_was_stopped_early_continues_on_request(tables, tmp_path, capsys):
    options = ["trainer.epochs=50", "evaluation.patience=2", "evaluation.min_delta=1"]
    stopped = Trainer(load_config(tables, options)).run()
    assert stopped.scores["epoch"] == 3
    folder = str(stopped.run_dir)
    assert main(["train", "--resume", folder]) == 0
    assert "is finished; there is nothing left to do" in capsys.readouterr().err
    assert main(["train", "--resume", folder, "--epochs", "50"]) == 0
    err = capsys.readouterr().err
    assert "the run was stopped early after step 9 and continues to 150 steps (50 epochs); the count of" in err
    assert "without a better score (evaluation.patience) is reset" in err
    assert "the learning rate now follows PolynomialLR over 50 epochs: " in err
    assert load_checkpoint(last_checkpoint(stopped))["position"]["epoch"] == 5
    assert main(["train", "--resume", folder, "-s", "trainer.epochs=60", "--progress", "quiet"]) == 0
    assert load_checkpoint(last_checkpoint(stopped))["position"]["epoch"] == 7


def test_length_of_a_new_run(tables, tmp_path, capsys):
    path = tmp_path / "run.json"
    import tomli_w

    path.write_text(tomli_w.dumps(tables))
    assert main(["train", str(path), "--steps", "4"]) == 0
    assert load_checkpoint(tmp_path / "runs" / "run" / "checkpoints" / "last.pt")["position"]["step"] == 4
    capsys.readouterr()
    assert main(["train", str(path), "--steps", "4", "--epochs", "2"]) == 2
    assert "--epochs 2 and --steps 4 both set the length of the run; remove one" in capsys.readouterr().err


# ---- checks of resumed runs ------------------------------------------------------------------------------------------


def test_key_that_a_checkpoint_does_not_have_counts_as_its_default(tables):
    run_until(tables, 2)
    path = Path(tables["paths"]["output"]) / "run" / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    flat = dict(content["config"])
    for key in ("optimizer.decay_norms_and_biases", "data.augment.rotation_range", "lr_scheduler.warmup_factor"):
        del flat[key]
    save_checkpoint(path, content | {"config": flat})
    Trainer(load_config(tables), resume=True)
    with pytest.raises(ConfigError) as caught:
        options = ["optimizer.decay_norms_and_biases=false", "lr_scheduler.warmup_factor=0.5", "trainer.ema_decay=0.9"]
        Trainer(load_config(tables, options), resume=True)
    words = (
        "lr_scheduler.warmup_factor (run: 0.001, now: 0.5), optimizer.decay_norms_and_biases (run: true, now: "
        "false), trainer.ema_decay (run: not set, now: 0.9); resume it without these changes"
    )
    assert words in str(caught.value)
    # an unknown key is a difference, a key without influence is not
    save_checkpoint(path, content | {"config": flat | {"trainer.magic": 3, "log.local.color": 1}})
    with pytest.raises(ConfigError, match=r"settings: trainer\.magic \(run: 3, now: not set\); resume it without this"):
        Trainer(load_config(tables), resume=True)


def test_scheduler_that_is_added_or_taken_away_is_a_difference(tables):
    run_until(tables, 2)
    with pytest.raises(ConfigError, match=r'lr_scheduler\.name \(run: "PolynomialLR", now: not set\)'):
        Trainer(load_config(tables | {"lr_scheduler": None}), resume=True)
    run_until(tables | {"lr_scheduler": None}, 2, "paths.run=other")
    with pytest.raises(ConfigError, match=r'lr_scheduler\.interval \(run: not set, now: "step"\)'):
        Trainer(load_config(tables, ["paths.run=other"]), resume=True)


def test_keys_without_influence_may_change(tables):
    run_until(tables, 2)
    options = ["trainer.log_every_steps=1", "trainer.snapshots=0", "evaluation.batch_size=3"]
    Trainer(load_config(tables, options), resume=True)


@pytest.fixture
def stripes_of(monkeypatch, stripes):
    """Changes the data of the next runs."""

    def set_to(files=None, length=12, labels=("dark", "bright", "never")):
        class Changed(stripes):
            metadata = replace(stripes.metadata, labels=labels, colors=())

            def __init__(self, root=None, split="train"):
                super().__init__(root, split, length)

            def file_names(self, index):
                return ((files or "/data/{}.png").format(index),)

        from seg_core.registry import DATASETS

        DATASETS._objects["Stripes"] = Changed

    return set_to


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"length": 16}, "the run was trained on 12 images, now there are 16. Resume"),
        ({"length": 8}, "the run was trained on 12 images, now there are 8. Resume"),
        (
            {"files": "/data/new{}.png"},
            "the run was trained on 12 images, and the 12 images now are other files (digest ",
        ),
        (
            {"labels": ("bright", "dark", "never")},
            "it had 3 classes and has 3 now, and class 0 was 'dark' and is 'bright' now",
        ),
        (
            {"labels": ("dark", "bright")},
            "it had 3 classes and has 2 now, and class 2, 'never', was removed. Resume",
        ),
        (
            {"labels": ("dark", "bright", "never", "ever")},
            "it had 3 classes and has 4 now, and class 3, 'ever', was added",
        ),
        ({"length": 16, "labels": ("dark", "bright", "ever")}, "'never' and is 'ever' now; the run was trained on 12"),
    ],
)
def test_changed_data_is_refused_with_advice(tables, stripes_of, tmp_path, now, words):
    stripes_of()
    run_until(tables, 2)
    Trainer(load_config(tables), resume=True)
    stripes_of(**now)
    with pytest.raises(ConfigError) as caught:
        Trainer(load_config(tables), resume=True)
    message, folder = str(caught.value), tmp_path / "runs" / "run"
    assert message.startswith(f"the dataset Stripes of the run in {folder} has changed: ")
    assert words in message
    advice = "Resume the run with the original dataset, or start a new run from its weights: seg train CONFIG --weights"
    assert message.endswith(f"{advice} {folder}")


def test_data_that_was_moved_is_the_same(tables, stripes_of):
    stripes_of(files="/data/stripes/{}.png")
    run_until(tables, 2)
    stripes_of(files="/mnt/copy/{}.png")
    Trainer(load_config(tables), resume=True)


def test_best_score_is_reset_if_validation_changed(tables):
    result = Trainer(load_config(tables)).run()
    content = load_checkpoint(last_checkpoint(result))
    protocol = content["protocol"]
    assert protocol["num_images"] == 12
    assert content["train_files"]["count"] == 12
    assert content["labels"] == ["dark", "bright", "never"]
    trainer, said = resume(tables, "trainer.epochs=3")
    assert trainer.position.best is not None
    save_checkpoint(last_checkpoint(result), content | {"protocol": protocol | {"num_images": 11, "gone": 1}})
    trainer, said = resume(tables, "trainer.epochs=3")
    assert trainer.position.best is None
    assert said[-1] == (
        "the best score is reset, the next evaluation sets it: validation has changed (num_images: 11, now 12)"
    )


# ---- a new run with the weights of another ---------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    """A finished run of a network that takes weights, and its config."""
    import tomli_w

    tables = {
        "model": {"name": "enet"},
        "data": {
            "dataset": {"name": "Shapes", "params": {"length": 4, "size": [32, 32]}},
            "transform": {"train": {"size": 32}},
            "loader": {"batch_size": 2, "num_workers": 0},
        },
        "trainer": {"epochs": 1, "device": "cpu", "precision": "fp32", "snapshots": 0},
        "log": {"local": {"max_drawing_share": 0}},
        "paths": {"output": str(tmp_path / "runs"), "run": "first"},
    }
    path = tmp_path / "real.toml"
    path.write_text(tomli_w.dumps(tables))
    assert main(["train", str(path), "--progress", "quiet"]) == 0
    return path, tmp_path / "runs" / "first"


def test_new_run_starts_from_the_weights_of_a_run_or_a_file(real, capsys, monkeypatch):
    path, first = real
    capsys.readouterr()
    for number, given in enumerate((first, first / "model.pt")):
        name = ["-s", f"paths.run=new-{number}", "--epochs", "1"]
        assert main(["train", str(path), "--weights", str(given), *name]) == 0
        file = first / ("model.pt" if given.is_file() else "model_best.pt")
        assert f"the run starts from the weights of {file}\n" in capsys.readouterr().err
        new = load_config(first.with_name(f"new-{number}") / "config.toml")
        assert new.model.weights == str(file)
        trained = torch.load(file, weights_only=True)["state_dict"]
        built = Trainer(new, first.with_name("unused")).network.network.state_dict()
        assert built.keys() == trained.keys()
        assert all(torch.equal(built[key], trained[key]) for key in built)
    assert main(["train", "--resume", str(first.with_name("new-0")), "--epochs", "2", "--progress", "quiet"]) == 0


def test_weights_of_a_run_without_a_best_one_are_the_last(real, capsys):
    path, first = real
    (first / "model_best.pt").unlink()
    options = ["-s", "paths.run=new", "-s", "model.weights=other.pt"]
    assert main(["train", str(path), "--weights", str(first), *options]) == 0
    err = capsys.readouterr().err
    assert f"the run starts from the weights of {first / 'model.pt'} instead of the config's " in err
    assert 'model.weights = "other.pt"\n' in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["CONFIG", "--weights", "nowhere"], "--weights nowhere: there is no such run folder or model file; check the"),
        (["CONFIG", "--weights", "EMPTY"], "is not a run folder (it has no config.toml) and contains no model file"),
        (["CONFIG", "--weights", "YOUNG"], "the run has no model file yet, its first evaluation writes model_best.pt"),
        (["CONFIG", "--weights", "EMPTY", "--resume"], "starts a new run, and --resume continues one that has its own"),
        (["--weights", "EMPTY", "--resume", "YOUNG"], "starts a new run, and --resume continues one that has its own"),
        (["--weights", "YOUNG"], "name a CONFIG to start a run"),
    ],
)
def test_wrong_use_of_weights_is_one_sentence(arguments, words, tables, tmp_path, capsys):
    import tomli_w

    (tmp_path / "run.toml").write_text(tomli_w.dumps(tables))
    (tmp_path / "empty").mkdir()
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.toml").write_text("")
    names = {"CONFIG": "run.toml", "EMPTY": "empty", "YOUNG": "young"}
    assert main(["train", *(str(tmp_path / names[a]) if a in names else a for a in arguments)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
