"""Model files, checkpoints of runs and of others: damaged bytes, and descriptions that are well-formed and absurd."""

import collections
import copy
import functools
import io
import pickle
import random
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import seg_models
from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, read_model_info, save_model
from seg_core.errors import UserError
from seg_core.model_files.checkpoint_file import read_tensors
from seg_core.model_files.digest import digest_of
from seg_core.model_files.foreign_pickle import consent, foreign_parts
from seg_core.registry import MODELS
from seg_train.run.checkpoint import load_checkpoint, save_checkpoint
from tests.fuzz.harness import Difference, Harness
from tests.fuzz.mutations import damaged, hostile_value

_KINDS = ("model", "checkpoint", "plain", "inert", "safetensors")
_SEPARATOR = b"\n"  # between the kind and the contents of an input
_IMAGE = np.zeros((40, 30, 3), np.uint8)


class _Tiny(nn.Module):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, width, padding=width // 2)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.conv(images)}


def _tiny(*, weights: Any = None, num_classes: int = 2, variant: str | None = None, width: int = 1) -> nn.Module:
    model = _Tiny(num_classes, width)
    model.build_spec = BuildSpec("fuzz_tiny", variant or "paper", {"num_classes": num_classes, "width": width})  # type: ignore[assignment]
    return model


if "fuzz_tiny" not in MODELS:
    MODELS.register("fuzz_tiny", _tiny)


@functools.cache
def _content(builder: str) -> dict[str, Any]:
    """Returns what a sound model file holds."""
    torch.manual_seed(0)
    model = _tiny(width=3) if builder == "fuzz_tiny" else seg_models.enet(num_classes=2)
    labels = DatasetMetadata(name="two", labels=("left", "right"), colors=((1, 2, 3), (4, 5, 6)))
    described = {"metadata": labels, "preprocessing": Preprocessing(scale=0.5), "metrics": {"miou": 0.5}}
    return _read_back(lambda path: save_model(model, path, **described))


