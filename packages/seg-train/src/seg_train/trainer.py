"""A training run: build, loop, evaluate, save. The file to read first.

`Trainer(config).run()` does what `seg train` does. What a config stands for is made in `seg_train.building`, the work
of one step, epoch and evaluation is in `seg_train.engine`, the order of samples in `seg_train.samples`, the files in
`seg_train.run_folder`.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate.utils import broadcast
from torch import Tensor

from seg_core.class_balance import class_weights, count_pixels
from seg_core.errors import ConfigError, UsageError
from seg_core.metadata import DatasetMetadata
from seg_core.metrics import MetricStore
from seg_core.model_file import save_model
from seg_core.registry import PREDICTORS
from seg_train.building import RunLength, build_accelerator, build_data, build_loggers, build_parts
from seg_train.checkpoint import get_random_state, load_checkpoint, save_checkpoint, set_random_state
from seg_train.config.schema import TrainConfig
from seg_train.engine import StepResult, evaluate_batches, train_epoch
from seg_train.interruption import Interruption, RunInterruptedError
from seg_train.loggers.base import Snapshot
from seg_train.progress import Progress
from seg_train.run_folder import RunFolder, describe_environment, find_run, new_run_path
from seg_train.running import RunningScores, StepWindow
from seg_train.samples import Batch, PlannedSample, evaluation_plan, training_plan
from seg_train.sampling import RareClassSampling, count_pixels_per_image

__all__ = ["RunResult", "Trainer"]

_Counts = TypeVar("_Counts")


@dataclass
class _Position:
    """How far a run has come.

    Attributes:
        step: optimizer steps made.
        epoch: epochs finished, evaluation included.
        batches: batches used of the running epoch.
        seconds: time the run has taken, over all its processes' lives.
        best: highest val mIoU so far, or None.
        finished: whether the run is at its end.
    """

    step: int = 0
    epoch: int = 0
    batches: int = 0
    seconds: float = 0.0
    best: float | None = None
    finished: bool = False


@dataclass(frozen=True)
class RunResult:
    """What a finished run gives.

    Attributes:
        run_dir: folder with everything about the run.
        metadata: names and colours of the classes.
        scores: row of the last evaluation: the last weights on val.
    """

    run_dir: Path
    metadata: DatasetMetadata
    scores: Mapping[str, Any]


class Trainer:
    """Builds everything that a config names, and trains.

    Nothing is written before `run`.

    Args:
        config: of the run.
        run_dir: folder of the run; None takes the config's `[paths]`.
        resume: go on with the run in that folder instead of starting one there.
        progress: what shows how it goes; None shows nothing.

    Raises:
        ConfigError: if the folder of a new run is not empty, or a resumed run was started with other settings.
        UsageError: if there is nothing to resume.
        CorruptFileError: if the checkpoint is damaged.
        UserError: if data set or network cannot be built.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: str | Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.progress = progress or Progress()
        self.folder = RunFolder(run_dir or (find_run(config) if resume else new_run_path(config)))
        self.position = _Position()
        self.last_row: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None
        if resume:
            self._resumed = self._read_checkpoint()
        else:
            self.folder.check_free()
        self.accelerator = build_accelerator(config)
        self.data = build_data(config, self.accelerator)
        self.length = RunLength.of(config, len(self.data.train_set))
        self.class_weights = self._settle_class_weights()
        self.sampling = self._settle_sampling()
        self.parts, self.schedule = build_parts(config, self.data, self.length, self.class_weights, self.accelerator)
        self.predict = PREDICTORS.get("whole")
        self.loggers = build_loggers(config, self.folder.path) if self.accelerator.is_main_process else {}
        metadata = self.data.metadata
        self._running = RunningScores(metadata.num_classes, metadata.ignore_index, self.accelerator)
        self._window = StepWindow(self.accelerator.device)
        if self._resumed is not None:
            self._restore(self._resumed)

    def run(self) -> RunResult:
        """Trains to the end and returns the scores of the last weights on val.

        Raises:
            RunInterruptedError: after Ctrl-C, once a checkpoint is written; the message says how to resume.
            UserError: what goes wrong with data or files meanwhile.
        """
        if self.position.finished:
            self.progress.message(f"the run in {self.folder.path} is finished; nothing is left to do")
            return self._result()
        self._clock = time.perf_counter() - self.position.seconds
        environment = describe_environment()
        if self.accelerator.is_main_process:
            if self._resumed is None:
                self.folder.create(self.config, environment)
                self._keep_class_weights()
                self._keep_pixel_counts()
            for logger in self.loggers.values():
                logger.on_start(self.config.to_dict(), environment, self.data.metadata)
        if self._resumed is None:
            # From here on there is something to resume, and a folder that cannot be written shows now, not in an hour.
            self._save()
        self.progress.start(self.length.steps, self.position.step)
        try:
            with Interruption() as self._interruption:
                while not self.position.finished:
                    self._train_epoch()
                    self._evaluate()
        finally:
            self.progress.close()
        return self._result()

    def _settle_class_weights(self) -> list[float] | None:
        """Returns the class weights: given in the config, counted before by a run that is resumed, or counted now."""
        wanted = self.config.criterion.class_weights
        if not isinstance(wanted, str):
            metadata = self.data.metadata
            if len(wanted) != metadata.num_classes:  # where only the data set knew its classes
                raise ConfigError(
                    f"criterion.class_weights has {len(wanted)} numbers but {metadata.name} has "
                    f"{metadata.num_classes} classes"
                )
            return list(wanted)
        if wanted == "none":
            return None
        kept = self.folder.read_class_weights() if self._resumed is not None else None
        if kept is not None:
            return kept
        return class_weights(self._count(count_pixels), wanted).tolist()

    def _keep_class_weights(self) -> None:
        scheme = self.config.criterion.class_weights
        if self.class_weights is not None:
            self.folder.write_class_weights(
                scheme if isinstance(scheme, str) else "given", self.data.metadata.labels, self.class_weights
            )

    def _settle_sampling(self) -> RareClassSampling | None:
        """Returns what draws samples by class, where the config wants that; pixels are counted once per run."""
        section = self.config.data.sampling
        if not section.rare_classes:
            return None
        counts = self.folder.read_pixel_counts() if self._resumed is not None else None
        self._pixel_counts = self._count(count_pixels_per_image) if counts is None else counts
        return RareClassSampling(
            self._pixel_counts,
            temperature=section.temperature,
            min_pixels=section.min_pixels,
            attempts=section.attempts,
        )

    def _keep_pixel_counts(self) -> None:
        if self.sampling is not None:
            self.folder.write_pixel_counts(self._pixel_counts)

    def _count(self, count: Callable[..., _Counts]) -> _Counts:
        train_set = self.data.train_set
        self.progress.message(f"counting the pixels of each class in {len(train_set)} masks")
        try:
            return count(train_set, progress=functools.partial(self.progress.part, "counting"))
        finally:
            self.progress.close()

    # ---- loop --------------------------------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        """Trains from where the epoch stands to its end."""
        position = self.position
        left = self._plan_epoch()[position.batches :][: self.length.steps - position.step]
        steps = train_epoch(self.parts, self.data.train_loader.read(left, position.epoch))
        self._window.start_clock()
        for result in steps:
            position.step += 1
            position.batches += 1
            if self.schedule is not None:
                self.schedule.step()
            self._note(result)
            every = self.config.trainer.checkpoint_every_steps
            if every is not None and position.step % every == 0:
                self._save()
            self._stop_if_requested()
        self._window.stop_clock()

    def _plan_epoch(self) -> Sequence[Sequence[int | PlannedSample]]:
        """Returns the batches of the running epoch, this process's share of each."""
        batch_size, seed = self.config.data.loader.batch_size, self.config.trainer.seed
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        if self.sampling is not None:
            return self.sampling.plan(batch_size, seed, self.position.epoch, rank, processes)
        return training_plan(len(self.data.train_set), batch_size, seed, self.position.epoch, rank, processes)

    def _note(self, result: StepResult) -> None:
        """Adds a step to the sums, and shows or logs them where it is time to; only then is the device waited for."""
        position, count = self.position, len(result.masks)
        self._running.add(result)
        self._window.add(result.loss, count * self.accelerator.num_processes)
        if self.progress.due():
            summary = self._running.summarize()
            self.progress.step(
                position.step, position.epoch + 1, summary["loss"], summary["miou"], self._window.images_per_second()
            )
        if position.step % self.config.trainer.log_every_steps == 0:
            row = {
                "epoch": position.epoch + 1,
                "step": position.step,
                "loss": self._window.mean_loss(),
                **self._rates(),
            }
            for logger in self.loggers.values():
                logger.on_step(row)
            self._window.reset()

    def _stop_if_requested(self) -> None:
        if not self._interruption.requested:
            return
        self._save()
        position = self.position
        raise RunInterruptedError(
            f"stopped after step {position.step} of {self.length.steps} (epoch {position.epoch + 1}); go on with: "
            f"seg train --resume {self.folder.path}"
        )

    # ---- evaluate ----------------------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Evaluates the weights on val, logs, and ends the epoch with a checkpoint."""
        store = MetricStore(self.data.metadata.num_classes, ignore_index=self.data.metadata.ignore_index)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        plan = evaluation_plan(len(self.data.val_set), self._eval_batch_size(), rank, processes)
        snapshots: dict[int, Snapshot] = {}
        wanted = self._snapshot_indices()
        done, total = 0, sum(map(len, plan))

        def on_batch(batch: Batch, labels: Tensor) -> None:
            nonlocal done
            self._stop_if_requested()
            done += len(batch.indices)
            self.progress.part("evaluating", done, total)
            for place, index in enumerate(batch.indices):
                if index in wanted:
                    snapshots[index] = Snapshot(index, batch.images[place], batch.masks[place], labels[place].cpu())

        model = self.accelerator.unwrap_model(self.parts.model)
        if processes > 1:
            # After a step each process has its own statistics of batch norm; all evaluate what is saved.
            broadcast(list(model.buffers()))
        evaluate_batches(
            model,
            self.data.val_loader.read(plan),
            store,
            predict=self.predict,
            augment=self.data.normalize,
            device=self.accelerator.device,
            criterion=self.parts.criterion.criterion,
            on_batch=on_batch,
        )
        store.reduce()
        scores = store.summarize()
        if self.schedule is not None:
            self.schedule.end_epoch(scores)
        row = self._epoch_row(scores)
        for logger in self.loggers.values():
            logger.on_epoch(row)
            logger.on_confusion_matrix(row["epoch"], store.confusion_matrix)
            if snapshots:
                logger.on_snapshots(row["epoch"], [snapshots[index] for index in sorted(snapshots)])
        self._end_epoch(row)

    def _epoch_row(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        train = self._running.summarize_all()
        row = {
            "epoch": self.position.epoch + 1,
            "step": self.position.step,
            "train_loss": train["loss"],
            "train_miou": train["miou"],
            **({"val_loss": scores["loss"]} if "loss" in scores else {}),
            **{name: scores[name] for name in ("miou", "acc", "macc", "fwiou", "dice")},
            "iou_per_class": dict(zip(self.data.metadata.labels, scores["iou_per_class"], strict=True)),
            "absent": scores["absent"],
            **self._rates(),
        }
        self.progress.message(
            f"epoch {row['epoch']}/{self.length.epochs}  train loss {row['train_loss']:.4f}  "
            f"val mIoU {row['miou']:.4f}  val accuracy {row['acc']:.4f}"
        )
        return row

    def _end_epoch(self, row: dict[str, Any]) -> None:
        position = self.position
        self.last_row = row
        is_best = row["miou"] == row["miou"] and (position.best is None or row["miou"] > position.best)
        if is_best:
            position.best = row["miou"]
        position.epoch += 1
        position.batches = 0
        position.finished = position.step >= self.length.steps
        self._running.reset()
        if self.accelerator.is_main_process:
            self._save_model(self.folder.model, row)
            if is_best:
                self._save_model(self.folder.model_best, row)
        if position.finished:
            # Before the last checkpoint: a run that is killed in here is not finished, and does this again.
            for logger in self.loggers.values():
                logger.on_end(row)
        self._save(is_best)

    def _eval_batch_size(self) -> int:
        loader = self.config.data.loader
        if loader.eval_batch_size is not None:
            return loader.eval_batch_size
        return loader.batch_size if self.config.data.transform.val.size is not None else 1

    def _snapshot_indices(self) -> frozenset[int]:
        """Returns the fixed pictures, spread evenly over those that the main process evaluates."""
        own = range(0, len(self.data.val_set), self.accelerator.num_processes)
        count = min(self.config.trainer.snapshots, len(own))
        return frozenset(own[i * (len(own) - 1) // max(count - 1, 1)] for i in range(count))

    # ---- save --------------------------------------------------------------------------------------------------------

    def _save(self, is_best: bool = False) -> None:
        """Writes the last checkpoint, and before it the best one: what the last one says of it is then always true."""
        self.position.seconds = self._seconds()
        running = self._running.state()
        if not self.accelerator.is_main_process:
            return
        model = self.accelerator.unwrap_model(self.parts.model)
        content = {
            "model": model.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "position": asdict(self.position),
            "last_row": self.last_row,
            "running": running,
            "window": self._window.state(),
            "random": get_random_state(),
            "loggers": {name: logger.state() for name, logger in self.loggers.items()},
            "config": self.config.influences(),
            "digest": self.config.digest(),
            "versions": describe_environment()["packages"],
        }
        if is_best:
            save_checkpoint(self.folder.best, content)
        save_checkpoint(self.folder.last, content)
        for logger in self.loggers.values():
            logger.on_checkpoint(self.folder.last)

    def _save_model(self, path: Path, row: Mapping[str, Any]) -> None:
        scale = self.data.preprocessing.scale
        split = self.config.data.dataset.val_split
        save_model(
            self.accelerator.unwrap_model(self.parts.model),
            path,
            metadata=self.data.metadata,
            preprocessing=self.data.preprocessing,
            metrics={name: row[name] for name in ("miou", "acc", "macc", "fwiou", "dice", "iou_per_class")},
            protocol=f"{split} split of {self.data.metadata.name}, single scale {scale or 1:g}, absent={row['absent']}",
        )

    def _read_checkpoint(self) -> dict[str, Any]:
        if not self.folder.last.is_file():
            raise UsageError(
                f"nothing to resume: {self.folder.path} holds no checkpoints/last.pt; start a new run without --resume"
            )
        content = load_checkpoint(self.folder.last)
        if content["digest"] != self.config.digest():
            here, there = self.config.influences(), content["config"]
            changed = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
            shown = ", ".join(f"{k} ({there.get(k)} there, {here.get(k)} here)" for k in changed)
            raise ConfigError(
                f"the run in {self.folder.path} was started with other settings: {shown}; resume it without the "
                "change, or start a new run in another folder by -s paths.run=NAME"
            )
        return content

    def _restore(self, content: Mapping[str, Any]) -> None:
        """Puts everything where the checkpoint was written; the random state last, since building draws from it."""
        self.accelerator.unwrap_model(self.parts.model).load_state_dict(content["model"])
        self.parts.optimizer.load_state_dict(content["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(content["schedule"])
        self.position = _Position(**content["position"])
        self.last_row = content["last_row"]
        self._running.load_state(content["running"])
        self._window.load_state(content["window"])
        for name, logger in self.loggers.items():
            if name in content["loggers"]:
                logger.load_state(content["loggers"][name])
        set_random_state(content["random"])

    # ---- small things ------------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return time.perf_counter() - self._clock

    def _rates(self) -> dict[str, float]:
        return {
            "lr": self.parts.optimizer.param_groups[0]["lr"],
            "images_per_second": self._window.images_per_second(),
            "seconds": self._seconds(),
        }

    def _result(self) -> RunResult:
        return RunResult(self.folder.path, self.data.metadata, self.last_row)
