"""Writes files to the run folder: metrics as JSON lines and CSV, plots, confusion matrices and snapshots."""

import csv
import functools
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.checks import is_number
from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files.atomic import write_text
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import exhibit_figure, plot_confusion_matrix, plot_running_metrics
from seg_train.loggers.base import Logger, Moment, Snapshot, TrainingSample
from seg_train.loggers.figures import figure_of_samples, figure_of_snapshots
from seg_train.loggers.row_file import RowFile, flat_rows

__all__ = ["LocalLogger"]

# Row key -> curve of plots/metrics.png, for rows of steps and of epochs.
_STEP_CURVES = {"loss": "train/loss", "lr": "lr", "images_per_second": "images per second"}
_EPOCH_CURVES = {
    "val_loss": "val/loss",
    "train_miou": "train/miou",
    "miou": "val/miou",
    "acc": "val/acc",
    "ema_val_loss": "val_ema/loss",
    "ema_miou": "val_ema/miou",
    "ema_acc": "val_ema/acc",
}


class LocalLogger(Logger):
    """Writes `metrics.jsonl`, `plots/metrics.png`, `confusion/epoch_*.png` and `snapshots/epoch_*.png`.

    `plots/first_batch.png` shows samples of the first batch as the network sees them, after augmentation.

    `steps.csv` and `epochs.csv` contain the rows of `metrics.jsonl` as tables, rewritten with each checkpoint and at
    the end; the IoU of a class is a column `iou_per_class.<class>`. Rows that cannot be written, for example because
    the disk is full, are kept and written with the next ones. If `metrics.jsonl` is deleted or damaged, it is written
    again, and the damaged file is kept as `metrics.damaged.jsonl`; a resumed run takes what the file has lost from the
    tables. Each such event is told once.

    Images are drawn after evaluations, as long as drawing has taken at most a given fraction of the training time so
    far; the first and the last evaluation are always drawn. Rows are always written.

    Args:
        run_dir: run folder.
        max_drawing_share: fraction 0 to 1 of the training time that drawing may take; 0 draws nothing, 1 draws every
            evaluation.

    Raises:
        InvalidArgumentError: if the fraction is out of range.
    """

    def __init__(self, run_dir: Path, max_drawing_share: float = 0.03) -> None:
        super().__init__(run_dir)
        if not 0 <= max_drawing_share <= 1:
            raise InvalidArgumentError(f"max_drawing_share must be between 0 and 1, got {max_drawing_share!r}")
        self.max_drawing_share = max_drawing_share
        self._file = RowFile(run_dir / "metrics.jsonl")
        self._tables = {kind: run_dir / f"{kind}s.csv" for kind in ("step", "epoch")}
        self._state: Mapping[str, Any] | None = None
        self._told: set[str] = set()
        self._curves: dict[str, list[tuple[float, float]]] = {}
        self._metadata: DatasetMetadata | None = None
        self._drawing_seconds = 0.0
        self._draws = True
        # Images of the last evaluation that are not drawn yet, by kind.
        self._pending: dict[str, Callable[[], None]] = {}

    def on_start(
        self,
        config: Mapping[str, Any],  # noqa: ARG002 - as every logger
        environment: Mapping[str, Any],  # noqa: ARG002 - as every logger
        metadata: DatasetMetadata,
    ) -> None:
        """Reads the rows that a resumed run has written before, and removes those newer than the checkpoint."""
        self._metadata = metadata
        try:
            state = self._state
            self._warn_of(self._file.begin() if state is None else self._file.resume(state, self._tables))
        finally:  # rows that cannot be written are kept
            for row in self._file.rows:
                self._remember(row)

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """Draws the samples; the time for it does not count, so that the first evaluation is drawn too."""
        if self.max_drawing_share > 0:
            self._try("first batch", lambda: self._draw_first_batch(samples))

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Appends the row."""
        self._append({"kind": "step", **row})

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Appends the row, and draws the curves if there is time."""
        self._draws = self._drawing_seconds <= self.max_drawing_share * row["seconds"]
        try:
            self._append({"kind": "epoch", **row})
        finally:  # rows that cannot be written are drawn
            self._draw("plots", self._draw_curves)

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Draws the matrix if there is time."""
        assert self._metadata is not None
        labels, path = self._metadata.labels, self.run_dir / "confusion" / f"{moment.name}.png"
        self._draw(
            f"confusion {moment.weights}", lambda: exhibit_figure(plot_confusion_matrix(matrix, labels), save_to=path)
        )

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Draws the images if there is time."""
        assert self._metadata is not None
        metadata, path = self._metadata, self.run_dir / "snapshots" / f"{moment.name}.png"

        def draw() -> None:
            figure = figure_of_snapshots(snapshots, metadata, moment)
            exhibit_figure(figure, save_to=path)

        self._draw(f"snapshots {moment.weights}", draw)

    def on_checkpoint(self, path: Path) -> None:  # noqa: ARG002 - as every logger
        """Writes the tables."""
        self._write_tables()

    def on_end(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002 - as every logger
        """Draws what is not drawn yet of the last evaluation, and writes the tables."""
        for kind, draw in self._pending.items():
            self._try(kind, draw)
        self._pending.clear()
        self._write_tables()

    def close(self) -> None:
        """Writes the rows that could not be written before."""
        if self._file.rows:
            self._warn_of(self._file.write())

    def state(self) -> dict[str, Any]:
        """Returns what tells the rows of the checkpoint from later ones, and the time spent on drawing so far."""
        self._try("rows", lambda: self._warn_of(self._file.sync()))
        return {**self._file.state(), "drawing_seconds": self._drawing_seconds}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remembers the checkpoint: `on_start` removes the rows that are newer."""
        self._drawing_seconds = state.get("drawing_seconds", 0.0)
        self._state = state

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            self._warn_of(self._file.append(row))
        finally:
            self._remember(self._file.rows[-1])

    def _remember(self, row: Mapping[str, Any]) -> None:
        for key, curve in (_STEP_CURVES if row["kind"] == "step" else _EPOCH_CURVES).items():
            value = row.get(key)
            if is_number(value):
                self._curves.setdefault(curve, []).append((row["step"], value))

    def _write_tables(self) -> None:
        for kind, path in self._tables.items():
            rows = flat_rows(self._file.rows, kind)
            if rows:
                text = io.StringIO()
                columns = list(dict.fromkeys(key for row in rows for key in row))
                writer = csv.DictWriter(text, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
                self._try(path.name, functools.partial(write_text, path, text.getvalue()))

    def _draw(self, kind: str, draw: Callable[[], None]) -> None:
        if self.max_drawing_share == 0:
            return
        if not self._draws:
            self._pending[kind] = draw
            return
        begin = time.perf_counter()
        self._try(kind, draw)
        self._pending.pop(kind, None)
        self._drawing_seconds += time.perf_counter() - begin

    def _try(self, kind: str, write: Callable[[], None]) -> None:
        """Writes a file; what cannot be written is told once, and does not keep other files from being written."""
        try:
            write()
        except UserError as error:
            if kind not in self._told:
                self.warn(str(error))
            self._told.add(kind)
        else:
            self._told.discard(kind)

    def _warn_of(self, note: str | None) -> None:
        if note is not None:
            self.warn(note)

    def _draw_curves(self) -> None:
        exhibit_figure(plot_running_metrics(self._curves), save_to=self.run_dir / "plots" / "metrics.png")

    def _draw_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        assert self._metadata is not None
        figure = figure_of_samples(samples, self._metadata)
        exhibit_figure(figure, save_to=self.run_dir / "plots" / "first_batch.png")