@functools.cache
def _checkpoint() -> dict[str, Any]:
    state = {"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(3)}
    optimizer = {"state": {0: state}, "param_groups": [{"lr": 0.1}]}
    return _read_back(lambda path: save_checkpoint(path, {"model": state, "epoch": 1, "optimizer": optimizer}))


def _read_back(write: Callable[[Path], object]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        write(path)
        content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def _saved(content: Any, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.8)
    return buffer.getvalue()


def _places(value: Any, depth: int = 0, seen: set[int] | None = None) -> list[tuple[Any, Any]]:
    """Returns the containers within a value, each once, with each of its keys."""
    seen = set() if seen is None else seen
    if id(value) in seen or depth > 6:
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    if items:
        seen.add(id(value))
    inner = [place for _, part in items[:100] for place in _places(part, depth + 1, seen)]
    return [(value, key) for key, _ in items] + inner


def _absurd(content: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns a content in which a few values are others, with a digest that is right."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        tensors = rng.random() < 0.2  # most faults of tensors are found by their shapes
        places = [p for p in _places(content) if tensors or not isinstance(p[0][p[1]], torch.Tensor)]
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("weights", "width", "num_classes", "x", "backbone", 3, ("a", ((), ()))))] = _value(rng)
        elif kind == 2:  # a container that holds itself
            holder[key] = holder if rng.random() < 0.2 else [holder[key]] * rng.choice((1, 2, 1000))
        else:
            holder[key] = _value(rng)
    content.pop("digest", None)
    try:
        content["digest"] = digest_of(content)
    except (TypeError, RecursionError, ValueError, RuntimeError):
        content["digest"] = "0" * 64
    return content


def _value(rng: random.Random) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        shape = rng.choice(((), (0,), (2, 3, 3, 3), (2,), (1, 1, 1, 1, 1)))
        return torch.zeros(shape, dtype=rng.choice((torch.float32, torch.int64, torch.bool, torch.complex64)))
    if kind == 1:
        return torch.ones(2, 2).to_sparse() if rng.random() < 0.3 else torch.zeros(1).expand(10**6)
    if kind == 2:
        return (collections.OrderedDict(a=1), {1, 2}, b"bytes", torch.float16, torch.Size((1, 2)))[rng.randrange(5)]
    return hostile_value(rng)


def _with_pickle(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Returns a file of torch whose pickle is changed, and whose checksums are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as former, zipfile.ZipFile(buffer, "w") as archive:
        for name in former.namelist():
            content = former.read(name)
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return buffer.getvalue()


def _foreign(rng: random.Random) -> dict[str, Any]:
    """Returns a checkpoint as other projects write them, which hold more than tensors."""
    state = {"conv.weight": torch.zeros(2, 3, 3, 3), "conv.bias": torch.zeros(2)}
    extra = (np.float64(1.0), np.arange(3), Path("x"), nn.Linear(1, 1), slice(1, 2), complex(1, 2), range(3), {1})
    return {"state_dict": state, "ema": dict(state), "meta": rng.choice(extra), "epoch": _value(rng)}


def _make(rng: random.Random) -> bytes:
    kind = rng.choice(_KINDS)
    if kind == "safetensors" and find_spec("safetensors") is None:
        kind = "plain"
    if kind == "safetensors":
        from safetensors.torch import save

        data = damaged(save({"conv.weight": torch.zeros(2, 3, 3, 3), "conv.bias": torch.zeros(2)}), rng)
        return kind.encode() + _SEPARATOR + data
    content: Any = {
        "model": lambda: _content("enet" if rng.random() < 0.03 else "fuzz_tiny"),
        "checkpoint": _checkpoint,
        "plain": lambda: {"conv.weight": torch.zeros(2, 3, 3, 3), "conv.bias": torch.zeros(2)},
        "inert": lambda: _foreign(rng),
    }[kind]()
    way = rng.random()
    if way < 0.5:
        content = _absurd(content, rng)
    try:
        data = _saved(content, rng)
    except (RuntimeError, TypeError, RecursionError, AttributeError, ValueError, pickle.PicklingError):
        data = _saved([], rng)
    if way >= 0.75:
        is_zip = data.startswith(b"PK")  # else it has torch's earlier format
        data = _with_pickle(data, lambda content: damaged(content, rng)) if is_zip else damaged(data, rng)
    elif way >= 0.5:
        data = damaged(data, rng)
    return kind.encode() + _SEPARATOR + data


def _attempt(data: bytes, folder: Path) -> None:
    kind, _, contents = data.partition(_SEPARATOR)
    path = folder / ("x.safetensors" if kind == b"safetensors" else "x.pt")
    path.write_bytes(contents)
    ways: list[Callable[[], object]] = [lambda: read_tensors(path), lambda: _loaded(path)]
    if kind == b"checkpoint":
        ways.append(lambda: load_checkpoint(path))
    if kind in (b"plain", b"safetensors"):
        ways.append(lambda: seg_models.create("fuzz_tiny", weights=path, width=3))
    if kind == b"inert":
        foreign_parts(path)
        ways.append(lambda: _with_consent(path))
    refusals = []
    for way in ways:
        try:
            way()
        except UserError as error:
            refusals.append(error)
    if len(refusals) == len(ways):
        raise refusals[-1]


def _with_consent(path: Path) -> None:
    with consent():
        read_tensors(path)


def _loaded(path: Path) -> None:
    """Loads a model file and predicts an image with it; what loads must be what the description says."""
    info = read_model_info(path)
    model = load_model(path)
    if model.model_info != info:
        raise Difference("load_model and read_model_info say different things of the same file")
    prediction = seg_models.Predictor(model, device="cpu")(_IMAGE)
    if prediction.labels.shape[-2:] != _IMAGE.shape[:2]:
        raise Difference(f"an image of {_IMAGE.shape[:2]} has labels of {tuple(prediction.labels.shape)}")


def _doubling() -> bytes:
    """Returns a pickle of lists that hold the former one twice, 60 deep."""
    value: Any = []
    for _ in range(60):
        value = [value, value]
    return b"inert" + _SEPARATOR + _saved({"conv.weight": torch.zeros(1), "x": value}, random.Random(0))


def _nested_keys() -> bytes:
    """Returns a model file with a key of nested tuples, whose hash takes time that doubles with each level."""
    # by its operations: a dict of Python would need the hash too
    nested = b")" + b"".join(b"q%ch%c\x86" % (number, number) for number in range(40))
    return (
        b"model" + _SEPARATOR + _with_pickle(_saved([], random.Random(1)), lambda _: b"\x80\x02}" + nested + b"K\x01s.")
    )


HARNESS = Harness(_make, _attempt, ".model", {"doubling": _doubling, "nested-keys": _nested_keys})
