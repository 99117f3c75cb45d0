"""What a resumed run is compared with: the config, the data and the length that its checkpoint was written with."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import lr_scheduler

from seg_core.errors import ConfigError
from seg_core.interfaces import SegmentationDataset
from seg_core.metrics.protocol import digest_of_dataset
from seg_core.progress import Progress
from seg_train.config.migrate import CONFIG_FORMAT, FormerValTransform, Migrated, migrate, unflatten
from seg_train.config.schema import WITHOUT_INFLUENCE, TrainConfig, default_of, flatten, has_influence, has_section
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.schedulers import LENGTH_ARGUMENTS
from seg_train.optim.warmup import Scheduler
from seg_train.run.build import RunLength

__all__ = [
    "Position",
    "adapt_position",
    "check_data",
    "check_settings",
    "check_val_transform",
    "describe_config",
    "describe_data",
    "describe_rates",
    "length_of",
    "replay_scheduler",
    "restart_plateau",
    "set_groups",
    "stored_config",
    "why_scores_differ",
]

# The total of a run may change on the way: `seg train --resume RUN --epochs N`.
_LENGTH = ("trainer.epochs", "trainer.steps")


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        step: optimizer steps made.
        epoch: epochs finished.
        batches: batches used of the running epoch.
        evaluated: step of the last evaluation, or None.
        seconds: time the run has taken, over all its processes' lives.
        best: best value of the monitored score so far, or None.
        stale: evaluations since then.
        finished: whether the run is at its end.
    """

    step: int = 0
    epoch: int = 0
    batches: int = 0
    evaluated: int | None = None
    seconds: float = 0.0
    best: float | None = None
    stale: int = 0
    finished: bool = False


def describe_config(config: TrainConfig) -> dict[str, Any]:
    """Returns what a checkpoint holds of the config that it is written with."""
    return {"config": config.influences(), "config_format": CONFIG_FORMAT}


def describe_data(train_set: SegmentationDataset) -> dict[str, Any]:
    """Returns what a checkpoint holds of the data that is learnt from."""
    return {
        "train_files": {"count": len(train_set), "digest": digest_of_dataset(train_set)},
        "labels": list(train_set.metadata.labels),
    }


def stored_config(content: Mapping[str, Any]) -> Migrated:
    """Returns the config that a checkpoint was written with, in today's keys."""
    return migrate(unflatten(content["config"]), content.get("config_format", 1))


# ---- settings and data ---------------------------------------------------------------------------------------------


def check_settings(stored: Migrated, config: TrainConfig, folder: Path) -> None:
    """Compares what influences learning with the config that a checkpoint was written with, value by value.

    Raises:
        ConfigError: if a value is another one; the message lists them all.
    """
    there, here = flatten(stored.tables), config.influences()
    changed = []
    for key in sorted({*there, *here}):
        if not has_influence(key) or key in _LENGTH:
            continue
        former = there.get(key, default_of(key) if has_section(stored.tables, key) else None)
        if former != here.get(key):
            changed.append(f"{key} (there {_shown(former)}, here {_shown(here.get(key))})")
    if changed:
        these = "this change" if len(changed) == 1 else "these changes"
        raise ConfigError(
            f"the run in {folder} was started with other settings: {', '.join(changed)}; resume it without {these}, or "
            f"start a new run from its weights: seg train CONFIG --weights {folder}. What may change on resume: "
            f"trainer.epochs or trainer.steps, the new total, and {', '.join(WITHOUT_INFLUENCE)}"
        )


def check_data(content: Mapping[str, Any], found: Mapping[str, Any], dataset: str, folder: Path) -> None:
    """Compares training files and class names with those that a checkpoint was written with, where it has them.

    Args:
        content: of the checkpoint.
        found: what `describe_data` gives of the data as it is now.
        dataset: its name.
        folder: of the run.

    Raises:
        ConfigError: if they are others.
    """
    problems = []
    if "labels" in content and content["labels"] != found["labels"]:
        problems.append(_other_labels(content["labels"], found["labels"]))
    if "train_files" in content and content["train_files"] != found["train_files"]:
        there, here = content["train_files"], found["train_files"]
        if there["count"] != here["count"]:
            problems.append(f"it has learnt from {there['count']} images, and there are {here['count']} now")
        else:
            problems.append(
                f"it has learnt from {there['count']} images, and the {here['count']} there are now are other files "
                f"(digest {there['digest'][:12]} there, {here['digest'][:12]} here)"
            )
    if problems:
        raise ConfigError(
            f"the dataset {dataset} of the run in {folder} has changed: {'; '.join(problems)}. Resume the run with the "
            f"dataset as it was, or start a new run from its weights: seg train CONFIG --weights {folder}"
        )


