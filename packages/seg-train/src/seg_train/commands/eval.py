"""`seg eval`: the scores of a model on a dataset, as the trainer's evaluation computes them.

`--json` writes one object. Its keys stay; others may come:

- `model`, `weights`, `dataset`, `split`: as named on the command line or by the run; `weights` is null for a run and a
  model file, and the member's own name for `DEFAULT`.
- `num_images`: number of images scored.
- `protocol`: how the scores were measured, see `seg_core.EvaluationProtocol`; `protocol_text`: the same in a sentence.
- `settings`: `root`, `params`, `resize` (as used, `{}` where each image keeps its size), `scale` and `shorter_side` (of
  it, null where it is another form), `tile`, `overlap`, `scales`, `hflip`, `predictor`, `predictor_params`,
  `batch_size`, `device` (the one used) and `precision`.
- `scores`: `miou`, `acc`, `macc`, `fwiou`, `dice` (see `seg_core.scores_from_confusion`), each 0 to 1, and `loss`, the
  mean cross entropy of all pixels (null where the way of predicting gives no logits, or with `-s loss=false`).
- `per_class`: class name -> `iou`, `acc`, `dice` (0 to 1), and `pixels`, those of the class in the masks.
- `confusion_matrix`: K lists of K pixel counts; rows are truth, columns are predictions, both in the order of
  `per_class`.
- `versions`: package -> version.

A score of what does not occur, not a number, is null.
"""

import argparse
import importlib.util
import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import DatasetEntry, ModelEntry
from seg_core.command import Command
from seg_core.errors import InvalidArgumentError, UnknownNameError, UsageError, nearest
from seg_core.registry import DATASETS, MODELS, PREDICTORS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from seg_core.interfaces import Predict, SegmentationDataset
    from seg_core.metrics.metric_store import MetricStore
    from seg_core.transforms.preprocessing import Preprocessing
    from seg_train.data.batches import Batch
    from seg_train.run.ways import Way, WayOptions

__all__ = ["EVAL"]

