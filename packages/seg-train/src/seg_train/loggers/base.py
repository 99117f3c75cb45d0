"""What a logger may hook into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.metadata import DatasetMetadata

__all__ = ["Logger", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """One of the fixed val pictures as the network sees it now.

    Attributes:
        index: position in the val split.
        image: uint8 (3, H, W), RGB, before augmentation.
        truth: (H, W), class ids in the data set's integer type.
        prediction: uint8 or uint16 (H, W), class ids.
    """

    index: int
    image: Tensor
    truth: Tensor
    prediction: Tensor


class Logger:
    """Base of all loggers: every hook does nothing, so that a logger writes only those it needs.

    A logger of one's own is a subclass, registered by `seg_core.registry.LOGGERS.register("name", Class)` or in a
    package's catalog, and switched on by a section `[log.name]` whose keys are its other arguments. Hooks are called in
    the main process only.

    Args:
        run_dir: folder of the run, for files.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """Called once before the first step, also of a resumed run (then after `load_state`).

        Args:
            config: of the run, as nested tables.
            environment: versions and machine.
            metadata: names and colours of the classes.
        """

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Called every `trainer.log_every_steps` steps: epoch, step, loss, lr, images_per_second, seconds."""

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Called after each evaluation.

        Args:
            row: epoch, step, train_loss, train_miou, val_loss (where the predictor gives logits), the scores miou, acc,
                macc, fwiou, dice, then iou_per_class as class name -> IoU or None where the class is absent; lr,
                images_per_second, seconds.
        """

    def on_confusion_matrix(self, epoch: int, matrix: Tensor) -> None:
        """Called after each evaluation with the matrix of val: int64 (K, K), rows truth."""

    def on_snapshots(self, epoch: int, snapshots: Sequence[Snapshot]) -> None:
        """Called after each evaluation with the fixed pictures."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after each checkpoint."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Called once when the run is finished (not when it is interrupted), with the last evaluation's row."""

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps for this logger: plain values and tensors."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave: what was logged after the checkpoint is forgotten."""
