"""Checks that a resumed run is the same run: its settings, its data, and how its scores are measured."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_core.errors import ConfigError
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.tasks import MULTICLASS, TASKS
from seg_core.metrics.protocol import digest_of_dataset
from seg_core.progress import Progress
from seg_core.randomness import DATASET_STREAM, isolated_randomness, sample_seed
from seg_train.config.migrate import CONFIG_FORMAT, FormerValTransform, Migrated
from seg_train.config.schema import WITHOUT_INFLUENCE, TrainConfig, default_of, flatten, has_influence, has_section
from seg_train.config.task import losses_of
from seg_train.run.data import RunData

__all__ = [
    "check_data",
    "check_settings",
    "check_val_transform",
    "describe_config",
    "describe_data",
    "why_scores_differ",
]

# The total length of a run may change on resume: `seg train --resume RUN --epochs N`.
_LENGTH = ("trainer.epochs", "trainer.steps")


def describe_config(config: TrainConfig) -> dict[str, Any]:
    """Returns the description of the config for a checkpoint."""
    return {"config": config.influences(), "config_format": CONFIG_FORMAT}


def describe_data(data: RunData) -> dict[str, Any]:
    """Returns the description of the training data for a checkpoint, and how it is normalized."""
    train_set = data.train_set
    task = train_set.metadata.task
    return {
        "train_files": {"count": len(train_set), "digest": digest_of_dataset(train_set)},
        "labels": list(train_set.metadata.labels),
        **({} if task == MULTICLASS else {"task": task}),  # checkpoints of one class per pixel stay as they were
        "normalization": data.normalization.to_dict(),
    }


# ---- settings and data -----------------------------------------------------------------------------------------------


def _differ(former: Any, now: Any) -> bool:
    """Returns whether two values of a key differ; NaN, as a value without data may be, is equal to NaN."""
    is_nan = all(isinstance(value, float) and math.isnan(value) for value in (former, now))
    return bool(former != now) and not is_nan


def check_settings(stored: Migrated, config: TrainConfig, folder: Path) -> None:
    """Compares the settings that influence learning with the config stored in a checkpoint.

    Raises:
        ConfigError: if a value differs; the message lists them all.
    """
    there, here = flatten(stored.tables), config.influences()
    changed = []
    for key in sorted({*there, *here}):
        if not has_influence(key) or key in _LENGTH:
            continue
        former = there.get(key, default_of(key) if has_section(stored.tables, key) else None)
        if key == "criterion.name" and former in losses_of(config.criterion, TASKS):
            continue  # without a name the task of the dataset decides, which is compared with the data
        if _differ(former, here.get(key)):
            changed.append(f"{key} (run: {_shown(former)}, now: {_shown(here.get(key))})")
    if changed:
        these = "this change" if len(changed) == 1 else "these changes"
        raise ConfigError(
            f"the run in {folder} was started with other settings: {', '.join(changed)}; resume it without {these}, or "
            f"start a new run from its weights: seg train CONFIG --weights {folder}. These keys may change on resume: "
            f"trainer.epochs or trainer.steps (the new total), and {', '.join(WITHOUT_INFLUENCE)}"
        )


def check_data(content: Mapping[str, Any], found: Mapping[str, Any], dataset: str, folder: Path) -> None:
    """Compares training files and class names with those stored in a checkpoint, if it has them.

    Args:
        content: content of the checkpoint.
        found: description of the data now, by `describe_data`.
        dataset: name of the dataset.
        folder: run folder.

    Raises:
        ConfigError: if they differ.
    """
    problems = []
    if "labels" in content and content["labels"] != found["labels"]:
        problems.append(_other_labels(content["labels"], found["labels"]))
    former, now = (description.get("task", MULTICLASS) for description in (content, found))
    if former != now:
        problems.append(f'its task was "{former}" and is "{now}" now')
    if "train_files" in content and content["train_files"] != found["train_files"]:
        there, here = content["train_files"], found["train_files"]
        if there["count"] != here["count"]:
            problems.append(f"the run was trained on {there['count']} images, now there are {here['count']}")
        else:
            problems.append(
                f"the run was trained on {there['count']} images, and the {here['count']} images now are other files "
                f"(digest {there['digest'][:12]} then, {here['digest'][:12]} now)"
            )
    if problems:
        raise ConfigError(
            f"the dataset {dataset} of the run in {folder} has changed: {'; '.join(problems)}. Resume the run with the "
            f"original dataset, or start a new run from its weights: seg train CONFIG --weights {folder}"
        )


def _other_labels(there: Sequence[str], here: Sequence[str]) -> str:
    text = f"it had {len(there)} classes and has {len(here)} now"
    for place, (former, now) in enumerate(zip(there, here, strict=False)):
        if former != now:
            return f"{text}, and class {place} was {former!r} and is {now!r} now"
    shorter = min(len(there), len(here))
    if len(there) > len(here):
        return f"{text}, and class {shorter}, {there[shorter]!r}, was removed"
    return f"{text}, and class {shorter}, {here[shorter]!r}, was added"


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value, default=str)


# ---- validation ------------------------------------------------------------------------------------------------------


def check_val_transform(
    former: FormerValTransform, val_set: SegmentationDataset, folder: Path, progress: Progress
) -> bool:
    """Reads the size of every val image, and returns whether the former validation padded any of them.

    Raises:
        ConfigError: if the former validation cropped an image, which no validation does now.
    """
    total, padded = len(val_set), False
    progress.message(
        f"checking the size of {total} val images: the run has data.transform.val, which may have cropped them"
    )
    try:
        for index in range(total):
            with isolated_randomness(sample_seed(0, 0, index, DATASET_STREAM)):
                height, width = val_set[index][0].shape[-2:]
            scaled = former.scaled(height, width)
            if former.size[0] < scaled[0] or former.size[1] < scaled[1]:
                name = next(iter(val_set.file_names(index)), f"number {index}")
                raise ConfigError(_cropped(former, scaled, name, folder))
            padded |= former.size != scaled
            progress.part("checking sizes", index + 1, total)
    finally:
        progress.close()
    return padded


def _cropped(former: FormerValTransform, scaled: tuple[int, int], name: str, folder: Path) -> str:
    size = "x".join(map(str, former.size))
    resized = "" if former.scale == 1 else f" (resized by {former.scale:g})"
    resize = "" if former.scale == 1 else f"resize = {{ scale = {former.scale:g} }} and "
    return (
        f"the run in {folder} was validated on crops: data.transform.val.size was {size} pixels, and val image {name} "
        f"has {scaled[0]}x{scaled[1]}{resized}. Validation no longer crops, so its scores would not be comparable with "
        f"those before. Start a new run from its weights: seg train CONFIG --weights {folder}, where CONFIG has no "
        f"data.transform.val but {resize}tile = {list(former.size)} in [evaluation], to predict in tiles of that size, "
        f"or {'only that resize' if resize else 'nothing'}, to predict whole images. Its model files can still be used"
    )


def why_scores_differ(
    content: Mapping[str, Any], stored: Migrated, padded: bool, monitor: str, protocol: Mapping[str, Any] | None
) -> str | None:
    """Returns why the scores of evaluations are not comparable with those before the checkpoint, or None if they are.

    Args:
        content: content of the checkpoint.
        stored: the config in it.
        padded: whether validation padded images then.
        monitor: score that selects the best weights.
        protocol: of evaluations now, as a dict.
    """
    if content["format_version"] < 3:
        if stored.val_transform is not None and stored.val_transform.scale != 1:
            return "validation resized masks together with the images, now it does not"
        if padded:
            return "validation padded images, now it does not"
        if monitor.endswith("val_loss"):
            return "val_loss was the mean over batches, now it is the mean over the whole split"
        return None
    former = content.get("protocol")
    if former is None or protocol is None:
        return None
    # labels and precision of a run do not change; keys that only one of them has are not compared
    changed = [key for key in former if key in protocol and former[key] != protocol[key]]
    if not changed:
        return None
    shown = ", ".join(f"{key}: {_shown(former[key])}, now {_shown(protocol[key])}" for key in changed)
    return f"validation has changed ({shown})"
