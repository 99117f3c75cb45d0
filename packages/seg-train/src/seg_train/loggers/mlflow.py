"""MLflow: the run with its parameters, curves, images and results."""

import contextlib
import getpass
import importlib.util
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seg_core.errors import MissingDependencyError, UserError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import exhibit_figure, plot_confusion_matrix
from seg_train.config.schema import flatten
from seg_train.loggers.base import Logger, Moment, Snapshot, TrainingSample
from seg_train.loggers.figures import figure_of_samples, figure_of_snapshots
from seg_train.loggers.naming import scalars_of_epoch, scalars_of_step, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

__all__ = ["MLflowLogger"]

_INSTALL = "pip install 'seg-train[mlflow]'"
# For calls of this logger, unless the user has set them: MLflow's own values would let a run wait for a server for ten
# minutes, and its messages would be mixed with the progress.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
# MLflow's limits
_MAX_METRICS = 1000  # per request
_MAX_PARAMS = 100  # per request; of tags too
_MAX_NAME = 250  # characters
_MAX_VALUE = 6000
_SECONDS_BETWEEN = 5.0  # requests; rows of steps are sent together
_SECONDS_AFTER_FAILURE = 60.0
_MAX_WAITING = 200_000  # metrics kept while the server cannot be reached
# errors that pass: a server that cannot be reached, or that has too much to do
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


