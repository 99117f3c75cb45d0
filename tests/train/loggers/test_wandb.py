"""Offline runs, read back with W&B's own classes; nothing uses the network."""

import json
import struct
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from seg_core import DatasetMetadata
from seg_core.errors import InvalidArgumentError, MissingDependencyError
from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.loggers.base import Moment, Snapshot, TrainingSample
from seg_train.loggers.wandb import WandbLogger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb", "ignore::DeprecationWarning:pydantic")


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def messages(data):
    """The messages of a log in LevelDB's format, which starts after 7 bytes in W&B's files."""
    block, place, parts = 32_768, 7, []
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left  # a header is never split
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def records(run_dir, files=1):
    """Every record of the run's offline files, in order, read by W&B's own classes.

    W&B's own process writes a file per run and process, on a busy machine some time after `finish` has returned: the
    second file may not even exist yet when the first is complete. So the caller says how many there will be. The last
    record of each is "exit".
    """
    limit = time.monotonic() + 120
    while True:
        found = records_so_far(run_dir)
        complete = sum(record.WhichOneof("record_type") == "exit" for record in found)
        if complete == files:
            return found
        assert time.monotonic() < limit, f"{complete} of {files} files are complete"
        time.sleep(0.1)


def records_so_far(run_dir):
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(run_dir.rglob("*.wandb")):
        data = path.read_bytes()
        assert data.startswith(b":W&B")
        for message in messages(data):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            found.append(record)
    return found


def histories(run_dir, files=1):
    rows = []
    for record in records(run_dir, files):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append(items)
    return rows


def runs(run_dir, files=1):
    return [record.run for record in records(run_dir, files) if record.WhichOneof("record_type") == "run"]


def test_offline_run_holds_config_rows_images_and_results(tables, tmp_path):
    tables["log"]["wandb"] = {"mode": "offline", "project": "roads", "tags": ["first"]}
    result = Trainer(load_config(tables, ["trainer.ema_decay=0.9"])).run()
    run = runs(result.run_dir)[0]
    assert (run.project, run.display_name, list(run.tags)) == ("roads", "run", ["first"])
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimizer"]["params"] == {"lr": 0.02}
    assert config["environment"]["packages"]["torch"]
    rows = histories(result.run_dir)
    assert [row["step"] for row in rows if "train/loss" in row] == [2, 4, 6]
    evaluations = [row for row in rows if "val/miou" in row]
    assert [row["epoch"] for row in evaluations] == [1, 2]
    assert evaluations[-1]["val/miou"] == result.scores["miou"]
    assert evaluations[-1]["val_ema/miou"] == result.scores["ema_miou"]
    assert evaluations[-1]["val/iou/bright"] == result.scores["iou_per_class"]["bright"]
    for tag in ("confusion/last", "confusion/ema", "snapshots/last/val_0", "snapshots/ema/val_11"):
        images = [row[f"{tag}/path"] for row in rows if f"{tag}/path" in row]
        assert len(images) == 2, tag
        path = next(path for path in result.run_dir.rglob("files") if path.is_dir()) / images[0]
        assert path.read_bytes().startswith(b"\x89PNG")
    summary = {}
    for record in records(result.run_dir):
        if record.WhichOneof("record_type") == "summary":
            summary |= {item.key or "/".join(item.nested_key): item.value_json for item in record.summary.update}
    assert json.loads(summary["val/miou"]) == result.scores["miou"]


def test_images_need_no_pyplot(tmp_path, monkeypatch):
    # as in a run of its own; here another test may have imported it
    monkeypatch.delattr("matplotlib.pyplot", raising=False)
    logger = WandbLogger(tmp_path, mode="offline")
    logger.on_start({}, {}, DatasetMetadata("Roads", ("road", "sky")))
    try:
        logger.on_confusion_matrix(Moment(1, 3), torch.tensor([[90, 10], [3, 7]]))
        target = torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8).repeat_interleave(24, 0).repeat_interleave(32, 1)
        shot = Snapshot(4, torch.full((3, 48, 64), 128, dtype=torch.uint8), target, 1 - target, "road.png")
        logger.on_snapshots(Moment(1, 3, "ema"), [shot])
        logger.on_first_batch([TrainingSample(0, "a.png", shot.image, target.long())])
    finally:
        logger.close()
    sizes = {}
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            sizes[path.parent.name, path.name.partition("_")[0]] = image.size
    assert {folder for folder, _ in sizes} == {"confusion", "ema", "images"}
    captions = [row.get("snapshots/ema/val_4/caption") for row in histories(tmp_path)]
    assert "val 4: road.png" in captions
    assert min(min(size) for size in sizes.values()) > 100


def test_resumed_run_continues_in_the_same_run_of_wandb(tables):
    from tests.train.run.test_trainer import run_until

    tables["log"]["wandb"] = {"mode": "offline", "images": False}
    run_until(tables, 2)
    begun = int(time.time())
    while int(time.time()) == begun:  # W&B names the file of an offline run by the second
        time.sleep(0.01)
    result = Trainer(load_config(tables), resume=True).run()
    assert len({run.run_id for run in runs(result.run_dir, files=2)}) == 1
    assert [row["step"] for row in histories(result.run_dir, files=2) if "train/loss" in row] == [2, 4, 6]


def test_without_a_key_the_run_continues_and_nothing_waits(tables, monkeypatch):
    warnings = []

    class Collecting(Progress):
        def warn(self, text):
            warnings.append(text)

    def read(*arguments):
        raise AssertionError("it asks at the terminal")

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("getpass.getpass", read)
    tables["log"]["wandb"] = {"mode": "online"}
    begin = time.monotonic()
    result = Trainer(load_config(tables), progress=Collecting()).run()
    assert result.scores["epoch"] == 2
    assert len(warnings) == 1
    assert "logger wandb failed in on_start; the run continues without it" in warnings[0]
    assert "WANDB_API_KEY" in warnings[0]
    assert time.monotonic() - begin < 60
    assert not list(result.run_dir.rglob("*.wandb"))


def test_disabled_run_writes_nothing(tables):
    tables["log"]["wandb"] = {"mode": "disabled"}
    result = Trainer(load_config(tables)).run()
    assert not list(result.run_dir.rglob("*.wandb"))


def test_what_wandb_offline_has_set_for_the_folder_counts(tmp_path):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")  # as `wandb offline` writes it
    code = (
        "from pathlib import Path; from seg_core import DatasetMetadata\n"
        "from seg_train.loggers.wandb import WandbLogger\n"
        "logger = WandbLogger(Path('run').absolute())\n"
        "logger.on_start({}, {}, DatasetMetadata('Roads', ('road', 'sky'))); logger.close()"
    )
    # W&B reads its settings once per process
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path / "run")) == 1


def test_unknown_mode_is_an_error(tmp_path):
    with pytest.raises(InvalidArgumentError, match="mode must be one of online, offline, disabled, got 'of'"):
        WandbLogger(tmp_path, mode="of")


def test_without_wandb_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-train\[wandb\]'"):
        WandbLogger(tmp_path)
