"""Running sums of training: scores of the epoch, loss and speed of the last steps; checkpoints store them exactly."""

import importlib.util
import sys
import time
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from seg_core.checks import is_integer
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.metric_store import MetricStore
from seg_core.metrics.scores import scores_from_confusion
from seg_core.text import short
from seg_train.run.step import StepResult

__all__ = ["RunningScores", "StepWindow", "memory_mib", "peak_memory_mib"]

_Item = TypeVar("_Item")


class RunningScores:
    """Loss and confusion matrix of the training steps of an epoch.

    Only reading a sum synchronizes with the device.

    Args:
        num_classes: number of classes K.
        ignore_index: value in masks that is not counted.
        accelerator: device and processes.
        task: of the dataset.
    """

    def __init__(self, num_classes: int, ignore_index: int, accelerator: Accelerator, task: str = MULTICLASS) -> None:
        self._accelerator = accelerator
        self._store = MetricStore(num_classes, ignore_index=ignore_index, task=task)
        self.reset()

    def reset(self) -> None:
        """Starts an epoch."""
        self._store.reset()
        # counted before the checkpoint that the run was resumed from
        self._carried = torch.zeros_like(self._store.confusion_matrix)
        self._loss = torch.zeros((), device=self._accelerator.device)
        self._samples = 0

    def add(self, result: StepResult) -> None:
        """Counts one step."""
        samples = len(result.masks)
        self._store.store_results(result.masks, result.labels)
        # The loss of a step is the sum over the processes, each of which has a share of the samples.
        self._loss += samples * self._accelerator.num_processes * result.loss
        self._samples += samples

    def summarize(self) -> dict[str, float]:
        """Returns mean loss and mIoU of this process's samples."""
        return self._scores(self._carried + self._store.confusion_matrix, self._loss, self._samples)

    def summarize_all(self) -> dict[str, float]:
        """Returns mean loss and mIoU of all processes' samples; every process must call it."""
        state = self.state()
        return self._scores(state["matrix"], state["loss"], state["samples"])

    def state(self) -> dict[str, Any]:
        """Returns the sums over all processes; every process must call it."""
        device = self._accelerator.device
        matrix = (self._carried + self._store.confusion_matrix).to(device)
        samples = torch.tensor(self._samples, device=device)
        sums = [self._accelerator.reduce(t.clone(), "sum").cpu() for t in (matrix, self._loss, samples)]
        return {"matrix": sums[0], "loss": sums[1], "samples": int(sums[2])}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned. Only the main process adds it, so that nothing counts twice."""
        self.reset()
        matrix, loss, samples = state["matrix"], state["loss"], state["samples"]
        if matrix.shape != self._carried.shape or loss.shape != () or not is_integer(samples, 0):
            raise ValueError(
                f"the scores of the epoch: a matrix {tuple(matrix.shape)} for {tuple(self._carried.shape)}, a loss "
                f"{tuple(loss.shape)} for (), {short(samples)} samples"
            )
        if self._accelerator.is_main_process:
            self._carried += matrix
            self._loss += loss.to(self._accelerator.device)
            self._samples = samples

    @staticmethod
    def _scores(matrix: Tensor, loss: Tensor, samples: int) -> dict[str, float]:
        mean = float(loss) / samples if samples else float("nan")
        return {"loss": mean, "miou": scores_from_confusion(matrix)["miou"]}


class StepWindow:
    """Loss and speed over the steps since the last row of step metrics.

    Args:
        accelerator: device and processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._loss = torch.zeros((), device=accelerator.device)
        self._steps = 0
        self._speed = 0.0
        self._wait_share = 0.0
        self.start_clock()

    def add(self, loss: Tensor, images: int) -> None:
        """Counts one step.

        Args:
            loss: share of this process in the loss of the step.
            images: samples of the step, over all processes.
        """
        self._loss += loss
        self._steps += 1
        self._images += images

    def waiting(self, items: Iterable[_Item]) -> Generator[_Item, None, None]:
        """Yields the items, and counts the time until each arrives as waiting for data."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - begin
            yield item
            del item  # else two batches would be in memory while the next one is read

    def mean_loss(self) -> float:
        """Returns the mean over the steps; every process must call it."""
        return float(self._accelerator.reduce(self._loss.clone(), "sum")) / max(self._steps, 1)

    def images_per_second(self) -> float:
        """Returns the speed since the clock was started; before the first step since then, the speed before."""
        self._measure()
        return self._speed

    def data_wait(self) -> float:
        """Returns the fraction of the time, 0 to 1, spent waiting for samples; measured as the speed is."""
        self._measure()
        return self._wait_share

    def reset(self) -> None:
        """Starts the next interval."""
        self.stop_clock()
        self._loss.zero_()
        self._steps = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Starts measuring speed."""
        self._images = 0
        self._waited = 0.0
        self._begin = time.perf_counter()

    def stop_clock(self) -> None:
        """Stops measuring speed, so that what follows (an evaluation) does not count."""
        self._measure()
        self._images = 0

    def state(self) -> dict[str, Any]:
        """Returns the sums; a resumed run measures its own speed. Every process must call it."""
        return {"loss": self._accelerator.reduce(self._loss.clone(), "sum").cpu(), "steps": self._steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned. Only the main process adds the loss."""
        if not is_integer(state["steps"], 0):
            raise ValueError(f"steps = {short(state['steps'])} since the last row, which must be an integer >= 0")
        if self._accelerator.is_main_process:
            self._loss.copy_(state["loss"])
        self._steps = state["steps"]

    def _measure(self) -> None:
        if self._images:
            seconds = time.perf_counter() - self._begin
            self._speed = self._images / seconds
            self._wait_share = min(self._waited / seconds, 1.0)


def memory_mib(device: torch.device) -> float:
    """Returns the memory in MiB: the peak of tensors on a GPU so far, or what this process uses now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.current_allocated_memory() / 2**20
    return _process_mib("VmRSS")


def peak_memory_mib(device: torch.device) -> float:
    """Returns the peak so far in MiB: of tensors on a GPU, else of this process."""
    return memory_mib(device) if device.type == "cuda" else _process_mib("VmHWM")


def _process_mib(entry: str) -> float:
    """Returns the memory of this process: an entry of Linux's status file, elsewhere the peak."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1]) / 2**10
    if importlib.util.find_spec("resource") is None:  # Windows
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