class MLflowLogger(Logger):
    """Logs to an MLflow run, on a server or in a local store.

    Config values are params, scores are metrics over steps, figures and the config file are artifacts. A resumed run
    continues in the same MLflow run; metrics that were logged after the checkpoint appear twice, since MLflow cannot
    delete them. If the server cannot be reached at the start, the run continues without it; if it cannot be reached
    later, metrics are kept and sent when it answers again. The status of the MLflow run is FINISHED at the end of the
    run, KILLED after an interruption and FAILED after an error.

    Args:
        run_dir: run folder.
        tracking_uri: URL of the server, or a local store such as `"sqlite:///mlflow.db"`; by default the environment
            variable MLFLOW_TRACKING_URI, else MLflow's default store in the working directory, which `mlflow ui` shows.
        experiment: name of the MLflow experiment, which is created if needed; default: the environment variable
            MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else `"seg-train"`.
        run_name: name of the MLflow run; default: name of the run folder.
        tags: further tags of the MLflow run.
        images: whether to log the first batch, confusion matrices and snapshots too.
        model: whether to log `model_best.pt` at the end of the run.

    Raises:
        MissingDependencyError: if mlflow is not installed.
    """

    def __init__(
        self,
        run_dir: Path,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        images: bool = True,
        model: bool = False,
    ) -> None:
        super().__init__(run_dir)
        if importlib.util.find_spec("mlflow") is None:
            raise MissingDependencyError(f"the logger mlflow needs mlflow: {_INSTALL}")
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name or run_dir.name
        self.tags = dict(tags or {})
        self.images = images
        self.model = model
        self._client: MlflowClient | None = None
        self._run_id: str | None = None
        self._stored_uri: str | None = None
        self._step = 0
        self._metadata: DatasetMetadata | None = None
        self._names = _Names()
        self._waiting: list[tuple[str, float, int, int]] = []  # name, value, time in ms, step
        self._send_after = 0.0
        self._is_unreachable = False
        self._is_finished = False

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """Opens the MLflow run, with params, tags and the config file.

        Raises:
            UserError: if the store cannot be used or reached, or the experiment was deleted.
        """
        self._metadata = metadata
        for label in metadata.labels:  # first come, first served: names do not depend on what is logged when
            self._names[f"val/iou/{label}"], self._names[f"val_ema/iou/{label}"]
        with _quiet(), self._explained():
            from mlflow.tracking import MlflowClient, get_tracking_uri

            uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or self._stored_uri or get_tracking_uri()
            self._stored_uri = uri
            client = MlflowClient(tracking_uri=uri)
            if self._run_id is None or not self._continue_run(client, self._run_id):
                self._run_id = self._create_run(client, environment)
            self._client = client
            self._log_params(config)
            if (self.run_dir / "config.toml").is_file():
                self._log_artifact(self.run_dir / "config.toml")

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """Logs an image of the samples."""
        if self.images:
            assert self._metadata is not None
            figure = figure_of_samples(samples, self._metadata)
            self._log_figure("first_batch.png", figure)

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Logs the row; rows of a few seconds are sent together."""
        self._add({**dict(scalars_of_step(row)), "epoch": float(row["epoch"])}, row["step"])
        if time.monotonic() >= self._send_after:
            self._send()

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Logs the row, with the IoU of each class."""
        self._add({**dict(scalars_of_epoch(row)), "epoch": float(row["epoch"])}, row["step"])
        if not self._is_unreachable or time.monotonic() >= self._send_after:
            self._send()

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Logs an image of the matrix."""
        if self.images:
            assert self._metadata is not None
            self._log_figure(f"confusion/{moment.name}.png", plot_confusion_matrix(matrix, self._metadata.labels))

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Logs one image of the snapshots: image, ground truth and prediction."""
        if self.images:
            assert self._metadata is not None
            figure = figure_of_snapshots(snapshots, self._metadata, moment)
            self._log_figure(f"snapshots/{moment.name}.png", figure)

    def on_end(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002 - its row is logged already
        """Logs the best model if wanted; `close` then ends the MLflow run as FINISHED."""
        self._is_finished = True
        if self.model and (self.run_dir / "model_best.pt").is_file() and not self._is_unreachable:
            with _quiet():
                self._log_artifact(self.run_dir / "model_best.pt")

    def close(self) -> None:
        """Sends what is left, and ends the MLflow run; may be called more than once."""
        client, run_id = self._client, self._run_id
        if client is None or run_id is None:
            return
        error = sys.exc_info()[1]  # what ends the run, if something does
        status = "FINISHED" if self._is_finished else "FAILED" if _is_failure(error) else "KILLED"
        try:
            self._send()
        finally:
            self._client = None
        if self._is_unreachable:
            self.warn(f"{len(self._waiting)} metrics were not sent, and the MLflow run {run_id} stays open")
            return
        with _quiet(), self._explained():
            client.set_terminated(run_id, status)

    def state(self) -> dict[str, Any]:
        """Sends what is left, and returns the id of the MLflow run and where it is."""
        if self._client is not None and (not self._is_unreachable or time.monotonic() >= self._send_after):
            self._send()
        return {"run_id": self._run_id, "tracking_uri": self._stored_uri}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues in the MLflow run of the checkpoint."""
        self._run_id = state.get("run_id")
        self._stored_uri = state.get("tracking_uri")
        self._step = state["step"]

    # ---- start -------------------------------------------------------------------------------------------------------

    def _create_run(self, client: "MlflowClient", environment: Mapping[str, Any]) -> str:
        tags = {
            "mlflow.source.name": " ".join(map(str, environment.get("command", ()))),
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user_name(),
            "run_dir": str(self.run_dir),
            **{f"version.{name}": str(version) for name, version in environment.get("packages", {}).items()},
            **self.tags,
        }
        tags = {_cleaned(name): str(value)[:_MAX_VALUE] for name, value in tags.items() if value is not None}
        run = client.create_run(self._experiment_id(client), run_name=self.run_name, tags=tags)
        return str(run.info.run_id)

    def _experiment_id(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        if not self.experiment and os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "seg-train"
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name))
            except MlflowException:  # another run may have created it meanwhile
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise UserError(
                f"the MLflow experiment {name!r} was deleted; restore it with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or set another name with -s log.mlflow.experiment=NAME"
            )
        return str(found.experiment_id)

    def _continue_run(self, client: "MlflowClient", run_id: str) -> bool:
        """Continues an MLflow run; returns whether it still exists."""
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            found = False
        if found:
            client.update_run(run_id, status="RUNNING")
        else:
            self.warn(
                f"the MLflow run {run_id} of this run was deleted, or is in another store than {self._stored_uri}; a "
                f"new one begins, without what was logged up to step {self._step}"
            )
        return found

    def _log_params(self, config: Mapping[str, Any]) -> None:
        """Logs the config. MLflow changes no param: a new value, as of the length of a resumed run, is a tag."""
        from mlflow.entities import Param, RunTag

        assert self._client is not None and self._run_id is not None
        known = self._client.get_run(self._run_id).data.params
        names, values = _Names(), {}
        for key, value in flatten(config).items():
            values[names[key]] = shortened(str(value), _MAX_VALUE)
        params = [Param(name, value) for name, value in values.items() if name not in known]
        tags = [RunTag(name, value) for name, value in values.items() if known.get(name, value) != value]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + _MAX_PARAMS])
        for start in range(0, len(tags), _MAX_PARAMS):
            self._client.log_batch(self._run_id, tags=tags[start : start + _MAX_PARAMS])

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _add(self, scalars: Mapping[str, float], step: int) -> None:
        now = round(time.time() * 1000)
        self._waiting += [(self._names[name], value, now, step) for name, value in scalars.items()]
        del self._waiting[:-_MAX_WAITING]

    def _send(self) -> None:
        """Sends the metrics that wait; if the server cannot be reached, they wait on, which is told once."""
        assert self._client is not None and self._run_id is not None, "on_start opens it"
        self._send_after = time.monotonic() + _SECONDS_BETWEEN
        if not self._waiting:
            return
        with _quiet():
            from mlflow.entities import Metric
            from mlflow.exceptions import MlflowException

            try:
                while self._waiting:
                    part = self._waiting[:_MAX_METRICS]
                    self._client.log_batch(self._run_id, metrics=[Metric(*values) for values in part])
                    del self._waiting[: len(part)]
            except MlflowException as error:
                if error.error_code not in _PASSING:
                    raise UserError(_reason(error)) from error
                self._send_after = time.monotonic() + _SECONDS_AFTER_FAILURE
                if not self._is_unreachable:
                    self.warn(f"metrics are kept until they can be sent: {_reason(error)}")
                self._is_unreachable = True
            else:
                self._is_unreachable = False

    def _log_figure(self, name: str, figure: "Figure") -> None:
        if self._is_unreachable:
            return
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / name
            exhibit_figure(figure, save_to=path)
            self._log_artifact(path, str(Path(name).parent))

    def _log_artifact(self, path: Path, folder: str = ".") -> None:
        """Uploads a file. A store of artifacts that does not work costs the images alone."""
        assert self._client is not None and self._run_id is not None
        try:
            self._client.log_artifact(self._run_id, str(path), None if folder == "." else folder)
        except Exception as error:  # of any library of cloud storage
            self.images = self.model = False
            self.warn(f"artifacts (images, files) are no longer logged; {path.name} failed: {_reason(error)}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the errors of MLflow, and of the libraries below it, into one sentence each."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if "unsupported URI" in str(error) and importlib.util.find_spec("sqlalchemy") is None:
                raise MissingDependencyError(f"MLflow's local store needs sqlalchemy: {_INSTALL}") from error
            raise UserError(f"{self._stored_uri}: {_reason(error)}") from error


class _Names(dict[str, str]):
    """Names as MLflow allows them: letters, digits and `_-. /`; two names stay two."""

    def __missing__(self, name: str) -> str:
        cleaned, number = _cleaned(name), 1
        while cleaned in self.values():
            number += 1
            cleaned = _cleaned(name, f"_{number}")
        self[name] = cleaned
        return cleaned


def _cleaned(name: str, end: str = "") -> str:
    # the parts between slashes are folders in some stores
    parts = [re.sub(r"[^-\w. ]", "_", part).strip() for part in name.split("/")]
    parts = [part if part.strip(".") else "_" for part in parts]
    return shortened("/".join(parts), _MAX_NAME - len(end)).replace("…", "_") + end


def _reason(error: Exception) -> str:
    """Returns the message of an error in one line, without the SQL statement that sqlalchemy quotes."""
    text = " ".join(str(error).split()).partition(" [SQL: ")[0] or type(error).__name__
    return shortened(text, 400)


def _is_failure(error: BaseException | None) -> bool:
    """Returns whether an error ends a run, and not a request to stop it."""
    is_stop = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 1) > 128  # as after a signal
    return error is not None and not is_stop


def _user_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without an entry, as in containers
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the block MLflow waits for a server only for a while, and writes nothing to the terminal."""
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for name in missing:
            os.environ.pop(name, None)
