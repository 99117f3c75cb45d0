"""What a logger may hook into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.labels.metadata import DatasetMetadata

__all__ = ["Logger", "Moment", "Snapshot"]


@dataclass(frozen=True)
class Moment:
    """When an evaluation was made, and of which weights.

    Attributes:
        epoch: counted from 1: that has just ended, or that is running.
        step: optimizer steps made.
        weights: `"last"`, or `"ema"` for their moving average.
        epoch_ended: whether the epoch is over; not so where evaluations come every so many steps.
    """

    epoch: int
    step: int
    weights: str = "last"
    epoch_ended: bool = True

    @property
    def name(self) -> str:
        """Returns a name for files, such as `epoch_0004`, `epoch_0004_step_00000120`, `epoch_0004_ema`."""
        within = "" if self.epoch_ended else f"_step_{self.step:08}"
        return f"epoch_{self.epoch:04}{within}" + ("" if self.weights == "last" else f"_{self.weights}")

    @property
    def title(self) -> str:
        """Returns the same for people: `epoch 4`, `epoch 4, step 120`, `epoch 4, ema`."""
        within = "" if self.epoch_ended else f", step {self.step}"
        return f"epoch {self.epoch}{within}" + ("" if self.weights == "last" else f", {self.weights}")


@dataclass(frozen=True)
class Snapshot:
    """One of the fixed val images as the network sees it now.

    Attributes:
        index: position in the val split.
        image: uint8 (3, H, W), RGB, before augmentation.
        truth: (H, W), class ids in the dataset's integer type.
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
    the main process only. What a hook raises does not end the run: it is shown as a warning, and the logger is left out
    from then on.

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
            metadata: names and colors of the classes.
        """

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Called every `trainer.log_every_steps` steps.

        Args:
            row: epoch (counted from 1), step, loss; lr of the first parameter group, images_per_second, data_wait
                (share 0 to 1 of the time in which the network waited for samples), memory_mib (of the device, or of
                this process on a CPU), seconds since the run began.
        """

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Called at the end of each epoch, and after each evaluation.

        Args:
            row: epoch, step, train_loss and train_miou since the row before; where there was an evaluation val_loss
                (where the predictor gives logits), the scores miou, acc, macc, fwiou, dice, then iou_per_class as
                class name -> IoU, nan where the class is absent, and absent, the policy of the means; with a moving
                average of the weights the same with the prefix `ema_`; lr, images_per_second, data_wait, memory_mib,
                seconds.
        """

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Called after each evaluation with the matrix of val: int64 (K, K), rows truth."""

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Called after each evaluation with the fixed images."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after each checkpoint."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Called once when the run is finished (not when it is interrupted), with the last evaluation's row."""

    def close(self) -> None:
        """Called last: after `on_end`, and where the run was interrupted or failed. What is open ends here."""

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps for this logger: plain values and tensors."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave: what was logged after the checkpoint is forgotten.

        Args:
            state: of the checkpoint that the run goes on from. The key `"step"` is always there.
        """
