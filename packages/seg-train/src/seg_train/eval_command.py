"""`seg eval`: the scores of a model on a data set, as the trainer's evaluation computes them.

`--json` writes one object. Its keys stay; others may come:

- `model`, `weights`, `dataset`, `split`: as named on the command line; `weights` is null for a model file, and the
  member's own name for `DEFAULT`.
- `num_images`: number of pictures scored.
- `protocol`: how the scores were measured, in a sentence.
- `settings`: `root`, `params`, `scale` and `shorter_side` (as used, null where each picture keeps its size),
  `predictor`, `predictor_params`, `batch_size`, `device` (the one used) and `precision`.
- `scores`: `miou`, `acc`, `macc`, `fwiou`, `dice` (see `seg_core.scores_from_confusion`), each 0 to 1, and `loss`, the
  mean cross entropy of the batches (null where the predictor gives no logits).
- `per_class`: class name -> `iou`, `acc`, `dice` (0 to 1), and `pixels`, those of the class in the masks as scored.
- `confusion_matrix`: K lists of K pixel counts; rows are truth, columns are predictions, both in the order of
  `per_class`.
- `versions`: package -> version.

A score of what does not occur, not a number, is null.
"""

import argparse
import functools
import importlib.util
import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import DatasetEntry, ModelEntry
from seg_core.command import Command
from seg_core.errors import InvalidArgumentError, UsageError, nearest
from seg_core.registry import DATASETS, MODELS, PREDICTORS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from seg_core.interfaces import JointTransform, Predict, SegmentationDataset
    from seg_core.metrics.metric_store import MetricStore
    from seg_core.preprocessing import Preprocessing
    from seg_train.samples import Batch

__all__ = ["EVAL"]