_EPILOG = """\
examples:
  seg eval runs/enet-camvid                                the last weights of a run, as the run evaluated them
  seg eval runs/enet-camvid/model_best.pt CamVid -s root=data/camvid
  seg eval runs/enet-camvid/model.pt CamVid -s root=data/camvid -s split=test --json scores.json
  seg eval fcn_resnet50 VOC --weights DEFAULT -s root=data/voc --json > scores.json

Masks are never resized: where images are, the logits are resized to the masks. A model of a run is evaluated as the run
evaluated it, at the same size and in the same way, unless -s says otherwise.

keys of -s (KEY=VALUE, the value in TOML's syntax):
  root              folder of the dataset
  split             split to score on; val
  params            table of the dataset's other options, as in -s params.metadata=classes.toml
  resize            what images are resized to for the network: {scale = 0.5}, {shorter_side = 512},
                    {longer_side = 1024} or {size = [512, 1024]}, {} for their own size; that of the model
  scale             the same as resize.scale
  tile              predict in tiles of that many pixels, one number or [height, width]; that of the run, or none
  overlap           fraction of a tile that the next one overlaps; 0.5
  scales            factors of test-time augmentation, as [0.75, 1, 1.25]; those of the run, or none
  hflip             test-time augmentation by mirrored images; that of the run, or false
  predictor         another way of predicting; that of the run, or whole
  predictor_params  table of its options
  loss              whether to compute the loss too; true
  batch_size        images at a time; that of the run where it names the dataset too, else 1. Those of unlike size are
                    computed one by one
  num_workers       reading processes; 2
  device            auto, cuda, mps or cpu; auto
  precision         fp32, bf16, or on a GPU fp16; fp32, or that of the run where MODEL is a run folder

The JSON has the keys model, weights, dataset, split, num_images, protocol, protocol_text, settings, scores (miou, acc,
macc, fwiou, dice, loss), per_class (class name -> iou, acc, dice, pixels), confusion_matrix (rows are ground truth) and
versions. What has no value, as the IoU of a class that does not occur, is null.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a run folder, a model file (training writes model.pt), or a model's name"
    )
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="a name from `seg datasets`; that of the run where left out"
    )
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


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_tile(value: object) -> bool:
    return _is_integer(value, 1) or (
        isinstance(value, list) and len(value) == 2 and all(_is_integer(length, 1) for length in value)
    )


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


@dataclass(frozen=True)
class _Settings:
    """What `-s` sets; a field is a key. None where it was left out."""

    root: str | None = None
    split: str | None = None
    batch_size: int | None = None
    num_workers: int = 2
    device: str = "auto"
    precision: str | None = None
    resize: dict[str, Any] | None = None
    scale: float | None = None
    tile: int | list[int] | None = None
    overlap: float | None = None
    scales: list[float] | None = None
    hflip: bool | None = None
    predictor: str | None = None
    predictor_params: dict[str, Any] = field(default_factory=dict)
    loss: bool = True
    params: dict[str, Any] = field(default_factory=dict)

    def way(self) -> "WayOptions | None":
        """Returns how images are predicted, or None where nothing says so."""
        from seg_train.run.ways import WayOptions

        if not (set(_WAY_KEYS) & self.given):
            return None
        tile = (self.tile, self.tile) if isinstance(self.tile, int) else self.tile
        return WayOptions(
            None if tile is None else (tile[0], tile[1]),
            self.overlap,
            None if self.scales is None else tuple(map(float, self.scales)),
            bool(self.hflip),
            self.predictor or "whole",
            self.predictor_params,
        )

    @property
    def given(self) -> set[str]:
        """The keys that differ from their defaults."""
        return {f.name for f in fields(self) if getattr(self, f.name) not in (None, {})}


_WAY_KEYS = ("tile", "overlap", "scales", "hflip", "predictor", "predictor_params")

# key -> whether a value is allowed, and what is, in words
_ALLOWED: dict[str, tuple[Callable[[object], bool], str]] = {
    "root": (_is_text, "a folder; a name that is a number needs TOML's quotes, as in -s 'root=\"2012\"'"),
    "split": (_is_text, "the name of a split, such as val; one that is a number needs TOML's quotes"),
    "batch_size": (lambda v: _is_integer(v, 1), "an integer >= 1"),
    "num_workers": (lambda v: _is_integer(v, 0), "an integer >= 0; 0 reads without further processes"),
    "device": (lambda v: v in ("auto", "cuda", "mps", "cpu"), "auto, cuda, mps or cpu"),
    "precision": (lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "resize": (lambda v: isinstance(v, dict), "a table, as {scale = 0.5}; leave it out to take the model's"),
    "scale": (_is_factor, "a factor above 0, such as 0.5; leave it out to take the model's"),
    "tile": (_is_tile, "pixels, one integer >= 1 or [height, width]"),
    "overlap": (_is_fraction, "a fraction 0 to below 1 of a tile"),
    "scales": (
        lambda v: isinstance(v, list) and bool(v) and all(map(_is_factor, v)),
        "a list of factors above 0, as [0.75, 1, 1.25]",
    ),
    "hflip": (lambda v: isinstance(v, bool), "true or false"),
    "predictor": (_is_text, "the name of a way of predicting, such as whole"),
    "predictor_params": (lambda v: isinstance(v, dict), "a table, set as in -s predictor_params.name=value"),
    "loss": (lambda v: isinstance(v, bool), "true or false"),
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
    if not problems:
        problems = _contradictions(values)
    if len(problems) > 1:
        raise UsageError(f"-s has {len(problems)} problems:" + "".join(f"\n  {problem}" for problem in problems))
    if problems:
        raise UsageError(problems[0])
    return _Settings(**values)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with keys that do not go together."""
    problems = []
    if "scale" in values and "resize" in values:
        problems.append("-s scale and -s resize say the same in two ways; leave out one of them")
    if "overlap" in values and "tile" not in values:
        problems.append(f"-s overlap = {values['overlap']}: is that of tiles; set tile too, or leave it out")
    short = [key for key in ("tile", "scales", "hflip") if values.get(key) not in (None, False)]
    own = [key for key in ("predictor", "predictor_params") if values.get(key) not in (None, {}, "whole")]
    if short and own:
        problems.append(f"-s {own[0]} cannot be used together with {', '.join(short)}; leave out one or the other")
    return problems


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


