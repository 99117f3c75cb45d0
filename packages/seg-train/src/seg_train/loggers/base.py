"""The base class of loggers, with all its hooks."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.labels.metadata import DatasetMetadata

__all__ = ["Logger", "Moment", "Snapshot", "TrainingSample"]


@dataclass(frozen=True)
class Moment:
    """The epoch, step and weights of an evaluation.

    Attributes:
        epoch: the epoch that has just ended, or that is running; counted from 1.
        step: optimizer steps done.
        weights: `"last"`, or `"ema"` for their exponential moving average.
        epoch_ended: whether the epoch is over; False for evaluations within an epoch.
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
        """Returns a human-readable title: `epoch 4`, `epoch 4, step 120`, `epoch 4, ema`."""
        within = "" if self.epoch_ended else f", step {self.step}"
        return f"epoch {self.epoch}{within}" + ("" if self.weights == "last" else f", {self.weights}")


@dataclass(frozen=True)
class Snapshot:
    """The prediction for one of the val images that are drawn after each evaluation.

    Attributes:
        index: position in the val split.
        image: uint8 (3, H, W), RGB, before augmentation.
        target: ground truth, (H, W), class ids in the dataset's integer type; of a multilabel task (K, H, W).
        prediction: uint8 or uint16 (H, W), class ids; of a binary task 0 and 1, of a multilabel task as (K, H, W).
        name: name of the image file, without its folder; empty if the dataset has none.
    """

    index: int
    image: Tensor
    target: Tensor
    prediction: Tensor
    name: str = ""


@dataclass(frozen=True)
class TrainingSample:
    """A sample of the first batch as the network sees it: after cropping and augmentation, on the CPU.

    Attributes:
        index: position in the train split.
        name: name of the image file, without its folder; empty if the dataset has none.
        image: uint8 (3, H, W), RGB: the network's input with its normalization undone.
        mask: int64 (H, W), class ids, and the ignored value in padding.
    """

    index: int
    name: str
    image: Tensor
    mask: Tensor


class Logger:
    """Base class of all loggers. Every hook does nothing by default, so that a logger overrides only what it needs.

    Your own logger is a subclass, registered with `seg_core.registry.LOGGERS.register("name", Class)` or in a package's
    catalog, and enabled by a section `[log.name]` with its other arguments as keys. Hooks are called in the main
    process only. An exception in a hook does not end the run: it is shown as a warning, and the logger is no longer
    called.

    Args:
        run_dir: run folder, for files.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def warn(self, text: str) -> None:
        """Shows a warning to the user: something is wrong, and the logger goes on. In a run it names the logger."""
        warnings.warn(text, stacklevel=2)

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """Called once before the first step, also of a resumed run (then after `load_state`).

        Args:
            config: config of the run, as nested tables.
            environment: package versions and machine.
            metadata: names and colors of the classes.
        """

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """Called once in a new run, before its first step, with samples of the first batch after augmentation."""

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Called every `trainer.log_every_steps` steps.

        Args:
            row: epoch (counted from 1), step, loss; lr of the first parameter group, images_per_second, data_wait
                (fraction 0 to 1 of the time spent waiting for samples), memory_mib (of the device, or of this process
                on a CPU), seconds since the run began.
        """

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Called at the end of each epoch, and after each evaluation.

        Args:
            row: epoch, step, train_loss and train_miou since the previous row; after an evaluation also val_loss (None
                if the predictor returns no logits), the scores miou, acc, macc, fwiou and dice, iou_per_class as class
                name -> IoU (NaN if the class is absent), and absent, the rule for absent classes in the means; with an
                EMA of the weights the same with the prefix `ema_`; lr, images_per_second, data_wait, memory_mib and
                seconds. Of binary and multilabel tasks precision, recall, specificity and ap take the place of macc and
                fwiou, and tuned thresholds are threshold_per_class.
        """

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """Called after each evaluation with the confusion matrix: int64 (K, K), rows are ground truth.

        Not called for binary and multilabel tasks, which have none.
        """

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """Called after each evaluation with predictions for a few val images."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after each checkpoint."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Called once when the run is finished (not when it is interrupted), with the last evaluation's row."""

    def close(self) -> None:
        """Called last: after `on_end`, or after an interruption or failure of the run. Close files here."""

    def state(self) -> dict[str, Any]:
        """Returns the state of this logger for a checkpoint: plain values and tensors."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned, and discards what was logged after the checkpoint.

        Args:
            state: from the checkpoint that the run is resumed from. The key `"step"` is always present.
        """