_EPILOG = """\
examples:
  seg eval runs/enet-camvid/model.pt CamVid -s root=data/camvid
  seg eval runs/enet-camvid/model.pt CamVid -s root=data/camvid -s split=test --json scores.json
  seg eval fcn_resnet50 VOC --weights DEFAULT -s root=data/voc --json > scores.json

keys of -s (KEY=VALUE, the value in TOML's syntax):
  root              folder of the data set
  split             split to score on; val
  params            table of the data set's other options, as in -s params.metadata=classes.toml
  scale             factor of the pictures' and masks' size; that of the model
  predictor         way of predicting; whole
  predictor_params  table of its options
  batch_size        pictures at a time; 1. More needs pictures of one size
  num_workers       reading processes; 2
  device            auto, cuda, mps or cpu; auto
  precision         fp32 or bf16; fp32

The JSON has the keys model, weights, dataset, split, num_images, protocol, settings, scores (miou, acc, macc, fwiou,
dice, loss), per_class (class name -> iou, acc, dice, pixels), confusion_matrix (rows are truth) and versions. What has
no value, as the IoU of a class that does not occur, is null.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file (training writes model.pt), or a model's name")
    parser.add_argument("dataset", metavar="DATASET", help="a name from `seg datasets`")
    parser.add_argument(
        "--weights", metavar="W", help="with a model's name: weights member or checkpoint file (default: DEFAULT)"
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key, as in -s split=test; may be repeated, the keys are below",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write the scores to FILE as JSON; without FILE, print JSON instead of the table",
    )


# ---- settings --------------------------------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass(frozen=True)
class _Settings:
    """What `-s` sets; a field is a key."""

    root: str | None = None
    split: str = "val"
    batch_size: int = 1
    num_workers: int = 2
    device: str = "auto"
    precision: str = "fp32"
    predictor: str = "whole"
    predictor_params: dict[str, Any] = field(default_factory=dict)
    scale: float | None = None
    params: dict[str, Any] = field(default_factory=dict)


# key -> whether a value is allowed, and what is, in words
_ALLOWED: dict[str, tuple[Callable[[object], bool], str]] = {
    "root": (_is_text, "a folder; a name that is a number needs TOML's quotes, as in -s 'root=\"2012\"'"),
    "split": (_is_text, "the name of a split, such as val; one that is a number needs TOML's quotes"),
    "batch_size": (lambda v: _is_whole(v, 1), "a whole number from 1 on"),
    "num_workers": (lambda v: _is_whole(v, 0), "a whole number from 0 on; 0 reads without further processes"),
    "device": (lambda v: v in ("auto", "cuda", "mps", "cpu"), "auto, cuda, mps or cpu"),
    "precision": (lambda v: v in ("fp32", "bf16"), "fp32 or bf16"),
    "predictor": (_is_text, "the name of a way of predicting, such as whole"),
    "predictor_params": (lambda v: isinstance(v, dict), "a table, set as in -s predictor_params.name=value"),
    "scale": (_is_factor, "a factor above 0, such as 0.5; leave it out to take the model's"),
    "params": (lambda v: isinstance(v, dict), "a table, set as in -s params.name=value"),
}


def _read_settings(overrides: Sequence[str]) -> _Settings:
    """Returns what `-s` said, checked as far as the keys alone tell.

    Raises:
        UsageError: if a key is unknown or a value is not allowed; the message names all of them.
    """
    from seg_train.config.load import apply_overrides

    values: dict[str, Any] = {}
    problems = apply_overrides(values, overrides)
    for name, value in values.items():
        if name not in _ALLOWED:
            problems.append(f"-s {name}: unknown key.{nearest(name, _ALLOWED)} Known: {', '.join(_ALLOWED)}")
            continue
        fits, allowed = _ALLOWED[name]
        if not fits(value):
            problems.append(f"-s {name} = {json.dumps(value, default=str)}: must be {allowed}")
    if len(problems) > 1:
        raise UsageError(f"-s has {len(problems)} problems:" + "".join(f"\n  {problem}" for problem in problems))
    if problems:
        raise UsageError(problems[0])
    return _Settings(**values)


def _check_options(
    key: str, what: str, target: Callable[..., Any], options: Mapping[str, Any], given: Collection[str]
) -> None:
    """Compares a table of options with what `target` takes.

    Args:
        key: of the table.
        what: the target is, for the message.
        target: is called with the options.
        options: as the user set them.
        given: arguments that the target gets from us.

    Raises:
        UsageError: if it does not take one of the options, or lacks one.
    """
    parameters = inspect.signature(target).parameters
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = {name: p for name, p in parameters.items() if p.kind in named and name not in given}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in options:
        if name in given or (name not in own and not takes_any):
            raise UsageError(
                f"-s {key}.{name}: {what} has no such option here.{nearest(name, own)} "
                f"Options: {', '.join(own) or 'none'}"
            )
    for name, parameter in own.items():
        if parameter.default is inspect.Parameter.empty and name not in options:
            raise UsageError(f"-s {key}.{name} is missing: {what} has no default for it; set it")


# ---- parts of the evaluation -----------------------------------------------------------------------------------------


def _choose_device(wanted: str) -> "torch.device":
    """Returns where to compute.

    Raises:
        UsageError: if torch finds no such device.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[wanted]:
        raise UsageError(
            f'-s device = "{wanted}": torch {torch.__version__} finds no such device here; leave it out to take what '
            "there is"
        )
    return torch.device(wanted)


def _choose_predictor(settings: _Settings) -> "Predict":
    """Returns the way of predicting with its options.

    Raises:
        UnknownNameError: if there is none of that name.
        UsageError: if it does not take the options.
    """
    predict: Predict = PREDICTORS.get(settings.predictor)
    given = list(inspect.signature(predict).parameters)[:2]  # model and images
    what = f"predictor {settings.predictor!r}"
    _check_options("predictor_params", what, predict, settings.predictor_params, given)
    return functools.partial(predict, **settings.predictor_params) if settings.predictor_params else predict