def _check_way(options: "WayOptions", source: str) -> None:
    """Checks that there is such a way of predicting and that it takes its options.

    Args:
        options: how images are predicted.
        source: who says so, for the message.

    Raises:
        UnknownNameError: if there is none of that name.
        UsageError: if it does not take the options.
    """
    try:
        predict: Predict = PREDICTORS.get(options.predictor)
    except UnknownNameError as error:
        if source == "-s":
            raise
        raise UnknownNameError(
            f"{source} was evaluated in a way that is not known here: {error}; take another one by -s predictor=whole"
        ) from error
    given = [*list(inspect.signature(predict).parameters)[:2], "size", "output"]  # what evaluations hand over
    what = f"predictor {options.predictor!r}"
    _check_options("predictor_params", what, predict, options.params, given)


@dataclass(frozen=True)
class _Target:
    """What is to be scored.

    Attributes:
        model: a model file, or a model's name.
        weights: of a model by name; None for a file.
        run: the run folder that was named, or None.
        dataset: name of the dataset.
        root: its folder, or None.
        split: of the dataset.
        params: its other options.
        batch_size: images at a time: a run's own repeats its scores to the last bit, since the size of a batch shows
            in the last bits of logits.
    """

    model: str
    weights: str | None
    run: str | None
    dataset: str
    root: str | None
    split: str
    params: Mapping[str, Any]
    batch_size: int


def _find_target(model: str, weights: str | None, dataset: str | None, settings: _Settings) -> _Target:
    """Settles model and dataset; those of a run folder come from its config. Nothing is loaded yet.

    Raises:
        UnknownNameError: if there is no such model.
        UsageError: if they do not go together, or there is no dataset.
        ConfigError: if the config of the run is wrong.
    """
    section = None
    run = None
    batch_size = settings.batch_size or 1
    if Path(model).is_dir() and model not in MODELS:
        from seg_train.run.folder import RunFolder

        folder = RunFolder(model)
        if not folder.model.is_file():
            raise UsageError(f"{model} is a folder without a model.pt; give a run folder or the path of a model file")
        if weights is not None:
            raise UsageError(f"--weights {weights} cannot be used with run {model}, which holds its own; leave it out")
        others = [path.name for path in (folder.model_best, folder.model_ema) if path.is_file()]
        beside = f"; it also has {' and '.join(others)}" if others else ""
        print(f"seg: evaluating the last weights of the run, {folder.model}{beside}", file=sys.stderr)
        run, model = model, str(folder.model)
        if dataset is None:
            config = folder.load_config()
            section = config.data.dataset
            batch_size = settings.batch_size or config.evaluation.batch_size
    else:
        weights = _settle_weights(model, weights)
    if section is not None:
        dataset = section.name
    if dataset is None:
        raise UsageError("name a DATASET to score on, from `seg datasets`; only a run folder knows its own")
    split = settings.split or (section.val_split if section is not None else "val")
    root = settings.root or (section.root if section is not None else None)
    params = settings.params or (section.params if section is not None else {})
    return _Target(model, weights, run, dataset, root, split, params, batch_size)


