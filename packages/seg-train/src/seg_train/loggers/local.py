"""Writes files to the run folder: metrics as JSON lines and CSV, plots, confusion matrices and snapshots."""

import csv
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.errors import InvalidArgumentError, WriteError
from seg_core.files.atomic import write_text
from seg_core.files.json_text import finite
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import draw_snapshots, exhibit_figure, plot_confusion_matrix, plot_running_metrics
from seg_train.config.schema import flatten
from seg_train.loggers.base import Logger, Moment, Snapshot

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
    """Writes `metrics.jsonl`, `plots/*.png`, `confusion/epoch_*.png` and `snapshots/epoch_*.png`.

    `steps.csv` and `epochs.csv` contain the rows of `metrics.jsonl` as tables, rewritten with each checkpoint and at
    the end; the IoU of a class is a column `iou_per_class.<class>`. Rows that cannot be written, for example because
    the disk is full, are kept and written with the next ones.

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
        self._path = run_dir / "metrics.jsonl"
        self._rows: list[Mapping[str, Any]] = []
        self._unwritten: list[str] = []
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
        """Reads the rows that a resumed run has written before."""
        self._metadata = metadata
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                self._remember(json.loads(line))

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Appends the row."""
        self._append({"kind": "step", **row})

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Appends the row, and draws the curves if there is time."""
        self._append({"kind": "epoch", **row})
        self._draws = self._drawing_seconds <= self.max_drawing_share * row["seconds"]
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
            figure = draw_snapshots(
                [s.image for s in snapshots],
                [s.target for s in snapshots],
                [s.prediction for s in snapshots],
                metadata,
                titles=[f"val {s.index}, {moment.title}" for s in snapshots],
            )
            exhibit_figure(figure, save_to=path)

        self._draw(f"snapshots {moment.weights}", draw)

    def on_checkpoint(self, path: Path) -> None:  # noqa: ARG002 - as every logger
        """Writes the tables."""
        self._write_tables()

    def on_end(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002 - as every logger
        """Draws what is not drawn yet of the last evaluation, and writes the tables."""
        for draw in self._pending.values():
            draw()
        self._pending.clear()
        self._write_tables()

    def state(self) -> dict[str, Any]:
        """Returns the size of the file of rows, and the time spent on drawing so far."""
        size = 0
        if self._path.is_file():
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
            size = self._path.stat().st_size
        return {"bytes": size, "drawing_seconds": self._drawing_seconds}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Removes the rows that are newer than the checkpoint."""
        self._drawing_seconds = state["drawing_seconds"]
        if self._path.is_file() and self._path.stat().st_size > state["bytes"]:
            os.truncate(self._path, state["bytes"])

    def _append(self, row: Mapping[str, Any]) -> None:
        row = finite(row)
        self._remember(row)
        self._unwritten.append(json.dumps(row) + "\n")
        size = self._path.stat().st_size if self._path.is_file() else 0
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(self._unwritten)
        except OSError as error:
            if self._path.is_file():
                os.truncate(self._path, size)  # an incomplete row would corrupt the next one
            raise WriteError(
                f"cannot write {self._path}: {error.strerror}; check the folder's permissions and free space"
            ) from error
        self._unwritten.clear()

    def _remember(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        for key, curve in (_STEP_CURVES if row["kind"] == "step" else _EPOCH_CURVES).items():
            if row.get(key) is not None:
                self._curves.setdefault(curve, []).append((row["step"], row[key]))

    def _write_tables(self) -> None:
        for kind in ("step", "epoch"):
            rows = [flatten(row) for row in self._rows if row["kind"] == kind]
            if not rows:
                continue
            columns = list(dict.fromkeys(key for row in rows for key in row if key != "kind"))
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(self.run_dir / f"{kind}s.csv", text.getvalue())

    def _draw(self, kind: str, draw: Callable[[], None]) -> None:
        if self.max_drawing_share == 0:
            return
        if not self._draws:
            self._pending[kind] = draw
            return
        begin = time.perf_counter()
        draw()
        self._pending.pop(kind, None)
        self._drawing_seconds += time.perf_counter() - begin

    def _draw_curves(self) -> None:
        exhibit_figure(plot_running_metrics(self._curves), save_to=self.run_dir / "plots" / "metrics.png")
