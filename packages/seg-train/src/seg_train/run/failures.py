"""Turns fatal training failures (out of memory, non-finite loss, dead process) into actionable errors."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from seg_core.device import out_of_memory
from seg_core.errors import UserError, is_out_of_memory
from seg_core.files.json_text import write_json
from seg_core.interfaces import SegmentationDataset
from seg_core.registry import PREDICTORS
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch

__all__ = ["LossGuard", "NonFiniteLossError", "ProcessDiedError", "explain_failures"]

# Messages of torch's data loader and of its backends for several processes.
_WORKER_DIED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)? (is killed by signal: ([^.]+)|exited unexpectedly)"
)
_PEER_DIED = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|connection was aborted|remote process exited", re.I
)


class NonFiniteLossError(UserError):
    """The loss became infinite or NaN."""


class ProcessDiedError(UserError):
    """A worker process, or another process of the run, died."""


@contextlib.contextmanager
def explain_failures(config: TrainConfig, during: str) -> Iterator[None]:
    """Turns out-of-memory errors and dead processes into errors that name the keys to change.

    Args:
        config: config of the run; the message names the keys to change.
        during: `"training"` or `"evaluation"`.

    Raises:
        NotEnoughMemoryError: if memory runs out.
        ProcessDiedError: if a process died.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(during, _memory_remedies(config, during), error) from error
    except RuntimeError as error:
        if isinstance(error, UserError):
            raise
        # the data loader reports that a worker died, and the cause of its error how
        text = f"{error.__cause__ or ''}\n{error}".lstrip()
        if found := _WORKER_DIED.search(text):
            how = f"was killed by the system ({found.group(2)})" if found.group(2) else "ended unexpectedly"
            raise ProcessDiedError(
                f"a worker process of the data loader {how}; if the machine is out of memory, lower "
                f"data.loader.num_workers (now {config.data.loader.num_workers}) or data.loader.batch_size (now "
                f"{config.data.loader.batch_size}); num_workers = 0 shows errors of your own dataset"
            ) from error
        if is_out_of_memory(RuntimeError(text)):
            raise out_of_memory(during, _memory_remedies(config, during), text) from error
        if _PEER_DIED.search(text) or isinstance(error, torch.distributed.DistBackendError):
            raise ProcessDiedError(
                f"another process of this run died ({text.splitlines()[0][:200]}); see its output above"
            ) from error
        raise


def _memory_remedies(config: TrainConfig, during: str) -> list[str]:
    loader, trainer = config.data.loader, config.trainer
    advice = []
    if during == "evaluation":
        evaluation = config.evaluation
        if evaluation.batch_size > 1:
            advice.append(f"lower evaluation.batch_size (now {evaluation.batch_size})")
        if evaluation.tile is not None:
            advice.append(f"set a smaller evaluation.tile (now {list(evaluation.tile)})")
        elif evaluation.predictor == "whole" and "tiled" in PREDICTORS:
            advice.append("predict in tiles: evaluation.tile = 512")
        if evaluation.loss:
            advice.append("do not compute val_loss: evaluation.loss = false")
        if evaluation.resize is None:
            advice.append("evaluate smaller images: evaluation.resize = { scale = 0.5 }")
    else:
        if trainer.accumulation_steps < loader.batch_size:
            advice.append(
                f"raise trainer.accumulation_steps (now {trainer.accumulation_steps}), which computes the same batch "
                "in smaller micro-batches"
            )
        train = config.data.transform.train
        key = "resize" if train.size is None and train.resize is not None else "size"
        advice.append(f"lower data.loader.batch_size (now {loader.batch_size}) or data.transform.train.{key}")
    if trainer.precision in ("auto", "fp32"):
        advice.append('set trainer.precision = "bf16"')
    return advice


class LossGuard:
    """Finds the first step with a non-finite loss, before a checkpoint of it is written.

    The losses since the last check stay on the device, so that only a check waits for the device.

    Args:
        run_dir: run folder, for the report.
        dataset: dataset of the samples.
    """

    def __init__(self, run_dir: Path, dataset: SegmentationDataset) -> None:
        self._run_dir = run_dir
        self._dataset = dataset
        self._steps: list[tuple[Tensor, int, int, list[int]]] = []

    def add(self, loss: Tensor, step: int, batch: Batch) -> None:
        """Records the loss of a step, 0-d, and its samples."""
        self._steps.append((loss, step, batch.epoch, batch.indices))

    def check(self) -> NonFiniteLossError | None:
        """Returns the error of the first step with a non-finite loss since the last check, or None.

        The file names of its batch are written to `nonfinite_loss.json` in the run folder.
        """
        steps, self._steps = self._steps, []
        if not steps or bool(torch.stack([loss for loss, *_ in steps]).isfinite().all()):
            return None
        value, step, epoch, indices = next(item for item in steps if not bool(item[0].isfinite()))
        samples = [{"index": i, "files": [str(f) for f in self._dataset.file_names(i)]} for i in indices]
        rank = os.environ.get("RANK", "0")
        path = self._run_dir / ("nonfinite_loss.json" if rank == "0" else f"nonfinite_loss_rank_{rank}.json")
        content = {"step": step, "epoch": epoch + 1, "loss": str(float(value)), "samples": samples}
        write_json(path, content)
        return NonFiniteLossError(
            f"the loss of step {step} (epoch {epoch + 1}) is {float(value)}; the files of its batch are listed in "
            f"{path}. The last checkpoint is from before that step. Check these files; if they are fine, lower the "
            "learning rate (optimizer.params.lr), clip gradients (trainer.max_grad_norm), warm up "
            '(lr_scheduler.warmup_steps), or set trainer.precision = "fp32"'
        )