def _open_dataset(name: str, settings: _Target) -> "SegmentationDataset":
    """Opens the split of the dataset.

    Raises:
        UnknownNameError: if there is no such dataset.
        UsageError: if it wants a root, or does not know the split or an option.
        InvalidArgumentError: if the split is empty.
        UserError: what the dataset raises, for a missing folder say.
    """
    entry = DATASETS.entry(name)
    if isinstance(entry, DatasetEntry) and entry.needs_root and settings.root is None:
        raise UsageError(
            f"dataset {name!r} reads files: name its folder by -s root=DIR; `seg datasets show {name}` prints the "
            "layout expected there"
        )
    kind = DATASETS.get(name)
    if isinstance(entry, DatasetEntry):
        # official names of splits beside our own
        names = getattr(kind, "split_names", lambda: entry.splits)()
        if names and settings.split not in names:
            raise UsageError(
                f"dataset {name!r} has no split {settings.split!r}.{nearest(settings.split, names)} "
                f"Splits: {', '.join(names)}; set one by -s split=NAME"
            )
    _check_options("params", f"dataset {name!r}", kind, settings.params, ("root", "split", "transforms"))
    dataset: SegmentationDataset = kind(settings.root, split=settings.split, **settings.params)
    if not len(dataset):
        raise InvalidArgumentError(f"the {settings.split} split of {name!r} has no images; choose another split")
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
        InvalidArgumentError: if the weights leave a part of the network unfilled, or it takes no RGB images.
        UserError: what the builder or the file's reader raise.
    """
    if weights is None:
        from seg_core.model_files.model_file import load_model

        network = load_model(model)
    else:
        network = MODELS.get(model)(weights=weights)
        unfilled = getattr(network, "randomly_initialized", ())
        if unfilled:
            raise InvalidArgumentError(
                f"--weights {weights} do not fill {len(unfilled)} tensors of {model!r}, as {unfilled[0]}, so scores "
                "would be those of random numbers; take weights of this network"
            )
    channels = _built_with(network, "in_channels", 3)
    if channels != 3:
        raise InvalidArgumentError(
            f"model {model!r} takes {channels} channels, and datasets give RGB images; evaluate it by a loop of "
            "your own"
        )
    return network


def _built_with(network: "nn.Module", argument: str, otherwise: Any = None) -> Any:
    spec = getattr(network, "build_spec", None)
    return otherwise if spec is None else spec.arguments.get(argument, otherwise)


def _settle_preprocessing(
    model: str, network: "nn.Module", dataset: "SegmentationDataset", resize: Mapping[str, Any] | None
) -> "Preprocessing":
    """Compares the classes of model and dataset, and returns what images go through.

    A difference of names alone is a warning on stderr: that of spelling is none of meaning.

    Args:
        model: as the user named it, for messages.
        network: with `model_info` where the file or the weights say so.
        dataset: to score on.
        resize: the user's, or None for the model's.

    Raises:
        UsageError: if the numbers of classes differ, or there is no such resize.
    """
    from seg_core.transforms.preprocessing import Preprocessing

    metadata, info = dataset.metadata, getattr(network, "model_info", None)
    count = _built_with(network, "num_classes") if info is None else info.metadata.num_classes
    if count not in (None, metadata.num_classes):
        trained_on = "" if info is None else f" ({info.metadata.name})"
        raise UsageError(
            f"model {model!r} has {count} classes{trained_on}, but the dataset has {metadata.num_classes} "
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
                    f"class {index} is {ours!r} for the model ({info.metadata.name}) and {theirs!r} in the dataset "
                    f"({metadata.name}); the scores compare classes by their numbers"
                )
                break
    if resize is None:
        return preprocessing
    try:
        return preprocessing.with_resize(resize)
    except InvalidArgumentError as error:
        raise UsageError(f"-s resize: {error}") from error


def _warn(text: str) -> None:
    print(f"seg: warning: {text}", file=sys.stderr)


# ---- command ---------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from seg_core.metrics.protocol import EvaluationProtocol, digest_of_dataset
    from seg_train.run.ways import Way, WayOptions

    settings = _read_settings(arguments.set)
    _check_target(arguments.json, arguments.model, arguments.weights)
    target = _find_target(arguments.model, arguments.weights, arguments.dataset, settings)
    options = settings.way()
    if options is not None:
        _check_way(options, "-s")
    device = _choose_device(settings.device)
    # before the network: a wrong folder shows before weights are downloaded
    dataset = _open_dataset(target.dataset, target)
    network = _load(target.model, target.weights)
    resize = {"scale": settings.scale} if settings.scale is not None else settings.resize
    preprocessing = _settle_preprocessing(target.model, network, dataset, resize)
    protocol = _protocol_of(network)
    if options is None:
        options = WayOptions.of_protocol(protocol)
        _check_way(options, target.model)
    precision = settings.precision or (protocol.get("precision", "fp32") if target.run is not None else "fp32")
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("precision fp16 needs a GPU; set -s precision=bf16 or fp32")
    way = Way(options, dataset.metadata)
    network = network.to(device)
    store = _evaluate(network, dataset, preprocessing, way, device, precision, target.batch_size, settings)

    measured = EvaluationProtocol(
        dataset=dataset.metadata.name,
        split=target.split,
        digest=digest_of_dataset(dataset),
        num_images=len(dataset),
        classes=dataset.metadata.labels,
        resize=preprocessing.resize,
        absent=store.absent,
        precision=precision,
        **options.protocol(),
    )
    plain = measured.to_dict()
    report = {
        "model": arguments.model,
        "weights": target.weights,
        "dataset": target.dataset,
        "split": target.split,
        "num_images": len(dataset),
        "protocol": plain,
        "protocol_text": str(measured),
        "settings": {
            "root": target.root,
            "params": target.params,
            "resize": preprocessing.resize,
            "scale": preprocessing.scale,
            "shorter_side": preprocessing.shorter_side,
            **{key: plain[key] for key in ("tile", "overlap", "scales", "hflip", "predictor")},
            "predictor_params": options.params,
            "batch_size": target.batch_size,
            "device": device.type,
            "precision": precision,
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
        from seg_core.files.atomic import write_text

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


def _protocol_of(network: "nn.Module") -> Mapping[str, Any]:
    """Returns how a run evaluated the network, `{}` where its file does not say."""
    protocol = getattr(getattr(network, "model_info", None), "protocol", {})
    return protocol if isinstance(protocol, Mapping) else {}


def _evaluate(
    network: "nn.Module",
    dataset: "SegmentationDataset",
    preprocessing: "Preprocessing",
    way: "Way",
    device: "torch.device",
    precision: str,
    batch_size: int,
    settings: _Settings,
) -> "MetricStore":
    """Returns the store with the results on all of `dataset`; progress goes to stderr.

    Raises:
        UserError: if a sample cannot be read or does not fit its metadata.
    """
    import torch

    from seg_core.metrics.metric_store import MetricStore
    from seg_core.progress import make_progress
    from seg_core.transforms.evaluation import EvaluationTransform
    from seg_train.data.batches import Loader, evaluation_plan
    from seg_train.losses.cross_entropy import CrossEntropyLoss
    from seg_train.run.evaluate import evaluate_batches
    from seg_train.run.validation_loss import SplitLoss

    metadata, total = dataset.metadata, len(dataset)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    transform = EvaluationTransform(preprocessing)
    loader = Loader(
        dataset,
        transform,
        num_workers=settings.num_workers,
        pin_memory=device.type == "cuda",
        splits_unlike_sizes=True,
    )
    loss = None
    if settings.loss:
        loss = SplitLoss(CrossEntropyLoss(ignore_index=metadata.ignore_index), metadata.ignore_index)
    progress = make_progress()
    done, start = 0, time.perf_counter()

    def on_batch(batch: "Batch", labels: "Tensor") -> None:  # noqa: ARG001 - as evaluate_batches calls it
        nonlocal done
        done += len(batch.indices)
        progress.part("evaluating", done, total)

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    try:
        # around the predictor and the loss too, as in the trainer
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            evaluate_batches(
                network,
                loader.read(evaluation_plan(total, batch_size)),
                store,
                way=way,
                transform=transform,
                device=device,
                loss=loss,
                on_batch=on_batch,
            )
        _ = store.confusion_matrix  # waits for the device
        seconds = time.perf_counter() - start
        progress.message(f"evaluated {total} images in {seconds:.1f} s, {total / max(seconds, 1e-9):.1f} images/s")
    finally:
        progress.close()
    if loss is not None and loss.is_measured:
        store.store_measures(1, {"loss": loss.value()})
    return store


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
    from seg_train.run.folder import describe_environment

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
    print(f"{report['model']} on {report['num_images']} images: {report['protocol_text']}")
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
    description="Scores a model on a dataset as the trainer's evaluation does: progress on stderr, scores on stdout.",
    epilog=_EPILOG,
)