def _other_labels(there: Sequence[str], here: Sequence[str]) -> str:
    text = f"it has {len(there)} classes there and {len(here)} here"
    for place, (former, now) in enumerate(zip(there, here, strict=False)):
        if former != now:
            return f"{text}, and class {place} is {former!r} there and {now!r} here"
    longer, where = (there, "there") if len(there) > len(here) else (here, "here")
    return f"{text}, and class {min(len(there), len(here))} is {longer[min(len(there), len(here))]!r} {where} only"


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value, default=str)


# ---- validation of former runs ---------------------------------------------------------------------------------------


def check_val_transform(
    former: FormerValTransform, val_set: SegmentationDataset, folder: Path, progress: Progress
) -> bool:
    """Looks at the size of every val image, and returns whether validation padded one of them.

    Raises:
        ConfigError: if validation cropped one: there is no such validation any more.
    """
    total, padded = len(val_set), False
    progress.message(
        f"looking at the size of {total} val images: the run has data.transform.val, which may have cropped them"
    )
    try:
        for index in range(total):
            height, width = val_set[index][0].shape[-2:]
            scaled = former.scaled(height, width)
            if former.size[0] < scaled[0] or former.size[1] < scaled[1]:
                name = next(iter(val_set.file_names(index)), f"number {index}")
                raise ConfigError(_cropped(former, scaled, name, folder))
            padded |= former.size != scaled
            progress.part("looking at sizes", index + 1, total)
    finally:
        progress.close()
    return padded


def _cropped(former: FormerValTransform, scaled: tuple[int, int], name: str, folder: Path) -> str:
    size = "x".join(map(str, former.size))
    resized = "" if former.scale == 1 else f" (resized by {former.scale:g})"
    resize = "" if former.scale == 1 else f"resize = {{ scale = {former.scale:g} }} and "
    return (
        f"the run in {folder} was validated on crops: data.transform.val.size was {size} pixels, and val image {name} "
        f"has {scaled[0]}x{scaled[1]}{resized}. Validation never crops now, so its scores would not compare with those "
        f"before. Start a new run from its weights: seg train CONFIG --weights {folder}, where CONFIG has no "
        f"data.transform.val but {resize}tile = {list(former.size)} in [evaluation], to predict in tiles of that size, "
        f"or {'that resize alone' if resize else 'nothing'}, to predict whole images. Its model files evaluate and "
        "predict as before"
    )


def why_scores_differ(
    content: Mapping[str, Any], stored: Migrated, padded: bool, monitor: str, protocol: Mapping[str, Any] | None
) -> str | None:
    """Returns why scores of the run's evaluations do not compare with those before its checkpoint; None where they do.

    Args:
        content: of the checkpoint.
        stored: the config that it was written with.
        padded: whether validation padded images then.
        monitor: score that says which weights are best.
        protocol: of evaluations now, as a dict.
    """
    if content["format_version"] < 3:
        if stored.val_transform is not None and stored.val_transform.scale != 1:
            return "masks were resized with the images in validation, now they are not"
        if padded:
            return "images were padded in validation, now they are not"
        if monitor.endswith("val_loss"):
            return "val_loss was the mean of the batches' means, now it is that of the whole split"
        return None
    former = content.get("protocol")
    if former is None or protocol is None:
        return None
    # the labels and the precision of a run do not change; a key that is new says nothing
    changed = [key for key in former if key in protocol and former[key] != protocol[key]]
    if not changed:
        return None
    shown = ", ".join(f"{key}: {_shown(former[key])}, now {_shown(protocol[key])}" for key in changed)
    return f"validation is another one ({shown})"


def restart_plateau(scheduler: Scheduler | None, content: Mapping[str, Any], differ: bool) -> bool:
    """Makes a scheduler that watches a score forget the best one and the epochs since; returns whether it did.

    Args:
        scheduler: the run's learning-rate scheduler.
        content: of the checkpoint.
        differ: whether scores do not compare with those before; val_loss does not with that of former versions.
    """
    plateau = None if scheduler is None else scheduler.scheduler
    if not isinstance(plateau, ReduceLROnPlateau):
        return False
    if not differ and (content["format_version"] >= 3 or plateau.monitor != "loss"):
        return False
    plateau.best = math.inf if plateau.mode == "min" else -math.inf
    plateau.num_bad_epochs = 0
    return True


# ---- another length --------------------------------------------------------------------------------------------------


def length_of(stored: Migrated, config: TrainConfig, num_samples: int) -> RunLength:
    """Returns the length that a run had when its checkpoint was written.

    Args:
        stored: the config that it was written with.
        config: of the run now, which differs in the length at most.
        num_samples: training samples.
    """
    table = stored.tables["trainer"]
    trainer = config.trainer.model_copy(update={"epochs": table.get("epochs"), "steps": table.get("steps")})
    return RunLength.of(config.model_copy(update={"trainer": trainer}), num_samples)


