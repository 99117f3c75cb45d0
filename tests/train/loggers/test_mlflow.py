"""Runs in MLflow's own local store, read back with its client; nothing uses the network but closed local ports."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from seg_core import DatasetMetadata
from seg_core.errors import MissingDependencyError
from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.loggers.base import Moment, TrainingSample
from seg_train.loggers.group import LoggerGroup
from seg_train.loggers.mlflow import MLflowLogger, _Names, _quiet
from seg_train.run.interruption import RunInterruptedError
from tests.train.run.test_trainer import run_until

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and sqlalchemy, when the tests read a store

METADATA = DatasetMetadata("Roads", ("road", "sky"))


class Collecting(Progress):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """The file of a store without experiments: to make its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    open_client(folder).get_experiment_by_name("any")
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path)
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(tmp_path):
    return open_client(tmp_path)


def open_client(tmp_path):
    with _quiet():
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def runs_of(client, experiment="seg-train"):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], order_by=["attributes.start_time"])


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_run_is_in_the_local_store(tables, client, tmp_path):
    tables["log"]["mlflow"] = {"tags": {"team": "roads"}, "model": True}
    progress = Collecting()
    result = Trainer(load_config(tables, ["trainer.ema_decay=0.9"]), progress=progress).run()
    assert progress.warnings == []
    (run,) = runs_of(client)
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["optimizer.params.lr"] == "0.02"
    assert run.data.params["data.transform.train.size"] == "[32, 24]"
    assert run.data.tags["team"] == "roads"
    assert run.data.tags["version.torch"] == torch.__version__
    assert run.data.metrics["val/miou"] == result.scores["miou"]
    assert run.data.metrics["val_ema/miou"] == result.scores["ema_miou"]
    assert run.data.metrics["val/iou/bright"] == result.scores["iou_per_class"]["bright"]
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [2, 4, 6]
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val/loss")] == [3, 6]
    files = {
        file.path
        for folder in ("", "confusion", "snapshots")
        for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert {"config.toml", "model_best.pt"} <= files
    for name in ("epoch_0001", "epoch_0002", "epoch_0002_ema"):
        assert {f"confusion/{name}.png", f"snapshots/{name}.png"} <= files
    path = client.download_artifacts(run.info.run_id, "confusion/epoch_0002.png", str(tmp_path))
    with Image.open(path) as image:
        assert min(image.size) > 100
    path = client.download_artifacts(run.info.run_id, "model_best.pt", str(tmp_path))
    assert (result.run_dir / "model_best.pt").read_bytes() == Path(path).read_bytes()


def test_options(tables, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    tables["log"]["mlflow"] = {
        "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "experiment": "roads", "run_name": "first", "images": False
    }  # fmt: skip
    Trainer(load_config(tables)).run()
    client = open_client(tmp_path)
    (run,) = runs_of(client, "roads")
    assert run.info.run_name == "first"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["config.toml"]
    assert not (tmp_path / "other.db").exists()


def test_default_store_is_made_where_mlflow_looks_for_it(tmp_path, capfd):
    (tmp_path / "mlflow.db").unlink()
    logger = MLflowLogger(tmp_path / "runs" / "first")
    logger.on_start({}, {}, METADATA)
    logger.close()
    assert capfd.readouterr() == ("", "")
    assert len(runs_of(open_client(tmp_path))) == 1


def test_variables_of_the_environment_count(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "roads")
    logger = MLflowLogger(tmp_path / "first")
    logger.on_start({}, {}, METADATA)
    logger.close()
    assert runs_of(open_client(tmp_path), "roads")[0].info.run_name == "first"


def test_resumed_run_continues_in_the_same_run_of_mlflow(tables, client):
    tables["log"]["mlflow"] = {}
    run_until(tables, 2)
    (run,) = runs_of(client)
    assert run.info.status == "KILLED"
    progress = Collecting()
    Trainer(load_config(tables, ["trainer.epochs=3"]), resume=True, progress=progress).run()
    assert progress.warnings == []
    (run,) = runs_of(client)
    assert run.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [2, 4, 6, 8]
    # a param cannot be changed
    assert (run.data.params["trainer.epochs"], run.data.tags["trainer.epochs"]) == ("2", "3")


def test_deleted_run_is_told_and_a_new_one_begins(tables, client):
    tables["log"]["mlflow"] = {"images": False}
    run_until(tables, 2)
    (first,) = runs_of(client)
    client.delete_run(first.info.run_id)
    progress = Collecting()
    Trainer(load_config(tables), resume=True, progress=progress).run()
    assert len(progress.warnings) == 1
    assert f"logger mlflow: the MLflow run {first.info.run_id} of this run was deleted" in progress.warnings[0]
    assert "without what was logged up to step 2" in progress.warnings[0]
    (second,) = runs_of(client)
    assert (second.info.status, second.info.run_id != first.info.run_id) == ("FINISHED", True)


def test_deleted_experiment_is_told(tables, client):
    tables["log"]["mlflow"] = {}
    with _quiet():
        number = client.create_experiment("seg-train")
        client.delete_experiment(number)
    progress = Collecting()
    Trainer(load_config(tables), progress=progress).run()
    assert len(progress.warnings) == 1
    assert "the MLflow experiment 'seg-train' was deleted; restore it with" in progress.warnings[0]


def test_failed_run_is_failed(tables, client):
    tables["log"]["mlflow"] = {"images": False}
    trainer = Trainer(load_config(tables))
    trainer._log_step = lambda *a: (_ for _ in ()).throw(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        trainer.run()
    assert runs_of(client)[0].info.status == "FAILED"


def test_stopped_run_is_killed(tables, client):
    tables["log"]["mlflow"] = {"images": False}
    trainer = Trainer(load_config(tables))
    trainer._log_step = lambda *a: trainer._stop()
    with pytest.raises(RunInterruptedError):
        trainer.run()
    assert runs_of(client)[0].info.status == "KILLED"


def test_server_that_cannot_be_reached_costs_the_logger_alone(tables, capfd):
    tables["log"]["mlflow"] = {"tracking_uri": f"http://127.0.0.1:{closed_port()}"}
    progress = Collecting()
    begin = time.monotonic()
    result = Trainer(load_config(tables), progress=progress).run()
    assert result.scores["epoch"] == 2
    assert time.monotonic() - begin < 60
    assert len(progress.warnings) == 1
    assert "logger mlflow failed in on_start; the run continues without it: http://127.0.0.1" in progress.warnings[0]
    assert "Traceback" not in progress.warnings[0]
    assert capfd.readouterr() == ("", "")


def test_server_that_does_not_answer_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # as a user may set it
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # connections wait in its queue for ever
        warnings = []
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        group = LoggerGroup({"mlflow": MLflowLogger(tmp_path, tracking_uri=uri)}, warnings.append)
        begin = time.monotonic()
        group.on_start({}, {}, METADATA)
        assert time.monotonic() - begin < 20
    assert len(warnings) == 1
    assert group.loggers == {}


def test_metrics_wait_while_the_server_is_gone(tmp_path, client):
    from mlflow.exceptions import MlflowException

    warnings = []
    logger = MLflowLogger(tmp_path / "run")
    group = LoggerGroup({"mlflow": logger}, warnings.append)
    group.on_start({}, {}, METADATA)
    log_batch = logger._client.log_batch

    def gone(*arguments, **options):
        raise MlflowException("API request failed")

    logger._client.log_batch = gone
    for step in (1, 2, 3):
        group.on_step({"epoch": 1, "step": step, "loss": 0.5})
        logger._send_after = 0
    assert len(warnings) == 1
    assert "metrics are kept until they can be sent" in warnings[0]
    logger._client.log_batch = log_batch
    group.on_step({"epoch": 1, "step": 4, "loss": 0.5})
    group.close()
    (run,) = runs_of(client)
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3, 4]
    assert len(warnings) == 1


def test_artifacts_that_cannot_be_stored_cost_the_images_alone(tmp_path, client):
    warnings = []
    logger = MLflowLogger(tmp_path / "run")
    group = LoggerGroup({"mlflow": logger}, warnings.append)
    group.on_start({}, {}, METADATA)

    def fails(*arguments, **options):
        raise ModuleNotFoundError("No module named 'boto3'")

    logger._client.log_artifact = fails
    for epoch in (1, 2):
        group.on_confusion_matrix(Moment(epoch, epoch), torch.eye(2))
    group.on_step({"epoch": 1, "step": 4, "loss": 0.5})
    group.close()
    assert len(warnings) == 1
    assert (
        "artifacts (images, files) are no longer logged; epoch_0001.png failed: No module named 'boto3'" in warnings[0]
    )
    assert runs_of(client)[0].data.metrics["train/loss"] == 0.5


def test_first_batch_is_an_artifact(tmp_path, client):
    logger = MLflowLogger(tmp_path / "run")
    logger.on_start({}, {}, METADATA)
    image = torch.zeros(3, 32, 24, dtype=torch.uint8)
    logger.on_first_batch([TrainingSample(0, "a.png", image, torch.zeros(32, 24, dtype=torch.int64))])
    logger.close()
    assert [f.path for f in client.list_artifacts(runs_of(client)[0].info.run_id)] == ["first_batch.png"]


def test_many_and_long_params(tmp_path, client):
    config = {"model": {"params": {f"option {i}": i for i in range(230)}, "text": "x" * 9000}}
    logger = MLflowLogger(tmp_path / "run")
    logger.on_start(config, {}, METADATA)
    logger.close()
    params = runs_of(client)[0].data.params
    assert len(params) == 231
    assert params["model.params.option 229"] == "229"
    assert 1000 < len(params["model.text"]) <= 6000


def test_names_that_mlflow_refuses(tmp_path, client):
    labels = ("a+b", "a*b", "a/../b", "straße: naß", "x" * 300, ".", "road (left)", "a//b")
    logger = MLflowLogger(tmp_path / "run")
    logger.on_start({"key with %": 1}, {}, DatasetMetadata("Odd", labels))
    ious = {label: index / 10 for index, label in enumerate(labels)}
    logger.on_epoch({"epoch": 1, "step": 3, "miou": 0.5, "iou_per_class": ious})
    logger.close()
    metrics = runs_of(client)[0].data.metrics
    assert sorted(v for k, v in metrics.items() if k.startswith("val/iou/")) == sorted(ious.values())
    assert (metrics["val/iou/a_b"], metrics["val/iou/a_b_2"]) == (0.0, 0.1)
    assert metrics["val/iou/road _left_"] == 0.6


def test_names_are_valid_and_distinct():
    names = _Names()
    found = [names[name] for name in ("a?", "a!", "/a", "a/", "..", "é", "b" * 251, "b" * 252, "b" * 251)]
    assert found[-1] == found[-3]
    assert len(set(found)) == 8
    assert all(re.fullmatch(r"[/\w.\- ]{1,250}", name) and "//" not in name for name in found)


def test_terminal_and_environment_stay_as_they_are(tables, tmp_path):
    code = (
        "import logging, os, sys, threading\n"
        "from pathlib import Path; from seg_core import DatasetMetadata\n"
        "from seg_train.loggers.mlflow import MLflowLogger\n"
        "assert 'mlflow' not in sys.modules\n"
        "before = dict(os.environ)\n"
        "logger = MLflowLogger(Path('run').absolute())\n"
        "logger.on_start({}, {}, DatasetMetadata('Roads', ('road', 'sky')))\n"
        "logger.on_step({'epoch': 1, 'step': 1, 'loss': 0.5}); logger.close()\n"
        "assert dict(os.environ) == before, set(os.environ) ^ set(before)\n"
        "assert logging.root.manager.disable == 0 and not logging.root.handlers\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    # where MLflow takes a process for a test it sends no telemetry
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(runs_of(open_client(tmp_path))) == 1


def test_close_may_come_first_and_twice(tmp_path):
    logger = MLflowLogger(tmp_path / "run")
    logger.close()
    logger.on_start({}, {}, METADATA)
    logger.close()
    logger.close()


def test_without_mlflow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-train\[mlflow\]'"):
        MLflowLogger(tmp_path)
