"""What ends a run, told so that it can be mended: no memory, a loss that is no number, a process that died."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from seg_core.errors import NotEnoughMemoryError, UserError, is_out_of_memory
from seg_core.files.atomic import write_text
from seg_core.interfaces import SegmentationDataset
from seg_core.registry import PREDICTORS
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch

__all__ = ["LossGuard", "NonFiniteLossError", "ProcessDiedError", "explain_failures"]

# What torch says, by its data loader and its backends for several processes.
_WORKER_DIED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)? (is killed by signal: ([^.]+)|exited unexpectedly)"
)
_PEER_DIED = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|connection was aborted|remote process exited", re.I
)


class NonFiniteLossError(UserError):
    """The loss became infinite or NaN."""


class ProcessDiedError(UserError):
    """A process that reads samples, or another process of the run, is gone."""


@contextlib.contextmanager
def explain_failures(config: TrainConfig, during: str) -> Iterator[None]:
    """Turns what torch raises where memory is short or a process died into one sentence that says what to do.

    Args:
        config: of the run: what can be lowered.
        during: `"training"` or `"evaluation"`.

    Raises:
        NotEnoughMemoryError: where memory was short.
        ProcessDiedError: where a process died.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise NotEnoughMemoryError(_memory_advice(config, during, str(error))) from error
    except RuntimeError as error:
        if isinstance(error, UserError):
            raise
        # the data loader tells that a worker is gone, and as the cause of that, how
        text = f"{error.__cause__ or ''}\n{error}".lstrip()
        if found := _WORKER_DIED.search(text):
            how = f"was killed by the system ({found.group(2)})" if found.group(2) else "ended unexpectedly"
            raise ProcessDiedError(
                f"a process that reads samples {how}; where that is for want of memory, lower data.loader.num_workers "
                f"(now {config.data.loader.num_workers}) or data.loader.batch_size (now "
                f"{config.data.loader.batch_size}); num_workers = 0 shows what a dataset of your own does wrong"
            ) from error
        if is_out_of_memory(RuntimeError(text)):
            raise NotEnoughMemoryError(_memory_advice(config, during, text)) from error
        if _PEER_DIED.search(text) or isinstance(error, torch.distributed.DistBackendError):
            raise ProcessDiedError(
                f"another process of this run is gone ({text.splitlines()[0][:200]}); what it printed above says why"
            ) from error
        raise


def _memory_advice(config: TrainConfig, during: str, reason: str) -> str:
    loader, trainer = config.data.loader, config.trainer
    advice = []
    if during == "evaluation":
        evaluation = config.evaluation
        if evaluation.batch_size > 1:
            advice.append(f"lower evaluation.batch_size (now {evaluation.batch_size})")
        if evaluation.tile is not None:
            advice.append(f"take a smaller evaluation.tile (now {list(evaluation.tile)})")
        elif evaluation.predictor == "whole" and "tiled" in PREDICTORS:
            advice.append("predict in tiles: evaluation.tile = 512")
        if evaluation.loss:
            advice.append("do without val_loss: evaluation.loss = false")
        if evaluation.resize is None:
            advice.append("evaluate smaller images: evaluation.resize = { scale = 0.5 }")
    else:
        if trainer.accumulation_steps < loader.batch_size:
            advice.append(
                f"raise trainer.accumulation_steps (now {trainer.accumulation_steps}), which computes the same batch "
                "in smaller parts"
            )
        advice.append(f"lower data.loader.batch_size (now {loader.batch_size}) or data.transform.train.size")
    if trainer.precision in ("auto", "fp32"):
        advice.append('set trainer.precision = "bf16"')
    first = (reason.splitlines() or [""])[0][:200]
    return f"not enough memory in {during} ({first or 'MemoryError'}): {'; '.join(advice)}"


class LossGuard:
    """Finds the first step whose loss is not a finite number, before a checkpoint is written with it.

    The losses of the steps since the last check stay on the device; so a device is waited for only where it is anyway.

    Args:
        run_dir: folder that the report goes to.
        dataset: that the samples are of.
    """

    def __init__(self, run_dir: Path, dataset: SegmentationDataset) -> None:
        self._run_dir = run_dir
        self._dataset = dataset
        self._steps: list[tuple[Tensor, int, int, list[int]]] = []

    def add(self, loss: Tensor, step: int, batch: Batch) -> None:
        """Remembers a step: its loss, 0-d, and which samples it had."""
        self._steps.append((loss, step, batch.epoch, batch.indices))

    def check(self) -> NonFiniteLossError | None:
        """Returns the error of the first step since the last check with such a loss, or None.

        The names of the step's files are written to `nonfinite_loss.json` in the run folder.
        """
        steps, self._steps = self._steps, []
        if not steps or bool(torch.stack([loss for loss, *_ in steps]).isfinite().all()):
            return None
        value, step, epoch, indices = next(item for item in steps if not bool(item[0].isfinite()))
        samples = [{"index": i, "files": [str(f) for f in self._dataset.file_names(i)]} for i in indices]
        rank = os.environ.get("RANK", "0")
        path = self._run_dir / ("nonfinite_loss.json" if rank == "0" else f"nonfinite_loss_rank_{rank}.json")
        content = {"step": step, "epoch": epoch + 1, "loss": str(float(value)), "samples": samples}
        write_text(path, json.dumps(content, indent=2) + "\n")
        return NonFiniteLossError(
            f"the loss of step {step} (epoch {epoch + 1}) is {float(value)}; the files of its batch are listed in "
            f"{path}. The last checkpoint was written before. Look at these files; if they are sound, lower the "
            "learning rate (optimizer.params.lr), clip gradients (trainer.max_grad_norm), warm up "
            '(lr_scheduler.warmup_steps), or set trainer.precision = "fp32"'
        )
