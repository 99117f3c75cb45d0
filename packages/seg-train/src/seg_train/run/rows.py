"""The rows of metrics for loggers, and their line in the progress output."""

import math
from collections.abc import Mapping
from typing import Any

from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.names import row_names
from seg_train.monitor import Monitor
from seg_train.run.evaluate import Outcome
from seg_train.run.state import Position

__all__ = ["describe_row", "epoch_row", "watchable_scores"]


def epoch_row(
    position: Position, train: Mapping[str, float], outcomes: Mapping[str, Outcome], metadata: DatasetMetadata
) -> dict[str, Any]:
    """Returns the row of an epoch or an evaluation.

    Args:
        position: of the run.
        train: loss and mIoU of the training steps since the last row.
        outcomes: of evaluations, by the weights: `"last"`, `"ema"`; empty if there was no evaluation.
        metadata: of the dataset.
    """
    row: dict[str, Any] = {
        "epoch": position.epoch + 1,
        "step": position.step,
        "train_loss": train["loss"],
        "train_miou": train["miou"],
    }
    for which, outcome in outcomes.items():
        prefix, scores = "" if which == "last" else f"{which}_", outcome.scores
        row[f"{prefix}val_loss"] = scores["loss"]
        row |= {prefix + name: scores[name] for name in row_names(metadata.task) if name in scores}
        row[f"{prefix}iou_per_class"] = dict(zip(metadata.labels, scores["iou_per_class"], strict=True))
        if outcome.is_tuned and outcome.thresholds is not None:
            row[f"{prefix}threshold_per_class"] = dict(zip(metadata.labels, outcome.thresholds, strict=True))
    if outcomes:
        row["absent"] = outcomes["last"].scores["absent"]
    return row


def describe_row(row: Mapping[str, Any], epochs: int, monitor: Monitor, *, within_epoch: bool) -> str:
    """Returns the line of a row in the progress output.

    Args:
        row: from `epoch_row`.
        epochs: number of epochs of the run.
        monitor: the score that decides which weights are best; it is shown too.
        within_epoch: whether the epoch is still running, so that the line names the step too.
    """
    parts = [f"epoch {row['epoch']}/{epochs}"]
    if within_epoch:
        parts[0] += f" step {row['step']}"
    parts.append(f"train loss {row['train_loss']:.4f}")
    if "miou" in row:
        parts += [f"val mIoU {row['miou']:.4f}", f"val accuracy {row['acc']:.4f}"]
    if "ema_miou" in row:
        parts += [f"EMA mIoU {row['ema_miou']:.4f}"]
    if "miou" in row and monitor.name not in ("miou", "acc", "ema_miou"):
        value, _ = monitor.best_of(row)
        parts.append(f"{monitor.title} {'undefined' if value is None else f'{value:.4f}'}")
    return "  ".join(parts)


def watchable_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores of an evaluation under the names that schedulers use."""
    loss = row.get("val_loss")
    return {**row, "loss": math.nan if loss is None else loss}