def _open_dataset(name: str, settings: _Settings) -> "SegmentationDataset":
    """Opens the split of the data set.

    Raises:
        UnknownNameError: if there is no such data set.
        UsageError: if it wants a root, or does not know the split or an option.
        InvalidArgumentError: if the split is empty.
        UserError: what the data set raises, for a missing folder say.
    """
    entry = DATASETS.entry(name)
    if isinstance(entry, DatasetEntry) and entry.needs_root and settings.root is None:
        raise UsageError(
            f"data set {name!r} reads files: name its folder by -s root=DIR; `seg datasets show {name}` prints the "
            "layout expected there"
        )
    kind = DATASETS.get(name)
    if isinstance(entry, DatasetEntry):
        # official names of splits beside our own
        names = getattr(kind, "split_names", lambda: entry.splits)()
        if names and settings.split not in names:
            raise UsageError(
                f"data set {name!r} has no split {settings.split!r}.{nearest(settings.split, names)} "
                f"Splits: {', '.join(names)}; set one by -s split=NAME"
            )
    _check_options("params", f"data set {name!r}", kind, settings.params, ("root", "split", "transforms"))
    dataset: SegmentationDataset = kind(settings.root, split=settings.split, **settings.params)
    if not len(dataset):
        raise InvalidArgumentError(f"the {settings.split} split of {name!r} has no pictures; choose another split")
    return dataset


def _looks_like_path(text: str) -> bool:
    """Tells a file from a name as `seg predict` does: it exists, has a folder, or a checkpoint's suffix."""
    path = Path(text)
    return path.is_file() or path.name != text or path.suffix in (".pt", ".pth", ".safetensors")


def _settle_weights(model: str, weights: str | None) -> str | None:
    """Returns the weights of a model's name, None for a model file; nothing is loaded yet.

    Raises:
        UnknownNameError: if there is no such model.
        UsageError: if model and weights do not go together.
    """
    path = Path(model)
    if path.is_dir() and model not in MODELS:
        inside = path / "model.pt"
        advice = f"name the model file in it: {inside}" if inside.is_file() else "give the path of a model file"
        raise UsageError(f"{model} is a folder; {advice}")
    if _looks_like_path(model):
        if weights is not None:
            raise UsageError(
                f"--weights {weights} cannot be used with model file {model}, which holds its own; leave it out"
            )
        return None
    entry = MODELS.entry(model)
    known = entry if isinstance(entry, ModelEntry) else None
    if known is not None and known.any_backbone:
        raise UsageError(
            f"model {model!r} needs a backbone, and eval chooses none; name a model with one from `seg models`, or a "
            "model file"
        )
    default = None if known is None else known.default_weights
    if weights is None:
        if known is None or default is None:
            raise UsageError(
                f"model {model!r} has no published weights; give a model file as MODEL (training writes model.pt), "
                "or --weights"
            )
        print(f"seg: no --weights given, taking {known.weights_enum}.{default}", file=sys.stderr)
        return default
    return default if weights == "DEFAULT" and default is not None else weights


def _load(model: str, weights: str | None) -> "nn.Module":
    """Loads a model file, or builds the network of a name with weights.

    Raises:
        InvalidArgumentError: if the weights leave a part of the network unfilled, or it takes no RGB pictures.
        UserError: what the builder or the file's reader raise.
    """
    if weights is None:
        from seg_core.model_file import load_model

        network = load_model(model)
    else:
        network = MODELS.get(model)(weights=weights)
        unfilled = getattr(network, "initialised_anew", ())
        if unfilled:
            raise InvalidArgumentError(
                f"--weights {weights} do not fill {len(unfilled)} tensors of {model!r}, as {unfilled[0]}, so scores "
                "would be those of random numbers; take weights of this network"
            )
    channels = _built_with(network, "in_channels", 3)
    if channels != 3:
        raise InvalidArgumentError(
            f"model {model!r} takes {channels} channels, and data sets give RGB pictures; evaluate it by a loop of "
            "your own"
        )
    return network


def _built_with(network: "nn.Module", argument: str, otherwise: Any = None) -> Any:
    spec = getattr(network, "build_spec", None)
    return otherwise if spec is None else spec.arguments.get(argument, otherwise)


