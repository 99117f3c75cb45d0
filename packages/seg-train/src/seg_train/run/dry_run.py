"""A dry run: tries each part of a run once, and says what the whole would take. Nothing is kept."""

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from seg_core.files.atomic import check_folder
from seg_core.files.temporaries import temporary_folder
from seg_core.interfaces import SegmentationDataset
from seg_core.progress import Progress, clock, size_text
from seg_train.config.schema import TrainConfig
from seg_train.run.failures import explain_failures
from seg_train.run.guards import on_any_process
from seg_train.run.meters import peak_memory_mib
from seg_train.run.model_files import save_models
from seg_train.run.rows import epoch_row
from seg_train.run.start import RunFacts, show_start
from seg_train.run.step import train_step
from seg_train.run.trainer import Trainer

__all__ = ["DryRun", "dry_run"]

_VAL_IMAGES = 8
# The first step starts workers and allocates memory; where steps are fast, a few more tell how long one takes.
_MORE_STEPS = 3
_SLOW_STEP = 5.0  # seconds


@dataclass(frozen=True)
class DryRun:
    """What a run was measured to take.

    Attributes:
        facts: of the run.
        first_step_seconds: of the first step, which starts workers and allocates memory.
        step_seconds: of a later step; of the first if it took long.
        image_seconds: per val image, of all weights that are evaluated.
        checkpoint_seconds: of writing a checkpoint.
        checkpoint_bytes: size of a checkpoint.
        disk_bytes: size of all checkpoints and model files of the run.
        memory_mib: peak of tensors on a GPU, else of this process without its workers.
        seconds: of the whole run, if it does not stop early.
        is_main_process: whether this process is the one that shows results.
    """

    facts: RunFacts
    first_step_seconds: float
    step_seconds: float
    image_seconds: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    disk_bytes: int
    memory_mib: float
    seconds: float
    is_main_process: bool = True

    def rows(self) -> list[tuple[str, str]]:
        """Returns what is shown, as names and values."""
        on = "GPU memory" if self.facts.device == "cuda" else "memory of this process"
        speed = self.facts.batch_size / self.step_seconds
        evaluation = self.image_seconds * self.facts.val_samples
        return [
            ("first step", f"{self.first_step_seconds:.2f} s"),
            ("step", f"{self.step_seconds:.3f} s, {speed:.1f} images/s"),
            ("evaluation", f"{clock(evaluation)}, {self.image_seconds:.3f} s per image"),
            ("checkpoint", f"{self.checkpoint_seconds:.2f} s, {size_text(self.checkpoint_bytes)}"),
            (on, size_text(self.memory_mib * 2**20)),
            ("disk of the whole run", size_text(self.disk_bytes)),
            ("time of the whole run", f"{clock(self.seconds)}, estimated"),
        ]


def dry_run(
    config: TrainConfig,
    *,
    progress: Progress | None = None,
    model: nn.Module | None = None,
    train_set: SegmentationDataset | None = None,
    val_set: SegmentationDataset | None = None,
) -> DryRun:
    """Takes a step, evaluates 8 val images and writes a checkpoint and the model files, in a folder that is removed.

    Loggers are built, but not started. Every process of a run must call it.

    Args:
        config: config of the run.
        progress: shows the progress; None shows warnings only.
        model: as for `Trainer`, in place of the config's; a copy is trained.
        train_set: as for `Trainer`.
        val_set: as for `Trainer`.

    Raises:
        UserError: as `Trainer` and its `run` do.
    """
    progress = progress or Progress()
    model = copy.deepcopy(model)  # the steps must not train the caller's
    with _temporary_folder(Path(config.paths.output)) as folder:
        trainer = Trainer(config, folder / "run", progress=progress, model=model, train_set=train_set, val_set=val_set)
        trainer.loggers.loggers.clear()
        try:
            return _measure(trainer)
        finally:
            progress.close()


def _measure(trainer: Trainer) -> DryRun:
    config, accelerator, network = trainer.config, trainer.accelerator, trainer.network
    facts = RunFacts.of(config, trainer.data, network, trainer.plan, accelerator)
    if accelerator.is_main_process:
        show_start(facts, config, Path(config.paths.output), trainer.progress)
    trainer.state.start_clock()
    with explain_failures(config, "training"):
        first, step = _time_steps(trainer)
    with explain_failures(config, "evaluation"):
        begin, outcomes = time.perf_counter(), {}
        for which in ("last",) if network.average is None else ("last", "ema"):
            outcomes[which] = trainer.validation(
                network.for_evaluation(which),
                lambda done, total: trainer.progress.part("evaluating", done, total),
                first=_VAL_IMAGES,
            )
        images = min(_VAL_IMAGES, facts.val_samples)
        image_seconds = (time.perf_counter() - begin) / images
    begin = time.perf_counter()
    trainer.save()
    checkpoint_seconds = time.perf_counter() - begin
    row = epoch_row(trainer.position, trainer.state.running.summarize_all(), outcomes, trainer.data.metadata)
    save_models(trainer.folder, trainer.state, trainer.data, trainer.validation.protocol, row, "last")
    checkpoint_bytes = _size(trainer.folder.checkpoints.last)
    models = sum(_size(path) for path in trainer.folder.model_files)
    return DryRun(
        facts=facts,
        first_step_seconds=first,
        step_seconds=step,
        image_seconds=image_seconds,
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_bytes=checkpoint_bytes,
        disk_bytes=checkpoint_bytes * (config.trainer.keep_checkpoints + 2) + models,
        memory_mib=peak_memory_mib(accelerator.device),
        seconds=first
        + step * (facts.steps - 1)
        + image_seconds * facts.val_samples * facts.evaluations
        + checkpoint_seconds * _checkpoints(config, facts),
        is_main_process=accelerator.is_main_process,
    )


def _time_steps(trainer: Trainer) -> tuple[float, float]:
    """Trains a few steps, and returns the seconds of the first and of a later one."""
    times: list[float] = []
    begin = time.perf_counter()
    batches = trainer.data.train_loader.read(trainer.plan.batches(0)[: 1 + _MORE_STEPS])
    for batch in batches:
        result = train_step(trainer.parts, batch)
        trainer.network.after_step()
        trainer.position.step += 1
        float(result.loss)  # waits for the device
        trainer.state.running.add(result)
        now = time.perf_counter()
        times.append(now - begin)
        begin = now
        if on_any_process(trainer.accelerator, times[-1] > _SLOW_STEP):
            break
    later = sorted(times[1:]) or times
    return times[0], later[len(later) // 2]


def _checkpoints(config: TrainConfig, facts: RunFacts) -> int:
    within = facts.evaluations if config.evaluation.every_steps is not None else 0
    every = config.trainer.checkpoint_every_steps
    return facts.epochs + within + (0 if every is None else facts.steps // every)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextlib.contextmanager
def _temporary_folder(output: Path) -> Iterator[Path]:
    """Creates a folder on the disk of the run folders, and removes it after the block."""
    check_folder(output, f"paths.output = {output}")
    while not output.exists():
        output = output.parent
    with temporary_folder(output, "dry-run") as folder:
        yield folder
