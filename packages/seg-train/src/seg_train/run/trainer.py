"""The training run: build, train, evaluate, save. The file to read first.

`Trainer(config).run()` does what `seg train` does, and `run` is the whole training loop. `build.py` turns the config
into objects, `step.py` is one training step, `evaluate.py` an evaluation, `checkpoint.py` and `state.py` hold what a
checkpoint saves, `resume.py` restores it, and `folder.py` has the files of a run.
"""

import contextlib
import functools
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn

from seg_core.errors import InvalidTypeError
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.metadata import DatasetMetadata
from seg_core.progress import Progress, StepState
from seg_train.config.schema import TrainConfig
from seg_train.config.task import with_loss_of_task
from seg_train.data.batches import Batch
from seg_train.data.subsets import described
from seg_train.loggers.base import Moment
from seg_train.loggers.group import LoggerGroup
from seg_train.monitor import Monitor
from seg_train.run.best import BestScore, BestWeights
from seg_train.run.build import build_accelerator, build_loggers, build_parts, precision_of
from seg_train.run.class_balance import ClassBalance
from seg_train.run.data import build_data, open_data
from seg_train.run.determinism import deterministic
from seg_train.run.evaluate import Outcome, Validation, check_val_loss
from seg_train.run.failures import explain_failures
from seg_train.run.folder import RunFolder, describe_environment, find_run, new_run_path
from seg_train.run.guards import RunGuards, on_any_process
from seg_train.run.interruption import Interruption, RunInterruptedError
from seg_train.run.mask_check import MaskCheck
from seg_train.run.meters import RunningScores, StepWindow, memory_mib
from seg_train.run.model_files import restore_models, save_models
from seg_train.run.normalization import find_normalization
from seg_train.run.objects import RunObjects, how_to_resume
from seg_train.run.plan import RunPlan
from seg_train.run.preview import preview_of
from seg_train.run.resume import open_checkpoint
from seg_train.run.resume_checks import describe_config, describe_data
from seg_train.run.rows import describe_row, epoch_row, watchable_scores
from seg_train.run.start import RunFacts, show_start
from seg_train.run.state import Position, RunState
from seg_train.run.step import StepResult, train_step
from seg_train.run.together import together