def _settle_preprocessing(
    model: str, network: "nn.Module", dataset: "SegmentationDataset", scale: float | None
) -> "Preprocessing":
    """Compares the classes of model and data set, and returns what pictures go through.

    A difference of names alone is a warning on stderr: that of spelling is none of meaning.

    Args:
        model: as the user named it, for messages.
        network: with `model_info` where the file or the weights say so.
        dataset: to score on.
        scale: the user's, or None for the model's.

    Raises:
        UsageError: if the numbers of classes differ.
    """
    from seg_core.preprocessing import Preprocessing

    metadata, info = dataset.metadata, getattr(network, "model_info", None)
    count = _built_with(network, "num_classes") if info is None else info.metadata.num_classes
    if count not in (None, metadata.num_classes):
        trained_on = "" if info is None else f" ({info.metadata.name})"
        raise UsageError(
            f"model {model!r} has {count} classes{trained_on}, but the data set has {metadata.num_classes} "
            f"({metadata.name}); score it on data with the classes that it was trained on"
        )
    if info is None:
        _warn(
            f"model {model!r} says neither its classes nor its preprocessing; taking the classes of {metadata.name} "
            "and ImageNet's mean and std"
        )
        preprocessing = Preprocessing()
    else:
        preprocessing = info.preprocessing
        pairs = zip(info.metadata.labels, metadata.labels, strict=True)
        for index, (ours, theirs) in enumerate(pairs):
            if ours != theirs:
                _warn(
                    f"class {index} is {ours!r} for the model ({info.metadata.name}) and {theirs!r} in the data set "
                    f"({metadata.name}); the scores compare classes by their numbers"
                )
                break
    if scale is not None:
        preprocessing = replace(preprocessing, scale=float(scale), shorter_side=None)
    return preprocessing


def _warn(text: str) -> None:
    print(f"seg: warning: {text}", file=sys.stderr)


@dataclass(frozen=True)
class _Resize:
    """Resizes a whole picture and its mask as the trainer does for val: a `JointTransform` without chance.

    Attributes:
        preprocessing: says the size.
        mask_fill: id of mask pixels outside of the picture; there are none.
    """

    preprocessing: "Preprocessing"
    mask_fill: int

    def __call__(
        self, image: "Tensor", mask: "Tensor", *, generator: "torch.Generator | None" = None
    ) -> "tuple[Tensor, Tensor]":
        """Returns both at the size that the network was trained on.

        Args:
            image: uint8 (3, H, W).
            mask: class ids (H, W).
            generator: draws, but nothing depends on it.
        """
        from seg_core.transforms.crop import SegmentationTransform

        height, width = image.shape[-2:]
        size = self.preprocessing.size_of(height, width)
        factor = self.preprocessing.scale or _common_factor((height, width), size)
        resize = SegmentationTransform(size=size, scale_range=(factor, factor), mask_fill=self.mask_fill)
        return resize(image, mask, generator=generator)


def _common_factor(lengths: tuple[int, int], targets: tuple[int, int]) -> float:
    """Returns a factor under which both lengths round to their targets, so that nothing is cut off or filled.

    `Preprocessing.shorter_side` rounds the longer side down and the transform rounds to the nearest; the middle between
    the least and the greatest factor that give the targets is safe from both.
    """
    sides = list(zip(lengths, targets, strict=True))
    least = max((target - 0.5) / length for length, target in sides)
    greatest = min((target + 0.5) / length for length, target in sides)
    return (least + greatest) / 2


def _choose_transform(preprocessing: "Preprocessing", ignore_index: int) -> "JointTransform":
    from seg_core.transforms.crop import SegmentationTransform

    if preprocessing.scale in (None, 1) and preprocessing.shorter_side is None:
        return SegmentationTransform(mask_fill=ignore_index)
    return _Resize(preprocessing, ignore_index)


