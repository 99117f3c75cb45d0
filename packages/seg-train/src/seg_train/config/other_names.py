"""The words of other toolkits (mmsegmentation, Lightning, Detectron2, ultralytics, timm), and what to write here."""

import json
from collections.abc import Mapping

__all__ = ["DATASET_PARAMS", "LOSS_PARAMS", "MODEL_PARAMS", "advice_on_key", "advice_on_value", "key_called"]

_KEYS = {
    "optimizer.params.lr": ("lr", "learning_rate", "base_lr", "lr0", "init_lr", "initial_lr"),
    "optimizer.params.weight_decay": ("weight_decay", "wd"),
    "optimizer.params.momentum": ("momentum",),
    "trainer.epochs": ("max_epochs", "num_epochs", "total_epochs", "n_epochs", "num_train_epochs"),
    "trainer.steps": ("max_iters", "max_iter", "max_steps", "iters", "iterations", "num_iterations", "num_steps"),
    "trainer.accumulation_steps": (
        "accumulate_grad_batches",
        "gradient_accumulation_steps",
        "accumulate",
        "accumulative_counts",
        "grad_accum_steps",
    ),
    "trainer.max_grad_norm": ("gradient_clip_val", "grad_clip", "clip_grad", "clip_grad_norm", "max_norm"),
    "trainer.keep_checkpoints": ("save_top_k", "max_keep_ckpts", "save_total_limit"),
    "trainer.device": ("device", "accelerator"),
    "trainer.seed": ("seed", "random_seed", "manual_seed"),
    "data.dataset.root": ("root", "data_root", "data_dir", "data_path", "dataset_root", "data_folder"),
    "data.loader.batch_size": (
        "batch_size",
        "batch",
        "bs",
        "samples_per_gpu",
        "ims_per_batch",
        "train_batch_size",
        "per_device_train_batch_size",
    ),
    "data.loader.num_workers": ("num_workers", "workers", "workers_per_gpu", "dataloader_num_workers"),
    "data.transform.train.size": ("crop_size", "imgsz", "img_size", "image_size", "input_size"),
    "evaluation.every_epochs": ("check_val_every_n_epoch", "val_interval", "eval_interval", "eval_every"),
    "evaluation.every_steps": ("val_check_interval", "eval_steps"),
    "paths.output": ("work_dir", "output_dir", "save_dir", "log_dir", "default_root_dir", "project", "out", "output"),
    "paths.run": ("run_name", "exp_name", "experiment_name"),
    "model.weights": ("load_from", "init_checkpoint", "pretrained_weights"),
    "model.weights_backbone": ("encoder_weights", "backbone_weights"),
    "criterion.name": ("loss", "criterion"),
    "criterion.class_weights": ("class_weight",),
    "model.name": ("arch", "architecture"),
}
_CALLED = {word: key for key, words in _KEYS.items() for word in words}

_LABELS = "data.dataset.params.metadata.labels"
_CLASSES = f'the names of the classes of your own images: write {_LABELS} = ["ground", "thing"]'
_PRETRAINED = (
    'write model.weights = "DEFAULT" for a whole network, or model.weights_backbone = "DEFAULT" for its backbone, if '
    "`seg models` lists weights"
)
_PRECISION = 'write trainer.precision = "bf16", "fp16" on a GPU, or leave it "auto"'
_PROCESSES = (
    "remove it: there is one process per GPU, started with: torchrun --nproc_per_node N -m seg_core.command train "
    "CONFIG"
)
_ADVICE = {
    "num_classes": f"remove it: the number of classes is that of the dataset's labels, see {_LABELS}",
    "n_classes": f"remove it: the number of classes is that of the dataset's labels, see {_LABELS}",
    "classes": _CLASSES,
    "class_names": _CLASSES,
    "labels": _CLASSES,
    "ignore_index": "write data.dataset.params.metadata.ignore_index beside its labels; it is 255 by default",
    "ignore_label": "write data.dataset.params.metadata.ignore_index beside its labels; it is 255 by default",
    "reduce_zero_label": (
        "remove it if it is false; for true write data.dataset.params.label_map = "
        '{ 0 = "ignore", 1 = 0, 2 = 1 }, with a pair for each id of the masks'
    ),
    "pretrained": _PRETRAINED,
    "amp": _PRECISION,
    "fp16": _PRECISION,
    "half": _PRECISION,
    "use_amp": _PRECISION,
    "mixed_precision": _PRECISION,
    "gpus": _PROCESSES,
    "gpu": _PROCESSES,
    "devices": _PROCESSES,
    "num_gpus": _PROCESSES,
    "gpu_ids": _PROCESSES,
    "backbone": 'choose a network with it, such as model.name = "fcn_resnet50", or write model.params.backbone',
    "encoder_name": 'choose a network with it, such as model.name = "fcn_resnet50", or write model.params.backbone',
    "scheduler": 'write lr_scheduler.name, such as lr_scheduler.name = "PolynomialLR"',
}

