"""A training run: build, loop, evaluate, save. The file to read first.

`Trainer(config).run()` does what `seg train` does. What a config stands for is made in `seg_train.run.build`, the work
of one step is in `seg_train.run.step`, that of an evaluation in `seg_train.run.validation`, the network's shapes in
`seg_train.run.model`, the order of samples in `seg_train.data.batches`, the files in `seg_train.run.folder`.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object

from seg_core.errors import ConfigError, CorruptFileError, UsageError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.class_weights import class_weights, count_pixels
from seg_core.model_files.model_file import save_model
from seg_core.progress import Progress, StepState
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch, PlannedSample, training_plan
from seg_train.data.rare_classes import RareClassSampling, count_pixels_per_image
from seg_train.loggers.base import Moment
from seg_train.loggers.group import LoggerGroup
from seg_train.monitor import SCORES, Monitor, default_monitor
from seg_train.run.build import RunLength, build_accelerator, build_data, build_loggers, build_parts, precision_of
from seg_train.run.checkpoint import get_random_state, load_checkpoint, set_random_state
from seg_train.run.determinism import deterministic
from seg_train.run.failures import LossGuard, NonFiniteLossError, explain_failures
from seg_train.run.folder import RunFolder, describe_environment, find_run, new_run_path
from seg_train.run.interruption import Interruption, RunInterruptedError
from seg_train.run.meters import RunningScores, StepWindow, memory_mib
from seg_train.run.resume import (
    Position,
    adapt_position,
    check_data,
    check_settings,
    check_val_transform,
    describe_config,
    describe_data,
    describe_rates,
    length_of,
    replay_scheduler,
    restart_plateau,
    set_groups,
    stored_config,
    why_scores_differ,
)
from seg_train.run.step import StepResult, train_step
from seg_train.run.validation import Outcome, Validation

__all__ = ["RunResult", "Trainer"]

_Counts = TypeVar("_Counts")


@dataclass(frozen=True)
class RunResult:
    """What a finished run gives.

    Attributes:
        run_dir: folder with everything about the run.
        metadata: names and colors of the classes.
        scores: row of the last evaluation: the last weights on val, and with the prefix `ema_` their average.
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
        resume: go on with the run in that folder, from its last checkpoint or the one whose path is given, instead of
            starting one there. A run that was killed before its first checkpoint begins anew. `trainer.epochs` or
            `trainer.steps` may be another total than it had; what else influences learning must be the same.
        extend: with `resume`, also continue a run that was stopped early (`evaluation.patience`) where the total is
            the one that it had.
        progress: what shows how it goes; None shows nothing but warnings.

    Raises:
        ConfigError: if the folder of a new run is not empty, or a resumed run was started with other settings or data.
        RunLockedError: if another run uses the folder.
        UsageError: if there is nothing to resume.
        CorruptFileError: if the checkpoint is damaged.
        UserError: if dataset or network cannot be built.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: str | Path | None = None,
        *,
        resume: bool | str | Path = False,
        extend: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.progress = progress or Progress()
        self.folder = RunFolder(run_dir or (find_run(config) if resume else new_run_path(config)))
        self.position = Position()
        self.last_row: dict[str, Any] = {}
        self._resumed_from = self._checkpoint_to_resume(resume) if resume else None
        self._resumed: dict[str, Any] | None = None
        if self._resumed_from is not None:
            self._resumed = self._read_checkpoint(self._resumed_from)
        self._starts_over = bool(resume) and self._resumed is None
        precision = None if self._resumed is None else self._resumed["precision"]
        self.accelerator = build_accelerator(config, precision)
        if not resume:
            self._settle_folder()
        elif self.accelerator.is_main_process:
            self.folder.check_unused()
        self.data = build_data(config, self.accelerator)
        self.length = RunLength.of(config, len(self.data.train_set))
        self._extend = extend
        padded = self._check_data()
        self.class_weights = self._settle_class_weights()
        self.sampling = self._settle_sampling()
        self.parts, self.network, self.scheduler = build_parts(
            config, self.data, self.length, self.class_weights, self.accelerator
        )
        has_average = config.trainer.ema_decay is not None
        self.monitor = Monitor(
            config.evaluation.monitor or default_monitor(has_average), has_average, self.data.metadata.labels
        )
        self.validation = Validation(config, self.data, self.parts.criterion.criterion, self.accelerator)
        self._check_val_loss()
        self.loggers = LoggerGroup(
            build_loggers(config, self.folder.path) if self.accelerator.is_main_process else {}, self.progress.warn
        )
        metadata = self.data.metadata
        self._running = RunningScores(metadata.num_classes, metadata.ignore_index, self.accelerator)
        self._window = StepWindow(self.accelerator)
        self._guard = LossGuard(self.folder.path, self.data.train_set)
        self._best_is_new = False
        self._plan_of: tuple[int, Sequence[Sequence[int | PlannedSample]]] | None = None
        if self._resumed is not None:
            self._restore(self._resumed, padded)

    def run(self) -> RunResult:
        """Trains to the end and returns the scores of the last evaluation.

        Raises:
            RunInterruptedError: after Ctrl-C or SIGTERM, once a checkpoint is written; the message says how to resume.
            NonFiniteLossError: if the loss becomes infinite or NaN; the run folder lists the files of the batch.
            NotEnoughMemoryError: if memory is short; the message says what to lower.
            ProcessDiedError: if a process that reads samples, or another one of the run, is gone.
            RunLockedError: if another run uses the folder.
            UserError: what goes wrong with data or files meanwhile.
        """
        if self.position.finished:
            self.progress.message(f"the run in {self.folder.path} is finished; nothing is left to do")
            return self._result()
        is_main, is_new = self.accelerator.is_main_process, self._resumed is None and not self._starts_over
        with self.folder.claim(new=is_new) if is_main else contextlib.nullcontext():
            return self._run()

    def _run(self) -> RunResult:
        self._clock = time.perf_counter() - self.position.seconds
        self._prepare_folder()
        self.progress.start(self.length.steps, self.position.step)
        try:
            with (
                Interruption() as self._interruption,
                deterministic(self.config.trainer.deterministic, self.progress.warn),
            ):
                while not self.position.finished:
                    self._go_on()
        finally:
            self.progress.close()
            self.loggers.close()
        return self._result()

    def _go_on(self) -> None:
        """Does what comes next: an evaluation that is due, the end of an epoch, or steps."""
        evaluates = self._evaluation_is_due()
        with explain_failures(self.config, "evaluation" if evaluates else "training"):
            if evaluates:
                self._evaluate()
            elif self._epoch_is_over():
                self._end_epoch()
            else:
                self._train()

    # ---- begin -------------------------------------------------------------------------------------------------------

    def _settle_folder(self) -> None:
        """Checks that the folder is free; all processes take that of the main one, whose name may hold the time."""
        if self.accelerator.num_processes > 1:
            self.folder = RunFolder(broadcast_object_list([str(self.folder.path)])[0])
        if self.accelerator.is_main_process:
            self.folder.check_free()

    def _prepare_folder(self) -> None:
        environment = describe_environment()
        if self.accelerator.is_main_process:
            if self._resumed is None:
                self.folder.create(self.config, environment)
                self._keep_class_weights()
                self._keep_pixel_counts()
            else:
                assert self._resumed_from is not None
                self.folder.checkpoints.go_on_from(self._resumed_from, self.position.step)
                trainer = self.config.trainer.model_dump(include={"epochs", "steps"}, exclude_none=True)
                self.folder.update_config(trainer)
            self.loggers.on_start(self.config.to_dict(), environment, self.data.metadata)
        if self._starts_over:
            self.progress.message(f"the run in {self.folder.path} has no checkpoint yet and begins anew")
        if self._resumed is None:
            # From here on there is something to resume, and a folder that cannot be written shows now, not in an hour.
            self._save()

    def _settle_class_weights(self) -> list[float] | None:
        """Returns the class weights: given in the config, counted before by a run that is resumed, or counted now."""
        wanted = self.config.criterion.class_weights
        if not isinstance(wanted, str):
            metadata = self.data.metadata
            if len(wanted) != metadata.num_classes:  # where only the dataset knew its classes
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

    # ---- train -------------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        """Makes steps until the epoch is over or an evaluation is due."""
        position = self.position
        left = self._plan_epoch()[position.batches :][: self.length.steps - position.step]
        batches = self.data.train_loader.read(left, position.epoch)
        self._window.start_clock()
        with contextlib.closing(self._window.waiting(batches)) as waited_for:
            for batch in waited_for:
                result = train_step(self.parts, batch)
                self._count_step(result, batch)
                every = self.config.trainer.checkpoint_every_steps
                if every is not None and position.step % every == 0:
                    self._save()
                if self._evaluation_is_due() or self._epoch_is_over():
                    break
                self._stop_if_requested()
        self._window.stop_clock()

    def _count_step(self, result: StepResult, batch: Batch) -> None:
        self.position.step += 1
        self.position.batches += 1
        # where half precision overflowed, accelerate has left the step out, and torch wants no scheduler ahead of it
        if self.scheduler is not None and not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        self.network.after_step()
        self._guard.add(result.loss, self.position.step, batch)
        if self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu":
            self._check_losses()
        self._note(result)

    def _plan_epoch(self) -> Sequence[Sequence[int | PlannedSample]]:
        """Returns the batches of the running epoch, this process's share of each."""
        epoch = self.position.epoch
        if self._plan_of is None or self._plan_of[0] != epoch:
            batch_size, seed = self.config.data.loader.batch_size, self.config.trainer.seed
            rank, processes = self.accelerator.process_index, self.accelerator.num_processes
            if self.sampling is not None:
                plan: Sequence[Sequence[int | PlannedSample]] = self.sampling.plan(
                    batch_size, seed, epoch, rank, processes
                )
            else:
                plan = training_plan(len(self.data.train_set), batch_size, seed, epoch, rank, processes)
            self._plan_of = (epoch, plan)
        return self._plan_of[1]

    def _epoch_is_over(self) -> bool:
        return self.position.batches >= len(self._plan_epoch()) or self.position.step >= self.length.steps

    def _note(self, result: StepResult) -> None:
        """Adds a step to the sums, and shows or logs them where it is time to; only then is the device waited for."""
        position, count = self.position, len(result.masks)
        self._running.add(result)
        self._window.add(result.loss, count * self.accelerator.num_processes)
        if self.progress.due():
            summary = self._running.summarize()
            self.progress.step(
                StepState(
                    step=position.step,
                    epoch=position.epoch + 1,
                    epochs=self.length.epochs,
                    loss=summary["loss"],
                    miou=summary["miou"],
                    images_per_second=self._window.images_per_second(),
                    data_wait=self._window.data_wait(),
                    memory_mib=memory_mib(self.accelerator.device),
                )
            )
        if position.step % self.config.trainer.log_every_steps == 0:
            self._check_losses()
            row = {
                "epoch": position.epoch + 1,
                "step": position.step,
                "loss": self._window.mean_loss(),
                **self._rates(),
            }
            self.loggers.on_step(row)
            self._window.reset()

    def _check_losses(self) -> None:
        """Ends the run where a loss is not finite, on all processes alike."""
        error = self._guard.check()
        if self._any(error is not None):
            raise error or NonFiniteLossError("the loss of another process of this run is not finite; see its message")

    def _stop_if_requested(self) -> None:
        # Several processes get a signal at different steps; they agree where they meet anyway.
        meets = self.position.step % self.config.trainer.log_every_steps == 0
        if self.accelerator.num_processes > 1:
            if not meets or not self._any(self._interruption.requested):
                return
        elif not self._interruption.requested:
            return
        self._stop()

    def _stop(self) -> None:
        self._save()
        position = self.position
        raise RunInterruptedError(
            f"stopped after step {position.step} of {self.length.steps} (epoch {position.epoch + 1}); go on with: "
            f"seg train --resume {self.folder.path}"
        )

    def _any(self, flag: bool) -> bool:
        """Returns whether it is so on any process; every process must call it."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags, "sum") > 0)

    # ---- evaluate ----------------------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        position, section = self.position, self.config.evaluation
        if position.evaluated == position.step or position.step == 0:
            return False
        if position.step >= self.length.steps:
            return True
        if section.every_steps is not None:
            return position.step % section.every_steps == 0
        return self._epoch_is_over() and (position.epoch + 1) % (section.every_epochs or 1) == 0

    def _evaluate(self) -> None:
        """Evaluates the weights on val, and their average; logs, and keeps the best."""
        self._check_losses()
        outcomes = {"last": self._evaluate_weights("last")}
        if self.network.average is not None:
            outcomes["ema"] = self._evaluate_weights("ema")
        position = self.position
        row = self._row(outcomes)
        self._tell(row)
        self.loggers.on_epoch(row)
        for which, outcome in outcomes.items():
            moment = Moment(row["epoch"], row["step"], which, self._epoch_is_over())
            self.loggers.on_confusion_matrix(moment, outcome.matrix)
            if outcome.snapshots:
                self.loggers.on_snapshots(moment, outcome.snapshots)
        self.last_row = row
        position.evaluated = position.step
        is_best = self._judge(row)
        self._best_is_new |= is_best
        self._save_models(row, is_best)
        self._running.reset()
        if self._epoch_is_over():
            self._end_epoch()
        else:
            self._finish_and_save()

    def _evaluate_weights(self, which: str) -> Outcome:
        what = "evaluating" if which == "last" else f"evaluating {which}"
        network = self.network.for_evaluation(which)

        def on_progress(done: int, total: int) -> None:
            # the evaluation is made again then
            if self._interruption.requested and self.accelerator.num_processes == 1:
                self._stop()
            self.progress.part(what, done, total)

        return self.validation(network, on_progress)

    def _row(self, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        """Returns what is logged of the steps since the last row, and of evaluations where there were any."""
        train = self._running.summarize_all()
        row: dict[str, Any] = {
            "epoch": self.position.epoch + 1,
            "step": self.position.step,
            "train_loss": train["loss"],
            "train_miou": train["miou"],
        }
        for which, outcome in outcomes.items():
            prefix, scores = "" if which == "last" else f"{which}_", outcome.scores
            row[f"{prefix}val_loss"] = scores["loss"]
            row |= {prefix + name: scores[name] for name in SCORES}
            per_class = dict(zip(self.data.metadata.labels, scores["iou_per_class"], strict=True))
            row[f"{prefix}iou_per_class"] = per_class
        if outcomes:
            row["absent"] = outcomes["last"].scores["absent"]
        return row | self._rates()

    def _tell(self, row: Mapping[str, Any]) -> None:
        parts = [f"epoch {row['epoch']}/{self.length.epochs}"]
        if not self._epoch_is_over():
            parts[0] += f" step {row['step']}"
        parts.append(f"train loss {row['train_loss']:.4f}")
        if "miou" in row:
            parts += [f"val mIoU {row['miou']:.4f}", f"val accuracy {row['acc']:.4f}"]
        if "ema_miou" in row:
            parts += [f"EMA mIoU {row['ema_miou']:.4f}"]
        self.progress.message("  ".join(parts))

    def _judge(self, row: Mapping[str, Any]) -> bool:
        """Returns whether the evaluation is the best so far; ends the run where none has been for too long."""
        position, section = self.position, self.config.evaluation
        value = self.monitor.value(row)
        is_best = self.monitor.is_better(value, position.best)
        if self.monitor.is_better(value, position.best, section.min_delta):
            position.stale = 0
        else:
            position.stale += 1
        if is_best:
            position.best = value
        if section.patience is not None and position.stale >= section.patience:
            self.progress.message(
                f"stopped early: {self.monitor.name} was not better than {position.best} in "
                f"{position.stale} evaluations (evaluation.patience)"
            )
            position.finished = True
        return is_best

    def _end_epoch(self) -> None:
        position = self.position
        if position.evaluated != position.step:
            self._check_losses()
            row = self._row({})
            self._tell(row)
            self.loggers.on_epoch(row)
            self._running.reset()
        if self.scheduler is not None:
            last = self.last_row
            has_scores = last.get("epoch") == position.epoch + 1
            self.scheduler.end_epoch(_watchable(last) if has_scores else None)
        position.epoch += 1
        position.batches = 0
        position.finished |= position.step >= self.length.steps
        self._finish_and_save()

    def _finish_and_save(self) -> None:
        if self.position.finished:
            # Before the last checkpoint: a run that is killed in here is not finished, and does this again.
            self.loggers.on_end(self.last_row)
        self._save()

    # ---- save --------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Writes a checkpoint; every process must call it."""
        self._check_losses()
        self.position.seconds = self._seconds()
        states = {
            **self.network.state(),
            "running": self._running.state(),
            "window": self._window.state(),
            "random": gather_object([get_random_state()]),
        }
        is_best, self._best_is_new = self._best_is_new, False
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        content = {
            **states,
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "position": asdict(self.position),
            "last_row": self.last_row,
            "loggers": self.loggers.state(),
            "precision": precision_of(self.accelerator),
            **describe_config(self.config),
            **self._data_description,
            "protocol": self.validation.protocol.to_dict(),
            "versions": describe_environment()["packages"],
        }
        keep = self.config.trainer.keep_checkpoints
        self.folder.checkpoints.save(content, self.position.step, is_best=is_best, keep=keep)
        self.loggers.on_checkpoint(self.folder.checkpoints.last)

    def _save_models(self, row: Mapping[str, Any], is_best: bool) -> None:
        self._save_model(self.folder.model, "last", row)
        if self.network.average is not None:
            self._save_model(self.folder.model_ema, "ema", row)
        if is_best:
            self._save_model(self.folder.model_best, self.monitor.weights, row)

    def _save_model(self, path: Path, which: str, row: Mapping[str, Any]) -> None:
        network = self.network.for_evaluation(which)
        if not self.accelerator.is_main_process:
            return
        prefix = "" if which == "last" else f"{which}_"
        save_model(
            network,
            path,
            metadata=self.data.metadata,
            preprocessing=self.data.preprocessing,
            metrics={name: row[prefix + name] for name in (*SCORES, "iou_per_class")},
            protocol=self.validation.protocol,
        )

    # ---- resume ------------------------------------------------------------------------------------------------------

    def _checkpoint_to_resume(self, resume: bool | str | Path) -> Path | None:
        """Returns the checkpoint to go on from; None where the run was killed before its first one."""
        if not isinstance(resume, bool):
            if not Path(resume).is_file():
                raise UsageError(f"there is no checkpoint {resume}; name a file of {self.folder.checkpoints.folder}")
            return Path(resume)
        last = self.folder.checkpoints.last
        if last.is_file():
            return last
        if not self.folder.config.is_file():
            raise UsageError(
                f"nothing to resume: {self.folder.path} holds no checkpoints/last.pt; start a new run without --resume"
            )
        return None

    def _read_checkpoint(self, path: Path) -> dict[str, Any]:
        try:
            content = load_checkpoint(path)
        except CorruptFileError as error:
            before = self.folder.checkpoints.sound_before(path)
            advice = "no other checkpoint is sound: start a new run"
            if before is not None:
                advice = f"{before} is sound; go on from there with: seg train --resume {before}"
            raise CorruptFileError(f"{error}; {advice}") from error
        check_settings(stored_config(content), self.config, self.folder.path)
        return content

    @functools.cached_property
    def _data_description(self) -> dict[str, Any]:
        return describe_data(self.data.train_set)

    def _check_data(self) -> bool:
        """Compares the data with that of the checkpoint; returns whether validation padded images then."""
        if self._resumed is None:
            return False
        name, path = self.config.data.dataset.name, self.folder.path
        check_data(self._resumed, self._data_description, name, path)
        former = stored_config(self._resumed).val_transform
        return former is not None and check_val_transform(former, self.data.val_set, path, self.progress)

    def _restore_learning(self, content: Mapping[str, Any]) -> None:
        """Loads weights, optimizer and learning-rate scheduler; the latter over the length that the run has now."""
        position, num_samples = self.position, len(self.data.train_set)
        steps_per_epoch = num_samples // self.config.data.loader.batch_size
        former = length_of(stored_config(content), self.config, num_samples)
        said = adapt_position(
            position, former, self.length, steps_per_epoch, extend=self._extend, folder=self.folder.path
        )
        replayed = None
        if said is not None and self.scheduler is not None and former != self.length:
            replayed = replay_scheduler(self.scheduler, content["scheduler"]["steps"], position.epoch, steps_per_epoch)
        self.network.load_state(content)
        rate = self._rate()
        if self.scheduler is not None:
            if replayed is None:
                self.scheduler.load_state_dict(content["scheduler"])
            else:
                set_groups(self.scheduler, replayed)
        if said is not None:
            self.progress.message(said)
            self.progress.message(
                describe_rates(self.scheduler, self.config, self.length, position.step, rate, self._rate())
            )

    def _restart_scores(self, content: Mapping[str, Any], padded: bool) -> None:
        """Forgets the best score where scores were measured in another way before."""
        if self.position.finished:
            return
        protocol = self.validation.protocol.to_dict()
        reason = why_scores_differ(content, stored_config(content), padded, self.monitor.name, protocol)
        if reason is not None:
            self.position.best, self.position.stale = None, 0
            self.progress.message(f"the best score starts anew, the next evaluation sets it: {reason}")
        if restart_plateau(self.scheduler, content, reason is not None):
            self.progress.message("ReduceLROnPlateau forgets its best score too; the learning rate stays")

    def _restore(self, content: Mapping[str, Any], padded: bool) -> None:
        """Puts everything where the checkpoint was written; the random state last, since building draws from it."""
        self.position = Position(**content["position"])
        self._restore_learning(content)
        if self.accelerator.scaler is not None and content["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        self.last_row = content["last_row"]
        self._running.load_state(content["running"])
        self._window.load_state(content["window"])
        self.loggers.load_state(content["loggers"], self.position.step)
        self._restart_scores(content, padded)
        states, rank = content["random"], self.accelerator.process_index
        if len(states) == self.accelerator.num_processes:
            set_random_state(states[rank])
        else:
            self.progress.warn(
                f"the run was on {len(states)} processes and is on {self.accelerator.num_processes} now: dropout draws "
                "other numbers than it would have"
            )

    def _check_val_loss(self) -> None:
        """Raises ConfigError if the val_loss is needed and evaluations have none: better now than after an epoch."""
        needed = []
        if self.monitor.name.endswith("val_loss"):
            needed.append(f'evaluation.monitor = "{self.monitor.name}"')
        if self.scheduler is not None and self.scheduler.watched_score == "loss":
            needed.append('lr_scheduler.params.monitor = "loss"')
        if needed and not self.validation.measures_loss(self.network.network):
            reason = f"the way of predicting {self.validation.way.options.predictor!r} gives labels and no logits"
            if not self.config.evaluation.loss:
                reason = "evaluation.loss = false"
            raise ConfigError(
                f"{' and '.join(needed)} needs the val_loss, which is not computed ({reason}); watch a score such as "
                "miou, or let evaluations compute the loss"
            )

    # ---- small things ------------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return time.perf_counter() - self._clock

    def _rate(self) -> float:
        return float(self.parts.optimizer.param_groups[0]["lr"])

    def _rates(self) -> dict[str, float]:
        return {
            "lr": self._rate(),
            "images_per_second": self._window.images_per_second(),
            "data_wait": self._window.data_wait(),
            "memory_mib": memory_mib(self.accelerator.device),
            "seconds": self._seconds(),
        }

    def _result(self) -> RunResult:
        return RunResult(self.folder.path, self.data.metadata, self.last_row)


def _watchable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores of an evaluation as schedulers know them."""
    loss = row.get("val_loss")
    return {**row, "loss": math.nan if loss is None else loss}