# ---- command ---------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    settings = _read_settings(arguments.set)
    _check_target(arguments.json, arguments.model, arguments.weights)
    weights = _settle_weights(arguments.model, arguments.weights)
    predict = _choose_predictor(settings)
    device = _choose_device(settings.device)
    # before the network: a wrong folder shows before weights are downloaded
    dataset = _open_dataset(arguments.dataset, settings)
    network = _load(arguments.model, weights)
    preprocessing = _settle_preprocessing(arguments.model, network, dataset, settings.scale)
    network = network.to(device)
    store = _evaluate(network, dataset, preprocessing, predict, device, settings)

    report = {
        "model": arguments.model,
        "weights": weights,
        "dataset": arguments.dataset,
        "split": settings.split,
        "num_images": len(dataset),
        "protocol": _protocol(dataset, preprocessing, settings, store.absent),
        "settings": {
            "root": settings.root,
            "params": settings.params,
            "scale": preprocessing.scale,
            "shorter_side": preprocessing.shorter_side,
            "predictor": settings.predictor,
            "predictor_params": settings.predictor_params,
            "batch_size": settings.batch_size,
            "device": device.type,
            "precision": settings.precision,
        },
        **_results(store, dataset.metadata.labels),
        "versions": _versions(),
    }
    if arguments.json is True:
        print(_as_json(report))
        return 0
    _show(report)
    # after the table: a full disk then costs the file and not the scores
    if arguments.json is not None:
        from seg_core.atomic import write_text

        sys.stdout.flush()
        write_text(arguments.json, _as_json(report) + "\n")
    return 0


def _check_target(target: str | bool | None, model: str, weights: str | None) -> None:
    """Checks the FILE of --json before the work.

    Raises:
        UsageError: if it is a folder, or what is read.
    """
    if not isinstance(target, str):
        return
    path = Path(target)
    if not target or path.is_dir():
        raise UsageError(f"--json {target!r} must name a file, and that is a folder; add the file's name")
    if path.exists() and any(read is not None and path.resolve() == Path(read).resolve() for read in (model, weights)):
        raise UsageError(f"--json {target} would overwrite the model; name another file")


def _evaluate(
    network: "nn.Module",
    dataset: "SegmentationDataset",
    preprocessing: "Preprocessing",
    predict: "Predict",
    device: "torch.device",
    settings: _Settings,
) -> "MetricStore":
    """Returns the store with the results on all of `dataset`; progress goes to stderr.

    Raises:
        UserError: if a sample cannot be read, does not fit its metadata, or cannot share a batch with another.
    """
    import torch

    from seg_core.augment import SegmentationAugment
    from seg_core.metrics.metric_store import MetricStore
    from seg_train.engine import evaluate_batches
    from seg_train.losses.cross_entropy import CrossEntropyLoss
    from seg_train.progress import make_progress
    from seg_train.samples import Loader, evaluation_plan

    metadata, total = dataset.metadata, len(dataset)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    loader = Loader(
        dataset,
        _choose_transform(preprocessing, metadata.ignore_index),
        num_workers=settings.num_workers,
        pin_memory=device.type == "cuda",
    )
    progress = make_progress()
    done, start = 0, time.perf_counter()

    def on_batch(batch: "Batch", labels: "Tensor") -> None:  # noqa: ARG001 - as evaluate_batches calls it
        nonlocal done
        done += len(batch.indices)
        progress.part("evaluating", done, total)

    try:
        # around the predictor and the loss too, as in the trainer
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
            evaluate_batches(
                network,
                loader.read(evaluation_plan(total, settings.batch_size)),
                store,
                predict=predict,
                augment=SegmentationAugment(mean=preprocessing.mean, std=preprocessing.std),
                device=device,
                criterion=CrossEntropyLoss(ignore_index=metadata.ignore_index),
                on_batch=on_batch,
            )
        _ = store.confusion_matrix  # waits for the device
        seconds = time.perf_counter() - start
        progress.message(f"evaluated {total} images in {seconds:.1f} s, {total / max(seconds, 1e-9):.1f} images/s")
    except InvalidArgumentError as error:
        # the loader names the keys of a config, which are others here
        if settings.batch_size > 1 and "cannot share a batch" in str(error):
            raise UsageError(
                f"-s batch_size = {settings.batch_size}: the pictures have different sizes and cannot share a batch; "
                "leave the key out to take one at a time"
            ) from error
        raise
    finally:
        progress.close()
    return store


