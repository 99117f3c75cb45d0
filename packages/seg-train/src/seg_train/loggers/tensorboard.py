"""TensorBoard: curves, images and hyper-parameters, in the folder `tensorboard` of the run."""

import contextlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from torch import Tensor

from seg_core.errors import InvalidArgumentError, MissingDependencyError
from seg_core.files.atomic import write_error
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import plot_confusion_matrix
from seg_train.config.schema import flatten
from seg_train.loggers.base import Logger, Moment, Snapshot, TrainingSample
from seg_train.loggers.figures import figure_of_samples, figure_of_snapshots
from seg_train.loggers.naming import scalars_of_epoch, scalars_of_step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(Logger):
    """Writes event files; `tensorboard --logdir runs` shows all runs together.

    Args:
        run_dir: run folder.
        images: whether to write the first batch, confusion matrices and snapshots too.
        flush_seconds: maximum seconds between writes to the disk.

    Raises:
        MissingDependencyError: if tensorboard is not installed.
        InvalidArgumentError: if `flush_seconds` is not positive.
    """

    def __init__(self, run_dir: Path, images: bool = True, flush_seconds: int = 30) -> None:
        super().__init__(run_dir)
        if flush_seconds < 1:
            raise InvalidArgumentError(f"flush_seconds must be at least 1, got {flush_seconds}")
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingDependencyError(
                "the logger tensorboard needs tensorboard: pip install 'seg-train[tensorboard]'"
            )
        self.images = images
        self.flush_seconds = flush_seconds
        self._writer: SummaryWriter | None = None
        self._file: Path | None = None
        self._texts: dict[str, str] = {}
        self._metadata: DatasetMetadata | None = None
        self._config: Mapping[str, Any] = {}
        self._purge_step: int | None = None
        self._step = 0

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """Opens the event file, and writes config, environment and class names as text.

        Raises:
            WriteError: if it cannot be written.
        """
        self._metadata, self._config = metadata, config
        self._texts = {
            "config": f"```toml\n{tomli_w.dumps(dict(config))}\n```",
            "environment": f"```json\n{json.dumps(environment, indent=2)}\n```",
            "classes": "\n".join(f"{index}. {name}" for index, name in enumerate(metadata.labels)),
        }
        # What was logged after the checkpoint will be logged again: TensorBoard hides the earlier entries.
        self._open_file(self._purge_step)

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """Adds an image of the samples."""
        if self.images:
            assert self._metadata is not None
            figure = figure_of_samples(samples, self._metadata)
            self._open.add_figure("first_batch", figure, self._step, close=False)

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Adds the scalars of the row."""
        self._add_scalars(scalars_of_step(row), row["step"])

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Adds the scalars of the row, with the IoU of each class."""
        self._add_scalars(scalars_of_epoch(row), row["step"])

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Adds an image of the matrix."""
        if self.images:
            assert self._metadata is not None
            figure = plot_confusion_matrix(matrix, self._metadata.labels)
            self._open.add_figure(f"confusion/{moment.weights}", figure, moment.step, close=False)

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Adds an image of each snapshot: image, ground truth and prediction."""
        if not self.images:
            return
        assert self._metadata is not None
        for shot in snapshots:
            figure = figure_of_snapshots([shot], self._metadata)
            # tags that tensorboard does not have to change, which it would warn of
            name = re.sub(r"[^-.\w]", "_", shot.name)
            tag = f"snapshots/{moment.weights}/val_{shot.index}" + (f"_{name}" if name else "")
            self._open.add_figure(tag, figure, moment.step, close=False)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Adds the hyper-parameters with the scores of the run, for the tab HPARAMS."""
        from torch.utils.tensorboard.summary import hparams

        values = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flatten(self._config).items()
        }
        scores = {f"hparam/{tag}": value for tag, value in scalars_of_epoch(summary)}
        # `add_hparams` of the writer would start a separate run
        writer = self._open.file_writer
        assert writer is not None
        for part in hparams(values, scores):
            writer.add_summary(part)
        self._add_scalars(iter(scores.items()), summary["step"])

    def close(self) -> None:
        """Closes the event file; may be called more than once."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            if not self._is_deleted():
                writer.close()
                return
            with contextlib.suppress(OSError):
                writer.close()
            self.warn(f"{self._file} was deleted; what was logged to it is lost there, metrics.jsonl has the rows")

    def state(self) -> dict[str, Any]:
        """Writes everything logged so far to the disk; there is no state to return."""
        if self._writer is not None:
            self._open.flush()
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Hides what was logged after the checkpoint."""
        self._step = state["step"]
        self._purge_step = state["step"] + 1

    @property
    def _open(self) -> "SummaryWriter":
        """The writer; its file exists, since the thread that opens it by name for each write would die otherwise."""
        assert self._writer is not None, "on_start opens it"
        if self._is_deleted():
            self.close()
            self._open_file(None)
        return self._writer

    def _is_deleted(self) -> bool:
        return self._file is not None and not self._file.is_file()

    def _open_file(self, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.run_dir / "tensorboard"
        try:
            before = set(folder.glob("events.*"))
            self._writer = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=self.flush_seconds)
        except OSError as error:
            raise write_error(f"write {folder}", error) from error
        self._file = next(iter(set(folder.glob("events.*")) - before), None)
        for tag, text in self._texts.items():
            self._writer.add_text(tag, text, self._step)

    def _add_scalars(self, scalars: Iterator[tuple[str, float]], step: int) -> None:
        for tag, value in scalars:
            self._open.add_scalar(tag, value, step)
