"""Writes configs as TOML: with the origin of each value, and as a starting point for a new config."""

import json
import re
from collections.abc import Mapping
from typing import Any

from seg_core.catalog import DatasetEntry, ModelEntry
from seg_core.labels.tasks import MULTICLASS
from seg_core.registry import DATASETS, MODELS

__all__ = ["as_toml", "starting_config", "toml_key", "toml_value"]

_WIDTH = 44  # columns of keys and values before a comment
_BATCH_SIZE = 8
_CROP, _LARGEST_CROP, _CROP_STEP = 256, 512, 32

_CHOICES = {
    "missing_class": "an image without the mask of a class has no pixel of it",
    "missing": "leave images without the mask of a class out",
}


def as_toml(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """Returns tables as TOML, one section per table.

    Args:
        values: plain containers, from `TrainConfig.to_dict`.
        origins: full key -> origin of its value, shown as a comment; others are defaults. A key that is not in `values`
            was unset, which a comment says. None shows no origins.
    """
    lines: list[str] = []
    _add_table(lines, values, origins, ())
    return "\n".join(lines).strip("\n") + "\n"


def starting_config(model: str, dataset: str, name: str, root: str | None = None, report: Any = None) -> str:
    """Returns a commented TOML config for a network and a dataset.

    Args:
        model: name of the network.
        dataset: name of the dataset.
        name: file name, for the comments.
        root: root of the dataset; None writes a name to edit.
        report: what the dataset's class method `inspect(root)` returned: its options, sizes and number of images are
            written. None writes usual values.

    Raises:
        UnknownNameError: if there is no such network or dataset.
    """
    network, data = MODELS.entry(model), DATASETS.entry(dataset)
    lines = [
        f"# {model} on {dataset}. docs/config.md explains every key; `seg config check {name}` finds mistakes.",
        "#",
        f"#     seg train {name}",
        "",
        "[model]",
        f"name = {toml_value(model)}",
    ]
    others: tuple[str, ...] = ()
    if isinstance(network, ModelEntry):
        if network.any_backbone:
            lines.append('params = { backbone = "resnet50" }')
        if network.any_backbone or network.backbone:
            lines.append('# weights_backbone = "DEFAULT" # start from ImageNet weights (downloads them)')
        if len(network.outputs) > 1:
            lines.append(f"# aux_loss = true # also train {', '.join(network.outputs[1:])}")
        others = tuple(output for output in network.outputs[1:] if not output.startswith("aux"))
    lines += ["", "[data.dataset]", f"name = {toml_value(dataset)}"]
    if not isinstance(data, DatasetEntry) or data.needs_root:
        comment = " # folder of the unpacked dataset" if root is None else ""
        lines.append(f"root = {toml_value(root or 'data/' + dataset.lower())}{comment}")
    if isinstance(data, DatasetEntry):
        if data.splits and "val" not in data.splits:
            lines.append(f"val_split = {toml_value(data.splits[-1])}")
        if report is not None:
            lines += _options(report)
        elif dataset == "FolderDataset":
            lines.append('params.metadata = { labels = ["ground", "thing"] } # your classes')
    lines += [
        "",
        "[data.transform.train]",
        f"size = {toml_value(_crop(report, network))} # random crop: height, width",
        "scale_range = [0.5, 2.0]",
        "",
        "[data.loader]",
        f"batch_size = {min(_BATCH_SIZE, report.counts['train']) if report is not None else _BATCH_SIZE}",
        "num_workers = 2",
        "",
        "[data.augment]",
        "hflip = 0.5",
        "color_jitter = [0.2, 0.2, 0.2, 0.05] # brightness, contrast, saturation, hue",
        "",
        "[criterion]",
        *_criterion(MULTICLASS if report is None or report.metadata is None else report.metadata.task),
    ]
    for output in others:
        loss = "DetailLoss" if isinstance(network, ModelEntry) and network.family == "STDC" else "BoundaryLoss"
        lines.append(f"# outputs.{output} = {{ weight = 1.0, name = {toml_value(loss)} }} # with aux_loss = true")
    lines += [
        "",
        "[optimizer]",
        'name = "AdamW"',
        "params = { lr = 1e-3, weight_decay = 1e-2 }",
        "",
        "[lr_scheduler]",
        'name = "PolynomialLR" # decays to 0 over the run',
        "params = { power = 0.9 }",
        "",
        "[trainer]",
        "epochs = 50",
        '# precision = "bf16" # faster if the hardware supports it',
    ]
    return "\n".join(lines) + "\n"


def _criterion(task: str) -> list[str]:
    """Returns the lines of the loss."""
    if task == MULTICLASS:
        return [
            'name = "CrossEntropyLoss"',
            '# class_weights = "median_frequency" # count the pixels of each class first, and weight rare classes more',
        ]
    return ['name = "BinaryCrossEntropyLoss"', "# params = { pos_weight = 5.0 } # weight pixels of a rare class more"]


def _options(report: Any) -> list[str]:
    """Returns the options of a dataset that its report found, a line each, with comments."""
    comments = {
        "metadata": "the classes: write your names" if report.suggested else "the classes",
        "label_map": "ids in the masks to classes: check it",
        "colors": "masks contain the colors of the classes",
        "groups": "keeps frames of a sequence on one side",
    }
    lines = []
    # the classes first: their names are what a person edits
    for option, value in sorted(report.options.items(), key=lambda item: item[0] != "metadata"):
        comment = f" # {comments[option]}" if option in comments else ""
        lines.append(f"params.{toml_key(option)} = {toml_value(value)}{comment}")
    choices = getattr(report, "choices", {})
    if choices:
        lines.append(f"# Decide, and uncomment {'one of these lines' if len(choices) > 1 else 'this line'}:")
    for option, value in choices.items():
        comment = f" # {_CHOICES[option]}" if option in _CHOICES else ""
        lines.append(f"# params.{toml_key(option)} = {toml_value(value)}{comment}")
    return lines


def _crop(report: Any, network: Any) -> list[int]:
    """Returns a random crop that fits into the smallest image, in steps that most networks divide by."""
    if report is None:
        return [_CROP, _CROP]
    minimum = network.min_size if isinstance(network, ModelEntry) else 1
    minimum = max(-(-minimum // _CROP_STEP), 1) * _CROP_STEP
    smallest = report.sizes[0]
    return [max(min(side // _CROP_STEP * _CROP_STEP, _LARGEST_CROP), minimum) for side in smallest]


def _add_table(
    lines: list[str], values: Mapping[str, Any], origins: Mapping[str, str] | None, path: tuple[str, ...]
) -> None:
    """Adds the values of a table under its heading, then the tables in it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    unset = _unset_keys(values, origins or {}, path)
    if path and (plain or unset):
        lines += ["", f"[{'.'.join(map(toml_key, path))}]"]
    for key, value in plain.items():
        text = f"{toml_key(key)} = {toml_value(value)}"
        if origins is not None:
            text = f"{text:<{_WIDTH}} # {origins.get('.'.join((*path, key)), 'default')}"
        lines.append(text)
    for key, origin in unset.items():
        text = f'# {toml_key(key)} = "none"'
        lines.append(f"{text:<{_WIDTH}} # {origin}")
    for key, value in values.items():
        if isinstance(value, Mapping):
            _add_table(lines, value, origins, (*path, key))


def _unset_keys(values: Mapping[str, Any], origins: Mapping[str, str], path: tuple[str, ...]) -> dict[str, str]:
    """Returns the keys of a table that were unset -> origin."""
    prefix = "".join(f"{part}." for part in path)
    own = {key.removeprefix(prefix): origin for key, origin in origins.items() if key.startswith(prefix)}
    return {k: origin for k, origin in own.items() if "." not in k and k not in values and origin.startswith("unset")}


def toml_key(key: str) -> str:
    """Returns a key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def toml_value(value: Any) -> str:
    """Returns a value as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        content = ", ".join(f"{toml_key(str(k))} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {content} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float):
        # TOML needs a point or an exponent, and writes inf and nan as Python does
        return repr(value)
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """Returns a string as TOML writes it: other alphabets stay readable, what cannot be seen is escaped."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character.isascii() and character != "\x7f":
        return json.dumps(character)[1:-1]
    # JSON writes two surrogates for a character above 0xffff, which TOML does not allow
    code = ord(character)
    return character if character.isprintable() else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
