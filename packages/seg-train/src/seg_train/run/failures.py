"""Turns fatal training failures (out of memory, non-finite loss, dead process) into actionable errors."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_core.device import out_of_memory
from seg_core.errors import ConfigError, UserError, is_out_of_memory
from seg_core.files.json_text import write_json
from seg_core.interfaces import SegmentationDataset
from seg_core.model_files.build_spec import OBJECT
from seg_core.registry import PREDICTORS
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch
from seg_train.run.objects import how_to_resume

__all__ = [
    "LossGuard",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "ProcessDiedError",
    "WeightGuard",
    "explain_failures",
]

# Messages of torch's data loader and of its backends for several processes.
_WORKER_DIED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)? (is killed by signal: ([^.]+)|exited unexpectedly)"
)
_PEER_DIED = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|connection was aborted|remote process exited", re.I
)


class NonFiniteLossError(UserError):
    """The loss became infinite or NaN."""


class NonFiniteWeightsError(UserError):
    """A weight became infinite or NaN."""


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
        ConfigError: if a batch is too small for batch norm.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(during, _memory_remedies(config, during), error) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "batch norm got one value per channel, of which it can compute no statistics: a batch of one image whose "
            f"features have one pixel. Raise data.loader.batch_size (now {config.data.loader.batch_size}), or lower "
            f"trainer.accumulation_steps (now {config.trainer.accumulation_steps}) or the number of processes; each "
            "micro-batch needs two images, or larger crops"
        ) from error
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
        config: config of the run, for the message.
        run_dir: run folder, for the report.
        dataset: dataset of the samples.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, dataset: SegmentationDataset) -> None:
        self._config = config
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
            f"{path}. The last checkpoint is from before that step. If these files are damaged, replace them and "
            f"resume with: {how_to_resume(self._config, self._run_dir)}. If they are fine, "
            f"{_calmer_run(self._config, self._run_dir)}"
        )


class WeightGuard:
    """Finds weights that are not finite, before they are written or evaluated.

    A step with a finite loss can make them so, by an infinite gradient or too large a learning rate.

    Args:
        config: config of the run, for messages.
        run_dir: run folder, for messages.
        network: network of the run. Tensors with such values at the start, such as masks of minus infinity, are not
            checked.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, network: nn.Module) -> None:
        self._config = config
        self._run_dir = run_dir
        self._network = network
        self._exempt = set(_non_finite(network))

    def check(self, step: int, last: Path) -> NonFiniteWeightsError | None:
        """Returns the error that names the first wrong tensor, or None.

        Args:
            step: steps done.
            last: the last checkpoint.
        """
        wrong = {name: count for name, count in _non_finite(self._network).items() if name not in self._exempt}
        if not wrong:
            return None
        name, count = next(iter(wrong.items()))
        more = f", and {len(wrong) - 1} other tensors" if len(wrong) > 1 else ""
        sound = f"{last} and the model files are from before that" if last.exists() else "there is no checkpoint yet"
        return NonFiniteWeightsError(
            f"after step {step}, {count} entries of {name} are NaN or infinite{more}: they were not written; {sound}. "
            f"To train on, {_calmer_run(self._config, self._run_dir)}"
        )


def _non_finite(network: nn.Module) -> dict[str, int]:
    """Returns name -> number of entries that are not finite, of the tensors of a network that have any."""
    found = {}
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            own = getattr(tensor, "to_local", lambda tensor=tensor: tensor)()  # the part of this process
            # the sum is finite unless an entry is not, or the entries are huge
            if not bool(own.sum(dtype=torch.float32).isfinite()) and (count := int((~own.isfinite()).sum())):
                found[name] = count
    return found


def _calmer_run(config: TrainConfig, run_dir: Path) -> str:
    """Returns advice to start a new run that diverges less; a resumed one must keep these settings."""
    start = f"seg train {run_dir / 'config.toml'}"
    if (run_dir / "model.pt").is_file():
        start += f" --weights {run_dir}"
    start += " -s paths.run=NAME"
    if OBJECT in (config.model.name, config.data.dataset.name):
        start = "Trainer(config, ...) with the same objects, in another folder,"
    # a warmup belongs to a scheduler, which may be absent
    warmup = "" if config.lr_scheduler is None else " a warmup (-s lr_scheduler.warmup_steps=500),"
    return (
        f"start a new run, since a resumed one keeps its settings: {start} with a lower learning rate (-s "
        f"optimizer.params.lr=...), clipped gradients (-s trainer.max_grad_norm=1),{warmup} or -s "
        "trainer.precision=fp32"
    )