def adapt_position(
    position: Position, former: RunLength, now: RunLength, steps_per_epoch: int, *, extend: bool, folder: Path
) -> str | None:
    """Lets a run continue where it had ended, in place, and returns what to say of it; None where nothing changes.

    Args:
        position: as its checkpoint has it.
        former: length that the run had.
        now: length that it has.
        steps_per_epoch: of whole epochs.
        extend: whether a run that was stopped early continues, also where its length is the same.
        folder: of the run.

    Raises:
        ConfigError: if the run is longer already.
    """
    if now.steps < position.step:
        raise ConfigError(
            f"the run in {folder} has made {position.step} steps, and its new length is {_length_text(now)}, which "
            f"counts those that are made: give at least {position.step} steps, or leave the new length out"
        )
    stopped_early = position.finished and position.step < former.steps
    if former == now and not (stopped_early and extend):
        return None
    position.finished &= position.step == now.steps
    if position.finished:
        return None
    said = f"the run ends after {_length_text(now)} now, it was {_length_text(former)}"
    if stopped_early:
        position.stale = 0
        said = (
            f"the run was stopped early after step {position.step} and continues to {_length_text(now)}; evaluations "
        )
        said += "without a better score are counted anew (evaluation.patience)"
    if position.batches == 0 and position.step < position.epoch * steps_per_epoch:
        # the last epoch was cut short, and now it is not
        position.epoch -= 1
        position.batches = position.step - position.epoch * steps_per_epoch
    elif position.batches == 0 and position.step == now.steps:
        # the end of the run is that of the epoch before, which is over but for what ends a run
        if position.evaluated == position.step:
            position.finished = True
        else:
            position.epoch -= 1
            position.batches = steps_per_epoch
    return said


def replay_scheduler(
    scheduler: Scheduler, steps: int, epochs: int, steps_per_epoch: int
) -> list[dict[str, Any]] | None:
    """Advances a new learning-rate scheduler to where a run is, and returns the settings of each parameter group.

    A scheduler over another length is then where it would be, had the run been started with that length: most of
    torch's compute each learning rate from the one before.

    Args:
        scheduler: just built, over the new length.
        steps: counted by the scheduler of the checkpoint.
        epochs: finished.
        steps_per_epoch: of whole epochs.

    Returns:
        None where the scheduler watches a score: it has no length, and keeps its own state.

    Raises:
        ConfigError: if the scheduler ends before the run.
    """
    last = scheduler.scheduler
    if isinstance(last, ReduceLROnPlateau):
        return None
    if isinstance(last, lr_scheduler.OneCycleLR) and last.total_steps < scheduler.length:
        raise ConfigError(
            f"OneCycleLR ends after {last.total_steps} (lr_scheduler.params) and cannot be extended to "
            f"{scheduler.length:g}; that takes a run whose config leaves total_steps out"
        )
    with warnings.catch_warnings():
        # the steps of the optimizer were made by another process
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for _ in range(epochs):
            for _ in range(min(steps_per_epoch, steps)):
                scheduler.step()
            steps -= min(steps_per_epoch, steps)
            scheduler.end_epoch(None)
        for _ in range(steps):
            scheduler.step()
    return [
        {key: v.clone() if isinstance(v, Tensor) else v for key, v in group.items() if key != "params"}
        for group in scheduler.optimizer.param_groups
    ]


def set_groups(scheduler: Scheduler, groups: Sequence[Mapping[str, Any]]) -> None:
    """Puts what `replay_scheduler` gave over what the optimizer has loaded."""
    for group, values in zip(scheduler.optimizer.param_groups, groups, strict=True):
        for key, value in values.items():
            if isinstance(group.get(key), Tensor):  # a compiled or captured step holds that very tensor
                group[key].fill_(value) if not isinstance(value, Tensor) else group[key].copy_(value)
            else:
                group[key] = value


def describe_rates(
    scheduler: Scheduler | None, config: TrainConfig, now: RunLength, step: int, former_rate: float, rate: float
) -> str:
    """Returns what the learning rate does in a run whose length has changed, with figures.

    Args:
        scheduler: the run's learning-rate scheduler, over the new length.
        config: of the run.
        now: its length.
        step: steps made.
        former_rate: learning rate that the checkpoint has.
        rate: that of the next step.
    """
    if scheduler is None or config.lr_scheduler is None:
        return f"the learning rate stays {rate:.6g}: the run has no learning-rate scheduler"
    name = config.lr_scheduler.name
    if isinstance(scheduler.scheduler, ReduceLROnPlateau):
        return f"the learning rate stays {rate:.6g} until {name} lowers it; it keeps its own state"
    argument = LENGTH_ARGUMENTS.get(name)
    if argument is None or argument in config.lr_scheduler.params:
        how = f"follows {name} as before"
    else:
        how = (
            f"follows {name} over {now.epochs} epochs now"
            if config.trainer.epochs
            else f"follows {name} over {now.steps} steps now"
        )
    return f"the learning rate {how}: {rate:.6g} at step {step + 1} (the checkpoint had {former_rate:.6g})"


def _length_text(length: RunLength) -> str:
    return f"{length.steps} steps ({length.epochs} epoch{'' if length.epochs == 1 else 's'})"