__all__ = ["RunResult", "Trainer"]


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes:
        run_dir: run folder.
        metadata: names and colors of the classes.
        scores: row of the last evaluation: scores of the last weights on val, and with the prefix `ema_` of their EMA.
        best: the best weights, which `model_best.pt` holds; None if the monitored score was never defined.
    """

    run_dir: Path
    metadata: DatasetMetadata
    scores: Mapping[str, Any]
    best: BestWeights | None = None


class Trainer:
    """Builds a run from its config, and trains.

    Nothing is written before `run`.

    Args:
        config: config of the run.
        run_dir: run folder; None uses the config's `[paths]`.
        resume: continue the run in that folder, from its last checkpoint or from the checkpoint with this path. A run
            that was killed before its first checkpoint starts from the beginning. `trainer.epochs` or `trainer.steps`
            may be a new total; everything else that influences learning must be the same.
        extend: with `resume`, also continue a run that was stopped early (`evaluation.patience`) if its total is the
            same as before.
        progress: shows the progress; None shows warnings only.
        model: the network, in place of the one that the config names. It is trained in place and keeps its initial
            weights; it takes float images (N, C, H, W) and returns logits (N, K, H, W), or a dict with them as `"out"`.
        train_set: dataset to train on, in place of the config's: samples are an image (C, H, W), by default uint8 RGB,
            and a mask (H, W) of class ids, and it has `metadata` and `file_names(index)`, see
            `seg_core.interfaces.SegmentationDataset`.
        val_set: dataset to evaluate on; given together with `train_set`.

    Raises:
        ConfigError: if the folder of a new run is not empty, or a resumed run was started with other settings or data.
        RunLockedError: if another process uses the folder.
        UsageError: if there is nothing to resume, or only one dataset is given.
        CorruptFileError: if the checkpoint is damaged.
        InvalidTypeError: if `config` is no `TrainConfig`.
        UserError: if dataset or network cannot be built.
    """

    @together()
    def __init__(
        self,
        config: TrainConfig,
        run_dir: str | Path | None = None,
        *,
        resume: bool | str | Path = False,
        extend: bool = False,
        progress: Progress | None = None,
        model: nn.Module | None = None,
        train_set: SegmentationDataset | None = None,
        val_set: SegmentationDataset | None = None,
    ) -> None:
        if not isinstance(config, TrainConfig):
            given = repr(config) if isinstance(config, str | Path) else "tables"
            raise InvalidTypeError(
                f"config must be a TrainConfig, got {type(config).__name__}; write Trainer(load_config({given}))"
            )
        self.progress = progress or Progress()
        objects = RunObjects(model, *(None if own is None else described(own) for own in (train_set, val_set)))
        self.config = config = objects.settle(config, self.progress.message)
        find = find_run if resume else new_run_path
        self.folder = RunFolder(run_dir or find(config, objects.stem(config)))
        self._checkpoint = checkpoint = open_checkpoint(self.folder, resume, config) if resume else None
        self._is_resumed = bool(resume)
        self.accelerator = build_accelerator(config, None if checkpoint is None else checkpoint.precision)
        if not resume:
            self._agree_on_new_folder()
        elif self.accelerator.is_main_process:
            self.folder.check_unused()
        splits = open_data(config, self.accelerator, objects)
        self.config = config = with_loss_of_task(config, splits.train_set.metadata)
        if checkpoint is None:
            network = objects.network()
            normalization = find_normalization(config, network, splits.train_set, self.accelerator, self.progress)
        else:
            normalization = checkpoint.normalization(config, splits.train_set, self.progress)
        self.data = build_data(config, self.accelerator, splits, normalization)
        if checkpoint is not None:
            checkpoint.check_data(config, self.data, self._data_description, self.progress)
        masks = MaskCheck(config, self.accelerator, self.progress)
        scan = masks.check(self.data.train_set, self.data.val_set, resumed=checkpoint is not None)
        self.balance = ClassBalance.of(
            config,
            self.data.train_set,
            self.folder,
            lambda: scan if scan is not None and scan.is_complete else masks.scan_all(self.data.train_set),
            resumed=checkpoint is not None,
        )
        if scan is not None and self.balance.weights is not None:
            masks.check_weights(scan, self.balance.weights, self.data.metadata.labels)
        self.plan = RunPlan(config, len(self.data.train_set), self.balance.sampling, self.accelerator)
        self.parts, self.network, self.scheduler = build_parts(
            config,
            self.data,
            self.plan.length,
            self.balance.weights,
            self.accelerator,
            warn=self.progress.warn if checkpoint is None else None,
            model=objects.network(),
        )
        metadata, has_ema = self.data.metadata, config.trainer.ema_decay is not None
        self.monitor = Monitor.of(config.evaluation.monitor, has_ema, metadata.labels, metadata.task)
        self.validation = Validation(config, self.data, self.parts.criterion.criterion, self.accelerator)
        check_val_loss(config, self.monitor, self.scheduler, self.validation, self.network.network)
        self.loggers = LoggerGroup(
            functools.partial(build_loggers, config, self.folder.path) if self.accelerator.is_main_process else {},
            self.progress.warn,
        )
        self.state = RunState(
            accelerator=self.accelerator,
            network=self.network,
            scheduler=self.scheduler,
            running=RunningScores(metadata.num_classes, metadata.ignore_index, self.accelerator, metadata.task),
            window=StepWindow(self.accelerator),
            loggers=self.loggers,
            position=Position() if checkpoint is None else checkpoint.position(),
        )
        self._guards = RunGuards(config, self.folder.path, self.data.train_set, self.network.network, self.accelerator)
        self._best = BestScore(self.monitor, config.evaluation, metadata.labels, self.progress)
        self._best_is_new = False
        if checkpoint is not None:
            images = len(self.data.train_set)
            checkpoint.restore(self.state, config, self.plan.length, images, extend=extend, progress=self.progress)
            protocol = self.validation.protocol.to_dict()
            checkpoint.compare_scores(self.state, self.monitor.name, protocol, self.progress)
            checkpoint.restore_random_state(self.accelerator, self.progress)  # last: building draws random numbers

    @property
    def position(self) -> Position:
        """The progress of the run."""
        return self.state.position

    def run(self) -> RunResult:
        """Trains to the end and returns the scores of the last evaluation.

        Raises:
            RunInterruptedError: after Ctrl-C or SIGTERM, once a checkpoint is written; the message says how to resume.
            NonFiniteLossError: if the loss becomes infinite or NaN; the run folder lists the files of the batch.
            NonFiniteWeightsError: if a weight does; it is not written.
            NotEnoughMemoryError: if the device is out of memory; the message says what to lower.
            ProcessDiedError: if a worker process, or another process of the run, died.
            RunLockedError: if another process uses the folder.
            UserError: if data or files cannot be read or written.
        """
        position = self.position
        if position.finished:
            self.progress.message(f"the run in {self.folder.path} is finished; there is nothing left to do")
            restore_models(self.folder, self.state, self.data, self.validation.protocol, self.progress)
            return self._result()
        with self._started():
            while not position.finished:
                # train until the next evaluation or the end of the epoch
                with contextlib.closing(self._batches()) as batches:
                    for batch in batches:
                        if position.step == 0 and self.loggers.loggers:
                            self.loggers.on_first_batch(preview_of(self.parts, batch, self.data.train_set))
                        result = train_step(self.parts, batch)
                        position.step += 1
                        position.batches += 1
                        # accelerate skips the optimizer step if half precision overflowed, and the scheduler must
                        # not get ahead of the optimizer
                        if self.scheduler is not None and not self.accelerator.optimizer_step_was_skipped:
                            self.scheduler.step()
                        self.network.after_step()  # EMA
                        self._log_step(result, batch)
                        if self._checkpoint_is_due():
                            self.save()
                        self._stop_if_requested()
                if self.plan.evaluation_is_due(position):
                    self._evaluate()
                if self.plan.epoch_is_over(self.position):
                    self._end_epoch()
                if position.finished:
                    # before the last checkpoint: a run that is killed here is not finished yet, and does this again
                    self.loggers.on_end(self.state.last_row)
                self.save()
        self.network.release()  # not before: an interrupted trainer may go on
        return self._result()

    # ---- start -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _started(self) -> Iterator[None]:
        """Claims and prepares the run folder, starts loggers and progress, and always closes them at the end."""
        with contextlib.ExitStack() as stack:
            with together():
                if self.accelerator.is_main_process:
                    stack.enter_context(self.folder.claim(new=not self._is_resumed))
                self.state.start_clock()
                self._prepare_folder()
            stack.callback(self.loggers.close)
            stack.callback(self.progress.close)
            # before the first checkpoint: a signal after it must find the run listening
            self._interruption = stack.enter_context(Interruption())
            if self._checkpoint is None:
                # From here on the run can be resumed, and a folder that cannot be written fails now, not in an hour.
                self.save()
            self.progress.start(self.plan.length.steps, self.position.step)
            stack.enter_context(deterministic(self.config.trainer.deterministic, self.progress.warn))
            stack.enter_context(explain_failures(self.config, "training"))
            yield

    def _agree_on_new_folder(self) -> None:
        """Checks that the folder is free; all processes use the main one's, since its name may contain the time."""
        if self.accelerator.num_processes > 1:
            self.folder = RunFolder(broadcast_object_list([str(self.folder.path)])[0])
        if self.accelerator.is_main_process:
            self.folder.check_free()

    def _prepare_folder(self) -> None:
        config = self.config
        facts = RunFacts.of(config, self.data, self.network, self.plan, self.accelerator)
        environment = {**describe_environment(), "run": facts.to_dict()}
        if self.accelerator.is_main_process:
            self.loggers.open()  # before the folder has a config: if one cannot be built, the folder is still free
            show_start(facts, config, self.folder.path, self.progress)
            if self._checkpoint is None:
                self.folder.create(config, environment)
                self.balance.save(self.folder, config.criterion.class_weights, self.data.metadata.labels)
            else:
                self.folder.checkpoints.continue_from(self._checkpoint.path, self.position.step)
                self.folder.update_config(config)
                self.folder.add_environment(environment, self.position.step)
            self.loggers.on_start(config.to_dict(), environment, self.data.metadata)
        if self._checkpoint is None and self._is_resumed:
            self.progress.message(f"the run in {self.folder.path} has no checkpoint yet and starts over")

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _batches(self) -> Generator[Batch, None, None]:
        """Yields the batches up to the next evaluation or the end of the epoch, and measures speed meanwhile."""
        position = self.position
        left = self.plan.batches(position.epoch)[position.batches :][: self.plan.steps_to_evaluation(position)]
        self.state.window.start_clock()
        batches = self.data.train_loader.read(left, position.epoch)
        try:
            with contextlib.closing(self.state.window.waiting(batches)) as waited_for:
                yield from waited_for
        except RuntimeError:  # a scheduler that ends a job may kill the workers first; what was trained is saved
            if self._interruption.requested and self.accelerator.num_processes == 1:
                self._stop()
            raise
        self.state.window.stop_clock()

    def _log_step(self, result: StepResult, batch: Batch) -> None:
        """Adds a step to the meters, and shows or logs them if due; only then it synchronizes with the device."""
        position, window = self.position, self.state.window
        self._guards.add(result.loss, position.step, batch)
        self.state.running.add(result)
        window.add(result.loss, len(result.masks) * self.accelerator.num_processes)
        if self.progress.due():
            summary = self.state.running.summarize()
            self.progress.step(
                StepState(
                    step=position.step,
                    epoch=position.epoch + 1,
                    epochs=self.plan.length.epochs,
                    loss=summary["loss"],
                    miou=summary["miou"],
                    images_per_second=window.images_per_second(),
                    data_wait=window.data_wait(),
                    memory_mib=memory_mib(self.accelerator.device),
                )
            )
        if position.step % self.config.trainer.log_every_steps == 0:
            self._guards.check_losses()
            row = {"epoch": position.epoch + 1, "step": position.step, "loss": window.mean_loss()}
            self.loggers.on_step(row | self.state.measurements())
            window.reset()

    def _stop_if_requested(self) -> None:
        # Several processes get a signal at different steps; they agree at the steps where they communicate anyway.
        requested = self._interruption.requested
        if self.accelerator.num_processes > 1:
            requested = self.position.step % self.config.trainer.log_every_steps == 0 and on_any_process(
                self.accelerator, requested
            )
        if requested:
            self._stop()

    def _stop(self) -> None:
        self.save()
        position = self.position
        raise RunInterruptedError(
            f"stopped after step {position.step} of {self.plan.length.steps} (epoch {position.epoch + 1}); resume "
            f"with: {how_to_resume(self.config, self.folder.path)}"
        )

    # ---- evaluations and ends of epochs ------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Evaluates the last weights and their EMA on val, logs the scores, and saves the model files."""
        self._guards.check_losses()
        self._guards.check_weights(self.position.step, self.folder.checkpoints.last)
        with explain_failures(self.config, "evaluation"):
            outcomes = {"last": self._evaluate_weights("last")}
            if self.network.average is not None:
                outcomes["ema"] = self._evaluate_weights("ema")
        row = self._log_epoch(outcomes)
        for which, outcome in outcomes.items():
            moment = Moment(row["epoch"], row["step"], which, self.plan.epoch_is_over(self.position))
            if outcome.matrix.ndim == 2:  # of one class per pixel
                self.loggers.on_confusion_matrix(moment, outcome.matrix)
            if outcome.snapshots:
                self.loggers.on_snapshots(moment, outcome.snapshots)
        self.state.last_row = row
        self.position.evaluated = self.position.step
        best = self._best.update(self.position, row, outcomes["last"].matrix)
        self._best_is_new |= best is not None
        save_models(self.folder, self.state, self.data, self.validation.protocol, row, best)

    def _evaluate_weights(self, which: str) -> Outcome:
        what = "evaluating" if which == "last" else "evaluating EMA"
        network = self.network.for_evaluation(which)

        def on_progress(done: int, total: int) -> None:
            # a resumed run repeats the evaluation
            if self._interruption.requested and self.accelerator.num_processes == 1:
                self._stop()
            self.progress.part(what, done, total)

        return self.validation(network, on_progress)

    def _log_epoch(self, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        """Logs and shows the training since the last row, and evaluations if there were any; returns the row."""
        running = self.state.running
        row = epoch_row(self.position, running.summarize_all(), outcomes, self.data.metadata)
        row |= self.state.measurements()
        self.progress.message(
            describe_row(
                *(row, self.plan.length.epochs, self.monitor),
                within_epoch=not self.plan.epoch_is_over(self.position),
            )
        )
        self.loggers.on_epoch(row)
        running.reset()
        return row

    def _end_epoch(self) -> None:
        position, last = self.position, self.state.last_row
        if position.evaluated != position.step:
            self._guards.check_losses()
            self._log_epoch({})
        if self.scheduler is not None:
            has_scores = last.get("epoch") == position.epoch + 1
            self.scheduler.end_epoch(watchable_scores(last) if has_scores else None)
        position.epoch += 1
        position.batches = 0
        position.finished |= position.step >= self.plan.length.steps

    # ---- save --------------------------------------------------------------------------------------------------------

    def _checkpoint_is_due(self) -> bool:
        every = self.config.trainer.checkpoint_every_steps
        return every is not None and self.position.step % every == 0

    def save(self) -> None:
        """Writes a checkpoint; every process must call it."""
        self._guards.check_losses()
        self._guards.check_weights(self.position.step, self.folder.checkpoints.last)
        state = self.state.collect()
        is_best, self._best_is_new = self._best_is_new, False
        if not self.accelerator.is_main_process:
            return
        content = {
            **state,
            "precision": precision_of(self.accelerator),
            **describe_config(self.config),
            **self._data_description,
            "protocol": self.validation.protocol.to_dict(),
            "versions": describe_environment()["packages"],
        }
        keep = self.config.trainer.keep_checkpoints
        self.folder.checkpoints.save(content, self.position.step, is_best=is_best, keep=keep)
        self.folder.keep()
        self.loggers.on_checkpoint(self.folder.checkpoints.last)

    @functools.cached_property
    def _data_description(self) -> dict[str, Any]:
        return describe_data(self.data)

    def _result(self) -> RunResult:
        return RunResult(self.folder.path, self.data.metadata, self.state.last_row, self._best.of(self.position))
