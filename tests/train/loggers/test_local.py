"""What the local logger makes of files in the run folder that were deleted, damaged or replaced."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from seg_core import DatasetMetadata
from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.loggers.base import Moment, Snapshot, TrainingSample
from seg_train.loggers.group import LoggerGroup
from seg_train.loggers.local import LocalLogger
from seg_train.loggers.naming import image_name, shortened, title_of
from tests.train.run.test_trainer import run_until

METADATA = DatasetMetadata("Roads", ("road", "sky"))


class Collecting(Progress):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def rows_of(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["step"]) for row in rows]


def step(number, **values):
    return {"epoch": 1, "step": number, "loss": 1 / number, "lr": 0.1, "seconds": float(number), **values}


def epoch(number):
    ious = {"road": 0.5, "sky": None}
    scores = {"train_loss": 0.5, "val_loss": None, "miou": 0.25, "iou_per_class": ious, "absent": "skip"}
    return {"epoch": 1, "step": number, **scores, "seconds": float(number)}


def started(run_dir, state=None, at_step=None):
    """A group with the local logger, and the warnings that it shows."""
    warnings = []
    group = LoggerGroup({"local": LocalLogger(run_dir, max_drawing_share=0)}, warnings.append)
    if state is not None:
        group.load_state(state, at_step)
    group.on_start({}, {}, METADATA)
    return group, warnings


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "zeros": lambda path: path.write_bytes(path.read_bytes() + bytes(500)),
    "not utf-8": lambda path: path.write_bytes(path.read_bytes() + b'{"kind": "step", "step": 9, "\xe9": 1}\n'),
    "utf-16": lambda path: path.write_bytes(path.read_text().encode("utf-16")),
    "wrong JSON": lambda path: path.write_text("{]\n" + path.read_text()),
    "no tables": lambda path: path.write_text(path.read_text() + "7\n[1, 2]\nnull\n"),
    "no kind": lambda path: path.write_text(path.read_text() + '{"step": 1}\n'),
    "no step": lambda path: path.write_text(path.read_text() + '{"kind": "step", "step": "1"}\n'),
    "nested": lambda path: path.write_text(path.read_text() + "[" * 100_000 + "\n"),
    "another row": lambda path: path.write_text('{"kind": "step", "step": 1, "loss": 2}\n' + path.read_text()),
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "mine.txt").write_text("kept")),
    "deleted": lambda path: path.unlink(),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_during_a_run_is_told_once_and_repaired(tmp_path, kind):
    path = tmp_path / "metrics.jsonl"
    group, warnings = started(tmp_path)
    for number in (1, 2, 3):
        group.on_step(step(number))
    whole = path.read_bytes()
    DAMAGE[kind](path)
    found = path.read_bytes() if path.is_file() else None
    for number in (4, 5):
        group.on_step(step(number))
    group.state()
    group.on_checkpoint(tmp_path)
    group.close()
    assert path.read_bytes().startswith(whole)
    assert rows_of(tmp_path) == [("step", number) for number in (1, 2, 3, 4, 5)]
    assert len(warnings) == 1
    aside = tmp_path / "metrics.damaged.jsonl"
    if kind == "deleted":
        assert warnings[0] == f"logger local: {path} was deleted; the 3 rows of the run were written again"
        assert not aside.exists()
    elif kind == "folder":
        assert (aside / "mine.txt").read_text() == "kept"
    else:
        assert "metrics.damaged.jsonl, and the 3 rows of the run were written again" in warnings[0]
        assert aside.read_bytes() == found


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if kind != "another row"])
def test_damage_before_a_resume_is_told_once_and_repaired(tmp_path, kind):
    path = tmp_path / "metrics.jsonl"
    group, _ = started(tmp_path)
    for number in (1, 2, 3):
        group.on_step(step(number))
    group.on_epoch(epoch(3))
    states = group.state()
    group.on_checkpoint(tmp_path)
    group.on_step(step(4))  # newer than the checkpoint
    group.close()
    whole = path.read_bytes().splitlines(keepends=True)
    DAMAGE[kind](path)
    if kind == "cut":  # further, into the rows before the checkpoint
        path.write_bytes(path.read_bytes()[: len(b"".join(whole[:2])) + 10])
    found = path.read_bytes() if path.is_file() else None

    group, warnings = started(tmp_path, states, 3)
    group.on_step(step(4, loss=7))
    group.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[:4] == [json.loads(line) for line in whole[:4]], "what the file has lost is in the tables"
    assert [row["loss"] for row in rows[4:]] == [7]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"logger local: {path} is {'missing' if kind == 'deleted' else 'damaged'}: ")
    if found is not None:
        assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == found
    group, again = started(tmp_path, group.state(), 4)
    group.close()
    assert again == [], "it is sound now"


def test_rows_lost_in_the_tables_too_are_counted(tmp_path):
    group, _ = started(tmp_path)
    for number in (1, 2, 3):
        group.on_step(step(number))
    states = group.state()
    (tmp_path / "metrics.jsonl").unlink()
    group, warnings = started(tmp_path, states, 3)
    assert len(warnings) == 1
    assert warnings[0].endswith("is missing: 0 rows could be read; 3 rows of 3 are lost")
    group.on_step(step(4))
    assert rows_of(tmp_path) == [("step", 4)]


def test_damaged_tables_give_what_they_have(tmp_path):
    group, _ = started(tmp_path)
    for number in (1, 2, 3):
        group.on_step(step(number))
    states = group.state()
    group.on_checkpoint(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    table = tmp_path / "steps.csv"
    table.write_bytes(table.read_bytes().splitlines(keepends=True)[0] + b"1,1,0.5\nx,\xff\n")
    _, warnings = started(tmp_path, states, 3)
    assert len(warnings) == 1
    assert "rows of 3 are lost" in warnings[0]


def test_rows_newer_than_the_checkpoint_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    group, _ = started(tmp_path)
    group.on_step(step(1))
    group.on_step(step(2))
    before_evaluation = group.state()
    kept = path.read_bytes()
    group.on_epoch(epoch(2))
    after_evaluation = group.state()
    longer = path.read_bytes()
    group.on_step(step(3))
    group.close()
    # a process that is killed leaves an unfinished row
    with path.open("ab") as file:
        file.write(b'{"kind": "step", "st')
    group, warnings = started(tmp_path, after_evaluation, 2)
    assert path.read_bytes() == longer
    group.close()
    group, more = started(tmp_path, before_evaluation, 2)
    assert path.read_bytes() == kept
    assert warnings == more == []


@pytest.mark.parametrize("finished", [True, False])
def test_checkpoints_of_earlier_versions_hold_the_size_of_the_file(tmp_path, finished):
    path = tmp_path / "metrics.jsonl"
    group, _ = started(tmp_path)
    group.on_step(step(1))
    group.on_step(step(2))
    state = {"local": {"bytes": path.stat().st_size, "drawing_seconds": 1.5}}
    kept = path.read_bytes()
    group.on_epoch(epoch(2))
    if finished:
        group.on_step(step(3))
    group.close()
    group, warnings = started(tmp_path, state, 2)
    assert path.read_bytes() == kept
    assert warnings == []
    assert group.loggers["local"].state()["drawing_seconds"] == 1.5
    path.write_bytes(kept[:-9])
    _, warnings = started(tmp_path, state, 2)
    assert len(warnings) == 1
    assert rows_of(tmp_path) == [("step", 1)]


def test_repaired_file_is_not_cut_by_the_checkpoint_of_before(tmp_path):
    """Rows are told apart by their steps: sizes no longer fit once a file was written again."""
    path = tmp_path / "metrics.jsonl"
    group, _ = started(tmp_path)
    group.on_step(step(1))
    path.write_text(path.read_text().replace('"loss": 1.0', '"loss":     1.0   '))  # same rows, other bytes
    group.on_step(step(2))
    states = group.state()
    group.on_step(step(3))
    group.close()
    rows = map(json.loads, path.read_text().splitlines())
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    _, warnings = started(tmp_path, states, 2)
    assert rows_of(tmp_path) == [("step", 1), ("step", 2)]
    assert warnings == []


def test_rows_of_a_run_that_starts_over_are_kept_aside(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "step", **step(1)}) + "\n")
    group, warnings = started(tmp_path)
    group.on_step(step(1, loss=3))
    assert rows_of(tmp_path) == [("step", 1)]
    assert (tmp_path / "metrics.superseded.jsonl").is_file()
    assert "of an earlier run" in warnings[0]


def test_disk_that_is_full_is_told_once_and_rows_are_written_later(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    group, warnings = started(tmp_path)
    group.on_step(step(1))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
        for number in (2, 3, 4):
            group.on_step(step(number))
        group.on_epoch(epoch(4))
    assert len(warnings) == 1
    assert "it stays in use: cannot write" in warnings[0]
    group.close()
    assert rows_of(tmp_path) == [("step", 1), ("step", 2), ("step", 3), ("step", 4), ("epoch", 4)]
    assert path.read_text().endswith("\n")


@pytest.mark.parametrize("name", ["steps.csv", "epochs.csv", "plots", "confusion", "snapshots"])
@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_other_files_that_are_in_the_way_do_not_keep_the_rest_from_being_written(tables, name, how):
    tables["log"]["local"]["max_drawing_share"] = 1
    progress = Collecting()
    trainer = Trainer(load_config(tables), progress=progress)
    folder = trainer.folder.path

    def on_epoch(row, original=trainer.loggers.loggers["local"].on_epoch):
        original(row)
        if row["epoch"] == 1:
            target = folder / name
            if name.endswith(".csv"):
                target.unlink(missing_ok=True)
                if how == "replaced":
                    target.mkdir()
            else:
                shutil.rmtree(target, ignore_errors=True)
                if how == "replaced":
                    target.write_text("mine")

    trainer.loggers.loggers["local"].on_epoch = on_epoch
    trainer.run()
    written = {
        "steps.csv": folder / "steps.csv",
        "epochs.csv": folder / "epochs.csv",
        "plots": folder / "plots" / "metrics.png",
        "confusion": folder / "confusion" / "epoch_0002.png",
        "snapshots": folder / "snapshots" / "epoch_0002.png",
    }
    if how == "replaced":
        assert len(progress.warnings) == 1, "it is told once"
        assert progress.warnings[0].startswith("logger local: cannot write ")
        assert "Traceback" not in progress.warnings[0]
        written.pop(name)
    else:
        assert progress.warnings == []
    assert all(path.is_file() for path in written.values())


@pytest.mark.parametrize("kind", ["deleted", "binary", "folder"])
def test_resumed_run_with_a_lost_file_ends_with_all_rows(tables, kind):
    tables["trainer"]["log_every_steps"] = 1
    run_until(tables, 4)
    path = Path(load_config(tables).paths.output) / "run" / "metrics.jsonl"
    before = rows_of(path.parent)
    assert ("epoch", 3) in before
    DAMAGE[kind](path)
    progress = Collecting()
    Trainer(load_config(tables), resume=True, progress=progress).run()
    assert len(progress.warnings) == 1
    assert f"and {len(before)} were taken from steps.csv and epochs.csv" in progress.warnings[0]
    rows = rows_of(path.parent)
    assert rows[: len(before)] == before
    assert [number for kind, number in rows if kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert [number for kind, number in rows if kind == "epoch"] == [3, 6]
    with (path.parent / "epochs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_resume_writes_nothing_before_it_runs(tables):
    tables["trainer"]["log_every_steps"] = 1
    run_until(tables, 4)
    path = Path(load_config(tables).paths.output) / "run" / "metrics.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"kind": "step", **step(5)}) + "\n")
    content = path.read_text()
    Trainer(load_config(tables), resume=True)
    assert path.read_text() == content


# ---- images ----------------------------------------------------------------------------------------------------------


def samples(count):
    mask = torch.zeros(32, 24, dtype=torch.int64)
    mask[:9] = 255
    return [
        TrainingSample(i, f"{i}.png", torch.full((3, 32, 24), 9 * i, dtype=torch.uint8), mask) for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_first_batch_is_drawn(tmp_path, count):
    logger = LocalLogger(tmp_path, max_drawing_share=0.03)
    logger.on_start({}, {}, METADATA)
    logger.on_first_batch(samples(count))
    with Image.open(tmp_path / "plots" / "first_batch.png") as image:
        assert min(image.size) > 200
    assert logger.state()["drawing_seconds"] == 0, "so that the first evaluation is drawn"


def test_first_batch_is_not_drawn_if_nothing_is(tmp_path):
    logger = LocalLogger(tmp_path, max_drawing_share=0)
    logger.on_start({}, {}, METADATA)
    logger.on_first_batch(samples(2))
    assert list(tmp_path.iterdir()) == []


def test_first_batch_that_cannot_be_drawn_is_told(tmp_path):
    warnings = []
    group = LoggerGroup({"local": LocalLogger(tmp_path)}, warnings.append)
    group.on_start({}, {}, METADATA)
    (tmp_path / "plots").write_text("mine")
    group.on_first_batch(samples(2))
    assert len(warnings) == 1
    assert "Traceback" not in warnings[0]


def test_titles_of_snapshots_name_the_file(tmp_path, monkeypatch):
    titles = []

    def draw(images, targets, predictions, metadata, titles_=titles, *, titles=None, channels=None):
        titles_.extend(titles)
        raise RuntimeError

    monkeypatch.setattr("seg_train.loggers.figures.draw_snapshots", draw)
    logger = LocalLogger(tmp_path)
    logger.on_start({}, {}, METADATA)
    mask = torch.zeros(32, 24, dtype=torch.uint8)
    names = ("a.png", "", "berlin_000000_000019_gtFine_leftImg8bit.png")
    with pytest.raises(RuntimeError):
        logger.on_snapshots(
            Moment(4, 9), [Snapshot(i, mask.repeat(3, 1, 1), mask, mask, name) for i, name in enumerate(names)]
        )
    assert titles[:2] == ["val 0: a.png, epoch 4", "val 1, epoch 4"]
    assert titles[2] == "val 2: berlin_000000_00…leftImg8bit.png, epoch 4"


def test_snapshots_of_a_run_have_names(tables, monkeypatch):
    seen = []
    monkeypatch.setattr(LocalLogger, "on_snapshots", lambda self, moment, shots: seen.extend(shots))
    Trainer(load_config(tables, ["trainer.epochs=1"])).run()
    assert [(shot.index, shot.name) for shot in seen] == [(0, "0.png"), (11, "11.png")]


def test_names_of_images():
    class Files:
        def file_names(self, index):
            return [("data/a/b.png", "m.png"), (r"C:\data\b.png",), ("b.png",), (), ("folder/b/",)][index]

    assert [image_name(Files(), index) for index in range(5)] == ["b.png", "b.png", "b.png", "", "b"]
    assert image_name(object(), 0) == ""
    assert [shortened(text, 5) for text in ("abcde", "abcdef")] == ["abcde", "ab…ef"]
    assert len(title_of("val", 3, "x" * 99)) == len("val 3: ") + 32
