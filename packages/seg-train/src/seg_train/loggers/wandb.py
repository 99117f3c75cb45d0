"""Weights & Biases: the run with its config, curves, images and results."""

import importlib.util
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from torch import Tensor

from seg_core.errors import InvalidArgumentError, MissingDependencyError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import plot_confusion_matrix
from seg_train.loggers.base import Logger, Moment, Snapshot, TrainingSample
from seg_train.loggers.figures import figure_of_samples, figure_of_snapshots
from seg_train.loggers.naming import scalars_of_epoch, scalars_of_step, title_of

__all__ = ["WandbLogger"]

_Mode = Literal["online", "offline", "disabled"]


class WandbLogger(Logger):
    """Logs to a W&B run; with `mode = "offline"` to the folder `wandb` of the run, for `wandb sync` later.

    A resumed run continues in the same W&B run. Rows that were logged after the checkpoint appear twice: W&B cannot
    delete them.

    Args:
        run_dir: run folder.
        project: W&B project.
        name: name of the W&B run; default: name of the run folder.
        entity: W&B user or team; default: that of the account.
        mode: `"online"`, `"offline"` or `"disabled"`; by default the environment variable WANDB_MODE, else the setting
            of `wandb offline` in the working directory, else online.
        tags: tags of the W&B run.
        images: whether to log the first batch, confusion matrices and snapshots too.
        init_timeout: seconds to wait for W&B at the start, before the run continues without it.
        finish_timeout: seconds to wait at the end until everything is sent; the rest stays on the disk for
            `wandb sync`.

    Raises:
        MissingDependencyError: if wandb is not installed.
        InvalidArgumentError: if there is no such mode.
    """

    def __init__(
        self,
        run_dir: Path,
        project: str = "seg-train",
        name: str | None = None,
        entity: str | None = None,
        mode: _Mode | None = None,
        tags: Sequence[str] = (),
        images: bool = True,
        init_timeout: float = 30.0,
        finish_timeout: float = 300.0,
    ) -> None:
        super().__init__(run_dir)
        if mode is not None and mode not in get_args(_Mode):
            raise InvalidArgumentError(f"mode must be one of {', '.join(get_args(_Mode))}, got {mode!r}")
        if importlib.util.find_spec("wandb") is None:
            raise MissingDependencyError("the logger wandb needs wandb: pip install 'seg-train[wandb]'")
        self.project = project
        self.name = name or run_dir.name
        self.entity = entity
        self.mode = mode
        self.tags = tuple(tags)
        self.images = images
        self.init_timeout = init_timeout
        self.finish_timeout = finish_timeout
        self._id = uuid.uuid4().hex[:8]
        self._run: Any = None
        self._metadata: DatasetMetadata | None = None

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """Opens the W&B run, with config and environment.

        Raises:
            UsageError: the one of wandb, if there is no API key; the user is never prompted for one.
        """
        import wandb

        self._metadata = metadata
        mode = self.mode or os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
        settings = wandb.Settings(
            init_timeout=self.init_timeout,
            login_timeout=self.init_timeout,
            finish_timeout=self.finish_timeout,
            silent=True,
            console="off",
        )
        if mode == "online" and not wandb.login(prompt=False):
            # wandb would prompt for one at the terminal, and the run would block on the prompt
            raise wandb.errors.UsageError(
                'no W&B API key: set WANDB_API_KEY or call `wandb login` once, or set log.wandb.mode = "offline"'
            )
        self._run = wandb.init(
            dir=str(self.run_dir),
            project=self.project,
            name=self.name,
            entity=self.entity,
            mode=mode,  # type: ignore[arg-type]  # a checked string
            tags=list(self.tags),
            config={**config, "environment": dict(environment), "classes": list(metadata.labels)},
            id=self._id,
            resume="allow",
            settings=settings,
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """Logs an image of the samples."""
        if self.images:
            assert self._metadata is not None
            figure = figure_of_samples(samples, self._metadata)
            self._log_figures(0, {"first_batch": figure})

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Logs the row."""
        self._run.log({"step": row["step"], "epoch": row["epoch"], **dict(scalars_of_step(row))})

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Logs the row, with the IoU of each class."""
        self._run.log({"step": row["step"], "epoch": row["epoch"], **dict(scalars_of_epoch(row))})

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Logs an image of the matrix."""
        if self.images:
            assert self._metadata is not None
            figure = plot_confusion_matrix(matrix, self._metadata.labels)
            self._log_figures(moment.step, {f"confusion/{moment.weights}": figure})

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Logs an image of each snapshot: image, ground truth and prediction."""
        if self.images:
            assert self._metadata is not None
            figures = {
                f"snapshots/{moment.weights}/val_{shot.index}": figure_of_snapshots([shot], self._metadata)
                for shot in snapshots
            }
            captions = {tag: title_of("val", s.index, s.name) for tag, s in zip(figures, snapshots, strict=True)}
            self._log_figures(moment.step, figures, captions)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Writes the scores of the last evaluation to the summary of the W&B run."""
        self._run.summary.update({"step": summary["step"], **dict(scalars_of_epoch(summary))})

    def close(self) -> None:
        """Ends the W&B run, and waits until everything is sent; may be called more than once.

        W&B's own process writes the files of an offline run, and may still do so afterwards; W&B waits for it when this
        process ends.
        """
        if self._run is not None:
            run, self._run = self._run, None
            run.finish()

    def state(self) -> dict[str, Any]:
        """Returns the id of the W&B run."""
        return {"id": self._id}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues in the W&B run of the checkpoint."""
        self._id = state.get("id", self._id)

    def _log_figures(self, step: int, figures: Mapping[str, Any], captions: Mapping[str, str] | None = None) -> None:
        import wandb

        captions = captions or {}
        images = {tag: wandb.Image(_drawn(figure), caption=captions.get(tag)) for tag, figure in figures.items()}
        self._run.log({"step": step, **images})


def _drawn(figure: Any) -> Image.Image:
    """Returns a matplotlib figure as an image: W&B accepts figures only if pyplot is imported."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return Image.open(file)