_METADATA = 'use metadata = { labels = ["ground", "thing"] }, with one name per id'
DATASET_PARAMS = {
    "reduce_zero_label": (
        'remove it if it is false; for true use label_map = { 0 = "ignore", 1 = 0, 2 = 1 }, with a pair for each id of '
        "the masks"
    ),
    "classes": _METADATA,
    "class_names": _METADATA,
    "labels": _METADATA,
    "num_classes": _METADATA,
    "ignore_index": 'use metadata = { labels = ["ground", "thing"], ignore_index = 255 }, with one name per id',
    "palette": "use metadata = { labels = [...], colors = [[80, 60, 40], ...] }",
    "img_suffix": 'use images = "PATTERN" and masks = "PATTERN", such as "img_dir/{split}/*.jpg"',
    "seg_map_suffix": "use mask_suffix for what mask names have in addition; endings such as .png are found",
    "img_dir": "use images = ..., and masks = ... for the masks",
    "ann_dir": "use masks = ..., and images = ... for the images",
}
"""Options of other datasets of folders -> what `FolderDataset` has instead."""

MODEL_PARAMS = {
    "pretrained": _PRETRAINED,
    "encoder_weights": 'use model.weights_backbone = "DEFAULT"',
    "pretrained_backbone": 'use model.weights_backbone = "DEFAULT"',
    "classes": "remove it: the number of classes is that of the dataset",
    "activation": "remove it: networks return logits",
}
"""Options of other libraries' networks -> what to set instead."""

_CLASS_WEIGHTS = "use criterion.class_weights, one number per class"
LOSS_PARAMS = {
    "alpha": _CLASS_WEIGHTS,
    "class_weight": _CLASS_WEIGHTS,
    "pos_weight": f"{_CLASS_WEIGHTS}, or pos_weight of BinaryCrossEntropyLoss",
    "use_sigmoid": "remove it: losses take logits and compute the softmax or, by the dataset's task, the sigmoid",
    "from_logits": "remove it: losses take logits and compute the softmax or sigmoid themselves",
    "mode": "remove it: the task is that of the dataset",
    "smooth_factor": "use label_smoothing of CrossEntropyLoss, or twice the number in BinaryCrossEntropyLoss",
    "loss_weight": "remove it: the loss of the output has the factor 1, others are set in criterion.outputs",
}
"""Options of other libraries' losses -> what to set instead."""


def key_called(word: str) -> str | None:
    """Returns the full key that other toolkits call `word`, or None.

    >>> key_called("learning-rate")
    'optimizer.params.lr'
    """
    return _CALLED.get(_plain(word))


def advice_on_key(word: str, value: object = None) -> str | None:
    """Returns what to write instead of a key of another toolkit, or of a key in the wrong place; None if unknown.

    Args:
        word: the last part of the key.
        value: its value; numbers and strings are repeated in the advice.
    """
    if (key := key_called(word)) is not None:
        if key == "trainer.device" and isinstance(value, str):
            value = {"gpu": "cuda", "cuda": "cuda", "cpu": "cpu", "mps": "mps"}.get(value.lower(), "auto")
        shown = f" = {json.dumps(value)}" if isinstance(value, str | int | float) else ""
        return f"write {key}{shown}"
    return _ADVICE.get(_plain(word))


def advice_on_value(key: str, value: object, named: str | None = None) -> str:
    """Returns what to write instead of a value that is not allowed, or "".

    Args:
        key: full key.
        value: its value.
        named: full key of the name of the section, if the key is one.
    """
    if named is not None and isinstance(value, str):
        return f'write {named} = "{value}"'
    if key.startswith("log.") and key.count(".") == 1 and (value is False or str(value).lower() in _OFF):
        return f"write {key}.enabled = false"
    if key == "trainer.device":
        number = str(value).rpartition(":")[2]
        if number.isdecimal():
            return f'write "cuda" and choose the GPU by its number: CUDA_VISIBLE_DEVICES={number} seg train CONFIG'
        return 'write "cuda", or "auto" for an available one' if value in ("gpu", "GPU") else ""
    if key == "trainer.precision":
        found = next((name for mark, name in _PRECISIONS.items() if mark in str(value)), None)
        return "" if found is None else f'write "{found}"'
    return ""


_OFF = ("none", "off", "no", "false", "null", "disabled")
_PRECISIONS: Mapping[str, str] = {"bf16": "bf16", "bfloat16": "bf16", "16": "fp16", "half": "fp16", "32": "fp32"}


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