def _protocol(dataset: "SegmentationDataset", preprocessing: "Preprocessing", settings: _Settings, absent: str) -> str:
    sizes = "each picture at its own size"
    if preprocessing.scale not in (None, 1):
        sizes = f"pictures and masks rescaled by {preprocessing.scale:g}"
    elif preprocessing.shorter_side is not None:
        sizes = f"pictures and masks rescaled to a shorter side of {preprocessing.shorter_side} pixels"
    options = ", ".join(f"{name}={value}" for name, value in settings.predictor_params.items())
    predictor = settings.predictor + (f"({options})" if options else "")
    return (
        f"{settings.split} split of {dataset.metadata.name}, {sizes}, predictor {predictor}, "
        f"{settings.precision}, absent={absent}"
    )


def _results(store: "MetricStore", labels: Sequence[str]) -> dict[str, Any]:
    """Returns the keys `scores`, `per_class` and `confusion_matrix` of the report."""
    matrix, scores = store.confusion_matrix, store.summarize()
    per_class = {
        label: {
            **{key: scores[f"{key}_per_class"][index] for key in ("iou", "acc", "dice")},
            "pixels": int(matrix[index].sum()),
        }
        for index, label in enumerate(labels)
    }
    means = {key: scores.get(key) for key in ("miou", "acc", "macc", "fwiou", "dice", "loss")}
    return {"scores": means, "per_class": per_class, "confusion_matrix": matrix.tolist()}


def _versions() -> dict[str, str]:
    from seg_train.run_folder import describe_environment

    packages: dict[str, str] = describe_environment()["packages"]
    return packages


def _as_json(report: Mapping[str, Any]) -> str:
    """Returns the report as indented JSON; a row of the confusion matrix takes one line, not one per number."""
    parts = []
    for key, value in _plain(report).items():
        text = json.dumps(value, indent=2, allow_nan=False).replace("\n", "\n  ")
        if key == "confusion_matrix":
            text = "[\n" + ",\n".join(f"    {json.dumps(row)}" for row in value) + "\n  ]"
        parts.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}"


def _plain(value: Any) -> Any:
    """Returns `value` as JSON knows it: what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# ---- table -----------------------------------------------------------------------------------------------------------

_HEADER = ("class", "IoU", "accuracy", "Dice", "pixels")
_TITLES = {
    "miou": "mIoU",
    "acc": "pixel accuracy",
    "macc": "mean accuracy",
    "fwiou": "fwIoU",
    "dice": "Dice",
    "loss": "loss",
}


def _show(report: Mapping[str, Any]) -> None:
    """Prints the protocol, the scores per class and their means, and as the last line the mIoU."""
    rows = [
        (label, *(_number(row[key], "absent") for key in ("iou", "acc", "dice")), str(row["pixels"]))
        for label, row in report["per_class"].items()
    ]
    print(f"{report['model']} on {report['num_images']} images: {report['protocol']}")
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table()
        for place, title in enumerate(_HEADER):
            table.add_column(title, justify="right" if place else "left")
        for name, *values in rows:
            table.add_row(escape(name), *values)
        Console().print(table)
    else:
        widths = [max(len(row[place]) for row in (_HEADER, *rows)) for place in range(len(_HEADER))]
        for name, *values in (_HEADER, *rows):
            cells = [f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True)]
            print("  ".join([f"{name:<{widths[0]}}", *cells]))
    print()
    width = max(map(len, _TITLES.values()))
    for key, title in _TITLES.items():
        print(f"{title:<{width}}  {_number(report['scores'][key], 'none')}")
    print(f"mIoU {report['scores']['miou']:.4f}")


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None or math.isnan(value) else f"{value:.4f}"


EVAL = Command(
    configure=_configure,
    run=_run,
    description="Scores a model on a data set as the trainer's evaluation does: progress on stderr, scores on stdout.",
    epilog=_EPILOG,
)
