"""Public functions: arrays of any type, shape and layout must give what the plain tensor of the same values gives."""

import copy
import json
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import seg_models
import seg_train
from seg_core import (
    DatasetMetadata,
    LabelMap,
    MetricStore,
    Preprocessing,
    SegmentationAugment,
    SegmentationTransform,
    argmax_labels,
    class_weights,
    colorize,
    overlay,
    scores_from_confusion,
    threshold_labels,
)
from seg_core.errors import UserError
from tests.fuzz.harness import Difference, Harness

FLOATS = ("float32", "float32", "float16", "bfloat16", "float64")
INTEGERS = ("uint8", "int64", "int32", "int16", "uint16", "int8", "uint32", "uint64", "bool")
VALUES = ("plain", "plain", "plain", "ignored", "out of range", "negative", "nan", "inf", "huge")
_UNDECIDED = ("nan", "inf", "huge")  # results may depend on the order of sums
TENSORS = ("transposed", "strided", "offset", "channels_last", "expanded", "grad", "inference")
ARRAYS = ("array", "negative strides", "fortran", "read-only", "big-endian", "strided array")
_THREE = DatasetMetadata("three", ("a", "b", "c"))
_PLANES = DatasetMetadata("planes", ("a", "b", "c"), task="multilabel")


class _Net(nn.Module):
    """A network whose output is its input, mixed: three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.conv(images)}


_NET = _Net().eval()


@dataclass(frozen=True)
class Target:
    """A function to try.

    Attributes:
        call: takes the arrays and a random generator for options, and returns what is compared.
        shapes: of the arrays, in letters of sizes, such as `"NKHW"`; digits are themselves.
        floats: for each array whether it holds floats.
        arrays: whether arrays of NumPy are taken as tensors are.
        only_arrays: whether the arrays are laid out as those of NumPy only, since a tensor of an image has its channels
            first.
        dtypes: of the array of a number, in place of `FLOATS` or `INTEGERS`.
    """

    call: Callable[..., Any]
    shapes: tuple[str, ...]
    floats: tuple[bool, ...]
    arrays: bool = False
    only_arrays: bool = False
    dtypes: dict[int, tuple[str, ...]] = field(default_factory=dict)


def _metrics(truths: Any, preds: Any, rng: random.Random) -> Any:
    store = MetricStore(3)
    store.store_results(truths, preds)
    return store.confusion_matrix


def _metrics_of_planes(truths: Any, preds: Any, scores: Any, rng: random.Random) -> Any:
    store = MetricStore(3, task="multilabel")
    store.store_results(truths, preds, scores)
    return store.confusion_matrix, store.summarize()


def _loss(logits: Any, target: Any, rng: random.Random) -> Any:
    name = rng.choice([n for n in seg_train.__all__ if n.endswith("Loss")])
    options: dict[str, Any] = {"reduction": rng.choice(("mean", "sum", "none"))}
    if name == "CombinedLoss":
        options = {"losses": [seg_train.DiceLoss(), seg_train.CrossEntropyLoss()]}
    if name in ("DetailLoss", "BoundaryAwareLoss"):
        options = {}
    loss = getattr(seg_train, name)(**options)

    def others(x: Any) -> list[Any]:
        boundary = x.detach()[:, :1] if isinstance(x, Tensor) and x.ndim > 1 else x
        return [boundary] if name == "BoundaryAwareLoss" else []

    if not isinstance(logits, Tensor) or logits.is_inference() or not logits.is_floating_point():
        return loss(logits, target, *others(logits))
    leaf = logits.detach().requires_grad_()  # has the layout of the logits
    result = loss(leaf, target, *others(leaf))
    result.sum().backward()
    return result.detach(), leaf.grad


def _label_map(labels: Any, rng: random.Random) -> Any:
    mapping = {0: 2, 1: 0, 2: 1, 255: 255} if rng.random() < 0.5 else {0: 0, 7: 300, 30_000: 2}
    found = LabelMap(mapping, unlisted=rng.choice(("error", "ignore")))(labels)
    return found.astype(np.int64) if isinstance(found, np.ndarray) else found.long()  # tensors have fewer types


def _transformed(image: Any, mask: Any, rng: random.Random) -> Any:
    size = rng.choice((None, (4, 6)))
    transform = SegmentationTransform(size, scale_range=None if size is None else (0.5, 2.0))
    return transform(image, mask, generator=torch.Generator().manual_seed(1))


def _augmented(images: Any, masks: Any, rng: random.Random) -> Any:
    options = rng.choice(
        ({}, {"hflip": 0.5, "rotation_range": (-9, 9)}, {"color_jitter": (0.3, 0.3, 0.3, 0.1), "blur": 0.5})
    )
    augment = SegmentationAugment(**{k: v for k, v in options.items() if k != "blur"})
    return augment(images, masks, generator=torch.Generator().manual_seed(1))


def _tiled(images: Any, rng: random.Random) -> Any:
    return seg_models.predict_tiled(_NET, images, tile=4, output=rng.choice(("logits", "labels")))


def _predicted(image: Any, rng: random.Random) -> Any:
    predictor = seg_models.Predictor(
        _NET, metadata=_THREE, preprocessing=Preprocessing(scale=rng.choice((None, 0.5))), device="cpu"
    )
    found = predictor(image)
    return [one.labels for one in found] if isinstance(found, list) else found.labels


def _weights(counts: Any, rng: random.Random) -> Any:
    return class_weights(counts, rng.choice(("inverse", "inverse_sqrt", "inverse_log", "effective_number", "enet")))


TARGETS = {
    "argmax_labels": Target(lambda x, rng: argmax_labels(x), ("NKHW",), (True,)),
    "threshold_labels": Target(
        lambda x, rng: threshold_labels(x, rng.choice((0.5, 0.3, [0.1, 0.5, 0.9]))), ("N3HW",), (True,)
    ),
    "labels_from_logits": Target(
        lambda x, rng: seg_models.labels_from_logits(x, (7, 9), align_corners=rng.random() < 0.5), ("NKHW",), (True,)
    ),
    "MetricStore": Target(_metrics, ("NHW", "NHW"), (False, False), True),
    "MetricStore of planes": Target(_metrics_of_planes, ("N3HW", "N3HW", "N3HW"), (False, False, True), True),
    "scores_from_confusion": Target(lambda x, rng: scores_from_confusion(x), ("33",), (False,), True),
    "class_weights": Target(_weights, ("3",), (False,), True),
    "colorize": Target(lambda x, rng: colorize(x, _THREE), ("HW",), (False,), True),
    "colorize planes": Target(lambda x, rng: colorize(x, _PLANES), ("3HW",), (False,), True),
    "overlay": Target(
        lambda x, y, rng: overlay(_image(x), y, _THREE, contours=True), ("3HW", "HW"), (True, False), False
    ),
    "LabelMap": Target(_label_map, ("HW",), (False,), True),
    "losses": Target(_loss, ("N3HW", "NHW"), (True, False)),
    "boundary_targets": Target(lambda x, rng: seg_train.boundary_targets(x), ("NHW",), (False,)),
    "detail_targets": Target(lambda x, rng: seg_train.detail_targets(x), ("NHW",), (False,)),
    "SegmentationTransform": Target(_transformed, ("3HW", "HW"), (True, False)),
    "SegmentationTransform of bytes": Target(_transformed, ("HW3", "HW"), (False, False), True, True, {0: ("uint8",)}),
    "SegmentationAugment": Target(_augmented, ("N3HW", "NHW"), (True, False)),
    "Preprocessing": Target(lambda x, rng: Preprocessing().normalize(x), ("N3HW",), (True,)),
    "predict_whole": Target(lambda x, rng: seg_models.predict_whole(_NET, x), ("N3HW",), (True,)),
    "predict_tiled": Target(_tiled, ("N3HW",), (True,)),
    "predict_tta": Target(lambda x, rng: seg_models.predict_tta(_NET, x, scales=(1.0, 1.5)), ("N3HW",), (True,)),
    "Predictor": Target(_predicted, ("HW3",), (False,), True, True, {0: ("uint8",)}),
}


def _image(x: Any) -> Any:
    return x


def _make(rng: random.Random) -> bytes:
    name = rng.choice(list(TARGETS))
    target = TARGETS[name]
    sizes = {letter: rng.choice((0, 1, 2, 3, 5, 8, 8, 16)) for letter in "NHW"} | {"K": rng.choice((1, 2, 3, 19, 300))}
    sizes["N"] = min(sizes["N"], 3)
    arguments = []
    for number, (letters, is_float) in enumerate(zip(target.shapes, target.floats, strict=True)):
        shape = [int(letter) if letter.isdigit() else sizes[letter] for letter in letters]
        if rng.random() < 0.03:
            shape = rng.choice((shape[1:], [*shape, 1], [1, *shape], [*shape[:-1], 3], []))
        kinds = target.dtypes.get(number, FLOATS if is_float else INTEGERS)
        if rng.random() < 0.05:
            kinds = (*INTEGERS, *FLOATS, "complex64")
        layouts = TENSORS + (ARRAYS if target.arrays or rng.random() < 0.03 else ())
        layout = rng.choice(ARRAYS if target.only_arrays else layouts)
        arguments.append({"shape": shape, "dtype": rng.choice(kinds), "values": rng.choice(VALUES), "layout": layout})
    if target.arrays and rng.random() < 0.5:  # all of one kind
        layout = rng.choice(ARRAYS)
        arguments = [{**argument, "layout": layout} for argument in arguments]
    return json.dumps({"function": name, "seed": rng.randrange(10**6), "arguments": arguments}, indent=1).encode()


def _plain(description: dict[str, Any], seed: int, is_float: bool) -> Tensor:
    """Returns a contiguous tensor of the type, shape and values that are described."""
    generator = np.random.default_rng(seed)
    shape, values = tuple(description["shape"]), description["values"]
    found = generator.random(shape) * (1 if is_float else 3)
    spots = generator.random(shape) < 0.2
    special = {"ignored": 255, "out of range": 77, "negative": -1, "nan": np.nan, "inf": np.inf, "huge": 1e30}
    if values in special and (is_float or not np.isnan(special[values])):
        found = np.where(spots, special[values], found)
    dtype = getattr(torch, description["dtype"])
    if not (dtype.is_floating_point or dtype.is_complex):
        low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, min(torch.iinfo(dtype).max, 2**53))
        found = np.clip(np.nan_to_num(found), low, high).astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(found)).reshape(shape).to(dtype)


def _laid_out(plain: Tensor, layout: str) -> Any:
    """Returns the same values in another layout, or as an array of NumPy."""
    if layout in ARRAYS:
        if plain.dtype == torch.bfloat16:
            return plain.clone()
        array = np.array(plain.numpy())
        if layout == "negative strides":
            return array[..., ::-1].copy()[..., ::-1] if array.ndim else array
        if layout == "fortran":
            return np.asfortranarray(array)
        if layout == "big-endian":
            return array.astype(array.dtype.newbyteorder(">"))
        if layout == "strided array" and array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        array.flags.writeable = layout != "read-only"
        return array
    if layout == "inference":
        with torch.inference_mode():
            return plain.clone()
    found = plain.clone()
    if layout == "transposed" and plain.ndim > 1:
        return found.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "strided" and plain.ndim:
        return found.repeat_interleave(2, -1)[..., ::2]
    if layout == "offset":
        return torch.cat((found.reshape(-1)[:1], found.reshape(-1)))[min(found.numel(), 1) :].view(plain.shape)
    if layout == "channels_last" and plain.ndim == 4:
        return found.contiguous(memory_format=torch.channels_last)
    if layout == "expanded" and plain.ndim and plain.shape[0]:
        found[:] = found[:1].clone()
        return found[:1].expand(plain.shape)
    if layout == "grad" and (plain.is_floating_point() or plain.is_complex()):
        found.requires_grad_()
    return found


def _outcome(target: Target, arguments: list[Any], seed: int) -> Any:
    try:
        return target.call(*arguments, random.Random(seed))
    except UserError as error:
        return error


def _attempt(data: bytes, folder: Path) -> None:
    case = json.loads(data)
    target, seed = TARGETS[case["function"]], case["seed"]
    plain = [
        _plain(description, seed + number, is_float)
        for number, (description, is_float) in enumerate(zip(case["arguments"], target.floats, strict=True))
    ]
    layouts = [description["layout"] for description in case["arguments"]]
    if "expanded" in layouts:  # whose values are those of its first part
        plain = [_laid_out(p, la).contiguous() if la == "expanded" else p for p, la in zip(plain, layouts, strict=True)]
    given = [_laid_out(p, layout) for p, layout in zip(plain, layouts, strict=True)]
    before = copy.deepcopy([_numbers(value) for value in given])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*NumPy array is not writ.*")
        result = _outcome(target, given, seed)
        expected = _outcome(target, [_numbers(p).copy() if target.only_arrays else p.clone() for p in plain], seed)
    for former, value in zip(before, given, strict=True):
        if not _equal(former, _numbers(value), exact=True):
            raise Difference("an argument was changed")
    if isinstance(result, UserError) or isinstance(expected, UserError):
        foreign = not target.arrays and any(isinstance(value, np.ndarray) for value in given)
        if type(result) is not type(expected) and not foreign:
            raise Difference(f"plain: {_short(expected)}; as {layouts}: {_short(result)}")
        raise result if isinstance(result, UserError) else expected
    if isinstance(expected, tuple) and not isinstance(result, tuple):  # without a gradient
        expected = expected[0]
    # the order of sums may differ, and with it what follows from infinite and huge values
    if all(description["values"] not in _UNDECIDED for description in case["arguments"]):
        half = any(p.dtype in (torch.float16, torch.bfloat16) for p in plain)
        if not _equal(expected, result, exact=False, tolerance=2e-2 if half else 1e-4):
            raise Difference(f"plain: {_short(expected)}; as {layouts}: {_short(result)}")


def _short(result: Any) -> str:
    return f"{type(result).__name__}: {result}"[:300]


def _numbers(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value


def _equal(one: Any, other: Any, *, exact: bool, tolerance: float = 0.0) -> bool:
    one, other = _numbers(one), _numbers(other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(
            _equal(a, b, exact=exact, tolerance=tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and _equal(
            list(one.values()), list(other.values()), exact=exact, tolerance=tolerance
        )
    if one is None or isinstance(one, str):
        return bool(one == other)
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or (not exact and one.dtype.newbyteorder("=") != other.dtype.newbyteorder("=")):
        return False
    if exact or one.dtype.kind in "biu":
        return bool(((one == other) | ((one != one) & (other != other))).all())
    return np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


HARNESS = Harness(_make, _attempt, ".json")
