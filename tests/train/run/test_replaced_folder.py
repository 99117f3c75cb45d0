"""A run folder that is replaced while its run trains, and a second run in a folder that is in use."""

import hashlib
import shutil

import pytest

from seg_core.errors import UsageError, WriteError
from seg_core.registry import LOGGERS
from seg_train import Logger, Trainer, load_config
from seg_train.run.folder import RunFolder
from seg_train.run.lock import RunLockedError, locked

# what the local logger tells of its file
pytestmark = pytest.mark.filterwarnings("ignore:logger local", "ignore:model files in .* were missing")


class AtStep(Logger):
    """Does something to the run folder once, at a step in the middle of the run."""

    def __init__(self, run_dir, action):
        super().__init__(run_dir)
        self.action = action

    def on_step(self, row):
        if self.action is not None and row["step"] >= 3:
            self.action, action = None, self.action
            action(self.run_dir)


def aside(folder):
    return folder.rename(folder.with_name("aside"))


def by_file(folder):
    aside(folder)
    folder.write_text("no folder")


def by_link(folder, target):
    aside(folder)
    folder.symlink_to(target)


def by_empty_folder(folder):
    aside(folder)
    folder.mkdir()


def run_with(tables, action):
    every_step = ["trainer.log_every_steps=1", "trainer.checkpoint_every_steps=1", "log.local.max_drawing_share=0"]
    trainer = Trainer(load_config(tables, every_step))
    trainer.loggers.loggers["own"] = AtStep(trainer.folder.path, action)
    return trainer


@pytest.mark.parametrize(
    "action, reason",
    [
        (by_file, "Not a directory"),
        (lambda folder: by_link(folder, "nowhere"), "File exists"),
        (lambda folder: by_link(folder, "/dev/null"), "Not a directory"),
    ],
    ids=["file", "dangling link", "link to a device"],
)
def test_folder_that_is_no_folder_any_more_ends_the_run_and_the_former_one_resumes(tables, tmp_path, action, reason):
    trainer = run_with(tables, action)
    with pytest.raises(WriteError, match=rf"cannot write .*step_0+3\.pt: {reason}; "):
        trainer.run()
    former = tmp_path / "runs" / "aside"
    assert (former / "checkpoints" / "last.pt").is_file()
    assert len((former / "metrics.jsonl").read_text().splitlines()) == 3  # the row that met it is there too
    assert Trainer(load_config(tables), former, resume=True).run().scores["epoch"] == 2


@pytest.mark.parametrize(
    "action",
    [aside, shutil.rmtree, by_empty_folder, lambda folder: by_link(folder, folder.with_name("aside").name)],
    ids=["moved", "removed", "empty", "link to where it is now"],
)
def test_folder_that_is_gone_is_written_again_with_all_that_a_resume_needs(tables, tmp_path, action):
    assert run_with(tables, action).run().scores["epoch"] == 2
    folder = RunFolder(tmp_path / "runs" / "run")
    assert folder.environment.is_file()
    assert folder.load_config().to_dict() == load_config(tables, ["trainer.log_every_steps=1"]).to_dict() | {
        "trainer": folder.load_config().to_dict()["trainer"],
        "log": {"local": {"max_drawing_share": 0}},
    }
    assert Trainer(folder.load_config(), folder.path, resume=True).run().scores["epoch"] == 2


def test_lost_last_checkpoint_never_lets_a_run_start_over(tables, tmp_path):
    run_with(tables, None).run()
    checkpoints = tmp_path / "runs" / "run" / "checkpoints"
    (checkpoints / "last.pt").unlink()
    newest = sorted(checkpoints.glob("step_*.pt"))[-1]
    with pytest.raises(UsageError, match=rf"last\.pt is missing, .*seg train --resume .*{newest.name}"):
        Trainer(load_config(tables), resume=True)
    assert Trainer(load_config(tables, ["trainer.epochs=3"]), resume=newest).run().scores["epoch"] == 3
    assert (checkpoints / "last.pt").is_file()


# ---- a second run ----------------------------------------------------------------------------------------------------


class Eager(Logger):
    """Writes as soon as it is built, as a logger around a library may."""

    def __init__(self, run_dir):
        super().__init__(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / "eager.txt").open("a") as file:
            file.write("built\n")


@pytest.fixture
def _eager():
    LOGGERS.register("eager", Eager)
    yield
    del LOGGERS._objects["eager"]


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


@pytest.mark.usefixtures("_eager")
def test_nothing_is_written_for_a_second_run_before_it_has_the_lock(tables, tmp_path):
    folder = tmp_path / "runs" / "run"
    config = load_config(tables, ["log.eager={}", "log.local.max_drawing_share=0"])
    second = Trainer(config)
    assert not folder.exists()
    with locked(folder), pytest.raises(RunLockedError):
        second.run()
    assert contents(folder) == {}
    Trainer(config).run()
    assert (folder / "eager.txt").read_text() == "built\n"

    before = contents(folder)
    longer = load_config(tables, ["log.eager={}", "log.local.max_drawing_share=0", "trainer.epochs=3"])
    third = Trainer(longer, resume=True)
    with locked(folder), pytest.raises(RunLockedError):
        third.run()
    assert contents(folder) == before

    (folder / "model.pt").unlink()  # a finished run writes it again
    before = contents(folder)
    fourth = Trainer(config, resume=True)
    with locked(folder), pytest.raises(RunLockedError):
        fourth.run()
    assert contents(folder) == before
    fourth.run()
    assert (folder / "model.pt").is_file()


@pytest.mark.usefixtures("_eager")
def test_logger_that_cannot_be_built_leaves_the_folder_free(tables, monkeypatch, tmp_path):
    config = load_config(tables, ["log.eager={}"])

    def fail(*_):
        raise WriteError("cannot write elsewhere")

    with monkeypatch.context() as patched:
        patched.setattr(Eager, "__init__", fail)
        with pytest.raises(WriteError, match="cannot write elsewhere"):
            Trainer(config).run()
    assert Trainer(config).run().scores["epoch"] == 2
