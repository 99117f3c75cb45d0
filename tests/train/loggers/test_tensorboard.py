"""What TensorBoard's own reader finds in the event files of a run."""

import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from seg_core import DatasetMetadata
from seg_core.errors import InvalidArgumentError, MissingDependencyError
from seg_train import Trainer, load_config
from seg_train.loggers.base import Moment, Snapshot, TrainingSample
from seg_train.loggers.group import LoggerGroup
from seg_train.loggers.naming import scalars_of_epoch, scalars_of_step
from seg_train.loggers.tensorboard import TensorBoardLogger

METADATA = DatasetMetadata("Roads", ("road", "sky"))


def read(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(
        str(run_dir / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    accumulator.Reload()
    return accumulator


def test_run_is_in_the_event_files(tables, tmp_path):
    tables["log"]["tensorboard"] = {}
    result = Trainer(load_config(tables, ["trainer.ema_decay=0.9"])).run()
    found = read(result.run_dir)
    tags = found.Tags()
    assert {"train/loss", "lr", "images_per_second", "data_wait", "memory_mib", "train/epoch_loss"} <= set(
        tags["scalars"]
    )
    for group in ("val", "val_ema"):
        names = {f"{group}/{n}" for n in ("loss", "miou", "acc", "macc", "fwiou", "dice", "iou/dark", "iou/bright")}
        assert names <= set(tags["scalars"])
    assert [event.step for event in found.Scalars("train/loss")] == [2, 4, 6]
    assert [event.step for event in found.Scalars("val/miou")] == [3, 6]
    assert found.Scalars("val/miou")[-1].value == pytest.approx(result.scores["miou"])
    snapshots = {"snapshots/last/val_0_0.png", "snapshots/ema/val_11_11.png"}
    assert {"confusion/last", "confusion/ema", *snapshots} <= set(tags["images"])
    image = found.Images("confusion/last")[0]
    assert image.width > 100
    assert image.encoded_image_string.startswith(b"\x89PNG")
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    assert 'name = "tiny_net"' in texts["config/text_summary"]
    assert '"torch"' in texts["environment/text_summary"]
    assert "1. bright" in texts["classes/text_summary"]


def test_hyper_parameters_and_results_are_shown_together(tables):
    from tensorboard.plugins.hparams import plugin_data_pb2

    tables["log"]["tensorboard"] = {"images": False}
    result = Trainer(load_config(tables)).run()
    found = read(result.run_dir)
    assert found.Tags()["images"] == []
    data = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    parsed = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info.hparams
    assert parsed["optimizer.params.lr"].number_value == 0.02
    assert parsed["model.name"].string_value == "tiny_net"
    assert parsed["data.transform.train.size"].string_value == "[32, 24]"
    assert found.Scalars("hparam/val/miou")[0].value == pytest.approx(result.scores["miou"])
    folders = {p.parent.name for p in result.run_dir.rglob("events.out*")}
    assert folders == {"tensorboard"}, "hparams begin no run of their own"


def test_resumed_run_hides_what_came_after_the_checkpoint(tables):
    tables["log"]["tensorboard"] = {}
    options = ["trainer.log_every_steps=1", "trainer.checkpoint_every_steps=2"]
    trainer = Trainer(load_config(tables, options))

    class Killed(BaseException):
        pass

    def on_step(row, original=trainer.loggers.loggers["tensorboard"].on_step):
        original(row)
        if row["step"] == 5:
            raise Killed

    trainer.loggers.loggers["tensorboard"].on_step = on_step
    with pytest.raises(Killed):
        trainer.run()
    assert [e.step for e in read(trainer.folder.path).Scalars("train/loss")] == [1, 2, 3, 4, 5]
    result = Trainer(load_config(tables, options), resume=True).run()
    found = read(result.run_dir)
    assert [e.step for e in found.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert len(list((result.run_dir / "tensorboard").iterdir())) == 2


def test_close_may_come_first_and_twice(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.close()
    logger.on_start({}, {}, METADATA)
    logger.close()
    logger.close()


def test_deleted_folder_is_told_and_a_new_file_begins(tmp_path, capfd):
    warnings = []
    group = LoggerGroup({"tensorboard": TensorBoardLogger(tmp_path)}, warnings.append)
    group.on_start({}, {}, METADATA)
    group.on_step({"epoch": 1, "step": 1, "loss": 0.5})
    group.state()
    shutil.rmtree(tmp_path / "tensorboard")
    for step in (2, 3):
        group.on_step({"epoch": 1, "step": step, "loss": 0.5})
    group.close()
    assert len(warnings) == 1
    assert re.search(r"logger tensorboard: \S+ was deleted; what was logged to it is lost there", warnings[0])
    assert [event.step for event in read(tmp_path).Scalars("train/loss")] == [2, 3]
    assert "config/text_summary" in read(tmp_path).Tags()["tensors"]
    assert capfd.readouterr().err == ""


def test_folder_deleted_at_the_end_is_told(tmp_path, capfd):
    warnings = []
    group = LoggerGroup({"tensorboard": TensorBoardLogger(tmp_path)}, warnings.append)
    group.on_start({}, {}, METADATA)
    group.state()
    shutil.rmtree(tmp_path / "tensorboard")
    group.close()
    assert len(warnings) == 1
    assert "was deleted" in warnings[0]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("when", ["before", "during"])
def test_file_in_place_of_the_folder_is_told_in_a_sentence(tmp_path, when, capfd):
    warnings = []
    group = LoggerGroup({"tensorboard": TensorBoardLogger(tmp_path)}, warnings.append)
    if when == "during":
        group.on_start({}, {}, METADATA)
        group.state()
        shutil.rmtree(tmp_path / "tensorboard")
    (tmp_path / "tensorboard").write_text("mine")
    if when == "before":
        group.on_start({}, {}, METADATA)
    group.on_step({"epoch": 1, "step": 2, "loss": 0.5})
    group.close()
    assert group.loggers == {}
    assert "Traceback" not in "".join(warnings)
    assert "a file is in the place of a folder" in warnings[-1]
    assert (tmp_path / "tensorboard").read_text() == "mine"
    assert capfd.readouterr().err == ""


def test_first_batch_is_an_image(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.on_start({}, {}, METADATA)
    sample = TrainingSample(0, "a.png", torch.zeros(3, 32, 24, dtype=torch.uint8), torch.zeros(32, 24).long())
    logger.on_first_batch([sample] * 3)
    logger.close()
    assert read(tmp_path).Images("first_batch")[0].width > 100


def test_names_of_files_in_tags_are_ones_that_tensorboard_keeps(tmp_path, caplog):
    logger = TensorBoardLogger(tmp_path)
    logger.on_start({}, {}, METADATA)
    mask = torch.zeros(32, 24, dtype=torch.uint8)
    for index, name in enumerate(("straße (1).png", "")):
        logger.on_snapshots(Moment(1, 3), [Snapshot(index, mask.repeat(3, 1, 1), mask, mask, name)])
    logger.close()
    assert set(read(tmp_path).Tags()["images"]) == {"snapshots/last/val_0_straße__1_.png", "snapshots/last/val_1"}
    assert caplog.text == ""


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-train\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)


def test_matrix_of_many_classes_is_a_image_one_can_read(tmp_path):
    metadata = DatasetMetadata("Many", tuple(f"class {i}" for i in range(19)))
    logger = TensorBoardLogger(tmp_path)
    logger.on_start({}, {}, metadata)
    logger.on_confusion_matrix(Moment(3, 30), torch.from_numpy(np.random.default_rng(0).integers(0, 9, (19, 19))))
    logger.close()
    image = read(tmp_path).Images("confusion/last")[0]
    assert image.step == 30
    assert min(image.width, image.height) > 500


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_of_step_rows():
    row = {"epoch": 1, "step": 2, "loss": 0.5, "lr": 0.1, "images_per_second": math.nan, "own": 3, "text": "a"}
    assert dict(scalars_of_step(row)) == {"train/loss": 0.5, "lr": 0.1, "own": 3.0}


def test_names_of_epoch_rows():
    row = {
        "epoch": 1, "step": 2, "train_loss": 1.0, "train_miou": 0.25, "val_loss": 0.75, "miou": 0.5, "absent": "skip",
        "iou_per_class": {"sky": 0.5, "tree": None}, "ema_val_loss": 0.5, "ema_miou": 0.6,
        "ema_iou_per_class": {"sky": math.nan, "tree": 0.1}, "lr": 0.1, "own": 7,
    }  # fmt: skip
    assert dict(scalars_of_epoch(row)) == {
        "train/epoch_loss": 1.0, "train/miou": 0.25, "val/loss": 0.75, "val/miou": 0.5, "val/iou/sky": 0.5,
        "val_ema/loss": 0.5, "val_ema/miou": 0.6, "val_ema/iou/tree": 0.1, "lr": 0.1, "own": 7.0,
    }  # fmt: skip
    assert dict(scalars_of_epoch({"epoch": 1, "step": 2, "train_loss": 1.0})) == {"train/epoch_loss": 1.0}


def test_time_between_writes_must_be_positive(tmp_path):
    with pytest.raises(InvalidArgumentError, match="flush_seconds must be at least 1, got 0"):
        TensorBoardLogger(tmp_path, flush_seconds=0)
