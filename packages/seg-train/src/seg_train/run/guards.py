"""Ends a run on all of its processes if a loss or a weight is not finite on any of them."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.interfaces import SegmentationDataset
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch
from seg_train.run.failures import LossGuard, NonFiniteLossError, NonFiniteWeightsError, WeightGuard

__all__ = ["RunGuards", "on_any_process"]


def on_any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Returns whether `flag` is true on any process; every process must call it."""
    if accelerator.num_processes == 1:
        return flag
    flags = torch.tensor(float(flag), device=accelerator.device)
    return bool(accelerator.reduce(flags, "sum") > 0)


class RunGuards:
    """The checks of losses and weights of a run.

    Args:
        config: config of the run, for messages.
        run_dir: run folder, for reports and messages.
        dataset: dataset of the training samples.
        network: network of the run.
        accelerator: device and processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        dataset: SegmentationDataset,
        network: nn.Module,
        accelerator: Accelerator,
    ) -> None:
        self._accelerator = accelerator
        self._losses = LossGuard(config, run_dir, dataset)
        self._weights = WeightGuard(config, run_dir, network)

    def add(self, loss: Tensor, step: int, batch: Batch) -> None:
        """Records the loss of a step, 0-d, and its samples; checks it at once where this costs nothing."""
        self._losses.add(loss, step, batch)
        if self._accelerator.num_processes == 1 and self._accelerator.device.type == "cpu":
            self.check_losses()

    def check_losses(self) -> None:
        """Checks the losses since the last check; every process must call it.

        Raises:
            NonFiniteLossError: on all processes, if one is not finite on any of them.
        """
        error = self._losses.check()
        if on_any_process(self._accelerator, error is not None):
            raise error or NonFiniteLossError("the loss of another process of this run is not finite; see its message")

    def check_weights(self, step: int, last: Path) -> None:
        """Checks the weights; every process must call it.

        Args:
            step: steps done.
            last: the last checkpoint.

        Raises:
            NonFiniteWeightsError: on all processes, if one is not finite on any of them.
        """
        error = self._weights.check(step, last)
        if on_any_process(self._accelerator, error is not None):
            raise error or NonFiniteWeightsError("weights of another process are not finite; see its message")
