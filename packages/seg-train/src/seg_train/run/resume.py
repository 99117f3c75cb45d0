"""Resuming a run: which checkpoint, whether it fits the config and the data, and restoring the state from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from seg_core.errors import CorruptFileError, UsageError, reading_file
from seg_core.interfaces import SegmentationDataset
from seg_core.progress import Progress
from seg_core.text import short
from seg_train.config.migrate import Migrated, migrate, unflatten
from seg_train.config.schema import TrainConfig
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.warmup import Scheduler
from seg_train.run.checkpoint import load_checkpoint, set_random_state
from seg_train.run.data import RunData, RunLength, steps_per_epoch
from seg_train.run.folder import RunFolder
from seg_train.run.new_length import adapt_position, describe_rates, length_of, replay_scheduler, set_groups
from seg_train.run.normalization import Normalization, restored_normalization
from seg_train.run.rehearsal import rehearse_optimizer, rehearse_scheduler
from seg_train.run.resume_checks import check_data, check_settings, check_val_transform, why_scores_differ
from seg_train.run.state import Position, RunState
from seg_train.run.together import agree, together

__all__ = ["ResumedCheckpoint", "open_checkpoint"]

_PRECISIONS = ("fp32", "bf16", "fp16")
_ADVICE = "resume from another checkpoint of the run: seg train --resume FILE"


@dataclass
class ResumedCheckpoint:
    """The checkpoint that a run is resumed from.

    Attributes:
        path: its file.
        content: its content.
        stored: the config in it, in today's keys.
        folder: run folder.
        val_was_padded: whether validation padded images then; set by `check_data`.
    """

    path: Path
    content: Mapping[str, Any]
    stored: Migrated
    folder: Path
    val_was_padded: bool = False

    @property
    def precision(self) -> str:
        """The precision of the run: `"fp32"`, `"bf16"` or `"fp16"`."""
        with reading_file(self.path, _ADVICE):
            found = self.content["precision"]
            if found not in _PRECISIONS:
                raise ValueError(f"precision = {short(found)}: must be one of {', '.join(_PRECISIONS)}")
        return str(found)

    def position(self) -> Position:
        """Returns the position of the run at the checkpoint."""
        with reading_file(self.path, _ADVICE):
            return Position.restored(self.content["position"])

    def normalization(self, config: TrainConfig, train_set: SegmentationDataset, progress: Progress) -> Normalization:
        """Returns the normalization that the run started with.

        Args:
            config: config of the run now.
            train_set: dataset to train on.
            progress: warns if the dataset gives other numbers now.

        Raises:
            ConfigError: if the channels of the dataset have changed.
        """
        stored, dataset = self.content.get("normalization"), config.data.dataset.name
        with reading_file(self.path, _ADVICE):
            return restored_normalization(stored, train_set.metadata.channels, dataset, self.folder, progress)

    def check_data(self, config: TrainConfig, data: RunData, found: Mapping[str, Any], progress: Progress) -> None:
        """Checks that the run has the same data as before.

        Args:
            config: config of the run now.
            data: data of the run now.
            found: description of the data by `describe_data`.
            progress: shows slow checks.

        Raises:
            ConfigError: if the data differs, or the former validation cropped an image.
        """
        with reading_file(self.path, _ADVICE):
            check_data(self.content, found, config.data.dataset.name, self.folder)
        former = self.stored.val_transform
        if former is not None:
            self.val_was_padded = check_val_transform(former, data.val_set, self.folder, progress)

    def restore(
        self,
        state: RunState,
        config: TrainConfig,
        length: RunLength,
        num_images: int,
        *,
        extend: bool,
        progress: Progress,
    ) -> None:
        """Restores weights, optimizer, learning-rate scheduler, meters and loggers, for the length the run has now.

        Args:
            state: state of the run, just built, with the position of the checkpoint.
            config: config of the run now.
            length: its length now.
            num_images: number of training images.
            extend: whether a run that was stopped early continues, even at the same length.
            progress: shows what changes.

        Raises:
            ConfigError: if the run is longer than `length` already.
        """
        epoch = steps_per_epoch(config, num_images)
        former = length_of(self.stored, config, num_images)
        change = adapt_position(state.position, former, length, epoch, extend=extend, folder=self.folder)
        replayed = None
        if change is not None and state.scheduler is not None and former != length:
            with reading_file(self.path, _ADVICE):
                steps = int(self.content["scheduler"]["steps"])
            replayed = replay_scheduler(state.scheduler, steps, state.position.epoch, epoch)
        with reading_file(self.path, _ADVICE):
            state.network.load_state(self.content)
            if not state.network.sharded:
                rehearse_optimizer(state.network.optimizer)
            rate = state.learning_rate()
        if state.scheduler is not None:
            if replayed is None:
                with reading_file(self.path, _ADVICE):
                    state.scheduler.load_state_dict(self.content["scheduler"])
                    rehearse_scheduler(state.scheduler, self.content["scheduler"])
            else:
                set_groups(state.scheduler, replayed)
        if change is not None:
            progress.message(change)
            progress.message(
                describe_rates(state.scheduler, config, length, state.position.step, rate, state.learning_rate())
            )
        with reading_file(self.path, _ADVICE):
            state.restore_meters(self.content)

    def compare_scores(self, state: RunState, monitor: str, protocol: Mapping[str, Any], progress: Progress) -> None:
        """Resets the best score if scores are no longer measured as they were before the checkpoint.

        Args:
            state: restored state of the run.
            monitor: score that selects the best weights.
            protocol: of evaluations now, as a dict.
            progress: shows what is reset, and why.
        """
        if state.position.finished:
            return
        with reading_file(self.path, _ADVICE):
            reason = why_scores_differ(self.content, self.stored, self.val_was_padded, monitor, protocol)
        if reason is not None:
            state.position.reset_best()
            progress.message(f"the best score is reset, the next evaluation sets it: {reason}")
        if _restart_plateau(state.scheduler, self.content, reason is not None):
            progress.message("ReduceLROnPlateau resets its best score too; the learning rate stays")

    def restore_random_state(self, accelerator: Accelerator, progress: Progress) -> None:
        """Restores the random state of this process; warns if the number of processes has changed."""
        with reading_file(self.path, _ADVICE):
            states = self.content["random"]
            count = len(states)
            if count == accelerator.num_processes:
                set_random_state(states[accelerator.process_index])
        if count != accelerator.num_processes:
            progress.warn(
                f"the run had {count} processes and has {accelerator.num_processes} now: dropout uses other "
                "random numbers"
            )


def open_checkpoint(folder: RunFolder, resume: bool | str | Path, config: TrainConfig) -> ResumedCheckpoint | None:
    """Returns the checkpoint to resume from, or None if the run was killed before it wrote one.

    Args:
        folder: run folder.
        resume: True for the last checkpoint, or the path of one.
        config: config of the run now.

    Raises:
        UsageError: if there is nothing to resume.
        CorruptFileError: if the checkpoint is damaged; the message names an intact one.
        ConfigError: if the run was started with other settings.
        ProcessDiedError: if another process of the run cannot open it.
    """
    with together():
        opened = _open(folder, resume, config)
    # a machine without the folder, or with an old copy of it, would train other weights, or wait for the others
    found = "none"
    if opened is not None:
        position = opened.position()
        found = f"step {position.step} after {position.seconds:.3f} s of training"
    agree(
        found,
        f"the processes of this run see different checkpoints of {folder.path}; put the run folder on a file system "
        "that all machines share, or copy that of process 0 to the same path on each machine",
    )
    return opened


def _open(folder: RunFolder, resume: bool | str | Path, config: TrainConfig) -> ResumedCheckpoint | None:
    path = folder.checkpoints.last if isinstance(resume, bool) else Path(resume)
    if not path.is_file():
        if not isinstance(resume, bool):
            if (path / "config.toml").is_file():
                raise UsageError(
                    f"resume = {str(resume)!r} is a run folder, no checkpoint; pass it as run_dir={str(resume)!r}, "
                    "with resume=True"
                )
            raise UsageError(f"there is no checkpoint {resume}; name a file of {folder.checkpoints.folder}")
        # a run that is killed at its start has the checkpoint of step 0 alone; later ones are never without the last
        newest = folder.checkpoints.newest_intact(other_than=path)
        if newest is not None and newest.name != "step_00000000.pt":
            raise UsageError(
                f"{path} is missing, but the run has other checkpoints; resume from the newest: seg train --resume "
                f"{newest}"
            )
        if folder.config.is_file():
            return None
        raise UsageError(
            f"nothing to resume: {folder.path} contains no checkpoints/last.pt; start a new run without --resume"
        )
    try:
        content = load_checkpoint(path)
    except CorruptFileError as error:
        before = folder.checkpoints.newest_intact(other_than=path)
        advice = "no other checkpoint is intact: start a new run"
        if before is not None:
            advice = f"{before} is intact; resume from it with: seg train --resume {before}"
        raise CorruptFileError(f"{error}; {advice}") from error
    with reading_file(path, _ADVICE):
        stored = migrate(unflatten(content["config"]), content.get("config_format", 1))
        check_settings(stored, config, folder.path)
    return ResumedCheckpoint(path, content, stored, folder.path)


def _restart_plateau(scheduler: Scheduler | None, content: Mapping[str, Any], differ: bool) -> bool:
    """Resets the best score of a scheduler that watches one; returns whether it did.

    Args:
        scheduler: learning-rate scheduler of the run.
        content: content of the checkpoint.
        differ: whether scores are not comparable with those before; val_loss of former versions never is.
    """
    plateau = None if scheduler is None else scheduler.scheduler
    if not isinstance(plateau, ReduceLROnPlateau):
        return False
    if not differ and (content["format_version"] >= 3 or plateau.monitor != "loss"):
        return False
    plateau.best = math.inf if plateau.mode == "min" else -math.inf
    plateau.num_bad_epochs = 0
    return True
