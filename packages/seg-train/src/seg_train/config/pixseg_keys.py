"""The keys of a config of pixseg 0.8, by their full names, and what to write here."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["LOGGER_PARAMS", "advice_on_pixseg", "named_as_here"]

# There a section names its component by a key of its own name.
_RENAMED = {
    "model.model": "model.name",
    "model.state_file": "model.weights",
    "data.dataset.dataset": "data.dataset.name",
    "criterion.criterion": "criterion.name",
    "criterion.class_weight": "criterion.class_weights",
    "optimizer.optimizer": "optimizer.name",
    "lr_scheduler.lr_scheduler": "lr_scheduler.name",
    "paths.runs_folder": "paths.output",
}
_DATASETS = {
    "Cityscapes": "CityscapesClass",
    "Cityscapes{category}": "CityscapesCategory",
    "Cityscapes{full}": "Cityscapes",
    "Mapillary": "MapillaryVistas",
    "coco": "COCOStuff",
}
# key of the former tables of params -> key here, or why there is none; other keys keep their names
_INSIDE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "data.loader.params": (
        "data.loader",
        {
            "shuffle": "training is always shuffled",
            "drop_last": "the last batch is always dropped if it is smaller",
        },
    ),
    "data.augment.params": ("data.augment", {}),
    "trainer.params": (
        "trainer",
        {
            "num_epochs": "trainer.epochs",
            "num_snapshots": "trainer.snapshots",
            "best_by": "evaluation.monitor",
            "checkpoint_steps": "a checkpoint is written after each epoch, and the last trainer.keep_checkpoints stay",
        },
    ),
}
_ADVICE = {
    "optimizer.effective_batch_size": (
        "write this number as data.loader.batch_size, which is the batch of one optimizer step, and as "
        "trainer.accumulation_steps the number of micro-batches that it is computed in"
    ),
    "scaler": 'remove it: trainer.precision = "fp16" scales the loss by itself, and "bf16" needs no scale',
    "paths.checkpoint": (
        "remove it, and resume a run with: seg train --resume RUN; a checkpoint of pixseg cannot be resumed, but "
        "model.weights takes the file of its network"
    ),
}

LOGGER_PARAMS = {
    "api_key": "remove it, so that no config holds a secret: run `wandb login` once, or set WANDB_API_KEY",
    "run_id": "remove it: seg train --resume continues the run of the logger too",
    "params": "write its keys in this section itself",
    "log_dir": "remove it: the files are in the run folder, see paths.output",
    "dir": "remove it: the files are in the run folder, see paths.output",
}
"""Options of pixseg's loggers -> what to do instead."""


def advice_on_pixseg(key: str, value: object) -> str | None:
    """Returns what to write instead of a full key of pixseg's config; None for any other key.

    Args:
        key: full key, such as `"model.model"`.
        value: its value, which the advice repeats.

    >>> advice_on_pixseg("model.model", "enet")
    'write model.name = "enet"'
    """
    if key in _RENAMED:
        return f"write {_RENAMED[key]}{_shown(_value_here(key, value))}{_more(key)}"
    if key == "data.dataset.pad_crop_size":
        if value == "none":
            return "remove it: without data.transform.train.size images keep their size"
        return f"write data.transform.train.size{_shown(value)}"
    if key in _INSIDE:
        return _advice_inside(key, value)
    return _ADVICE.get(key)


def named_as_here(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tables with pixseg's names of components as ours, so that what they name can be checked too."""
    renamed = dict(tables)
    for key, here in _RENAMED.items():
        section, _, name = key.rpartition(".")
        outer, _, inner = section.partition(".")
        table = renamed.get(outer)
        if inner and isinstance(table, Mapping):
            table = table.get(inner)
        if not isinstance(table, Mapping) or name not in table or here.rpartition(".")[2] in table:
            continue
        moved = {k: v for k, v in table.items() if k != name}
        moved[here.rpartition(".")[2]] = _value_here(key, table[name])
        renamed[outer] = {**renamed[outer], inner: moved} if inner else moved
    return renamed


def _value_here(key: str, value: object) -> object:
    """Returns the name here of a dataset or of a scheme of class weights."""
    if not isinstance(value, str):
        return value
    if key == "data.dataset.dataset":
        return _DATASETS.get(value, value)
    if key == "criterion.class_weight":
        return {"class_frequency": "inverse", "sqrt_frequency": "inverse_sqrt", "log_frequency": "inverse_log"}.get(
            value, value
        )
    return value


def _more(key: str) -> str:
    if key == "lr_scheduler.lr_scheduler":
        return ', and lr_scheduler.interval = "epoch": there the scheduler takes a step per epoch'
    return ""


def _advice_inside(key: str, value: object) -> str:
    section, names = _INSIDE[key]
    found = value if isinstance(value, Mapping) else {}
    written, removed = [], []
    for name, given in found.items():
        here = names.get(name, f"{section}.{name}")
        if " " in here:
            removed.append(f"{name} ({here})")
        else:
            shown = str(given).rpartition(":")[2] if name == "best_by" else given
            written.append(f"{here}{_shown(shown)}")
    parts = [f"write {', '.join(written)}"] * bool(written) + [f"remove {', '.join(removed)}"] * bool(removed)
    return "; ".join(parts) if parts else f"remove it: its keys stand in [{section}] itself"


def _shown(value: object) -> str:
    return "" if isinstance(value, Mapping) else f" = {json.dumps(value, default=str)}"
