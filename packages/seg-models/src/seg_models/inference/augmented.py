"""Test-time augmentation: the mean prediction over resized, flipped and rotated copies of an image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_core.checks import is_number
from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import Predict
from seg_core.labels.tasks import MULTICLASS, check_task
from seg_core.metrics.decidable import check_several_channels
from seg_models.inference.adapted import adapt
from seg_models.inference.outputs import check_images
from seg_models.inference.scratch import Scratch, logits_into
from seg_models.inference.whole import predict_whole

__all__ = ["predict_tta", "tta_options"]

_MIN_PROBABILITY = 1e-12  # so that its logarithm is finite
_MAX_PROBABILITY = 1 - 2**-24  # the largest float32 below 1
_STRIP = 2**18  # elements


def predict_tta(
    model: nn.Module,
    images: Tensor,
    scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5),
    hflip: bool = True,
    vflip: bool = False,
    quarter_turns: bool = False,
    left_right_pairs: Sequence[Sequence[int]] | None = None,
    predict: Predict = predict_whole,
    *,
    task: str | None = None,
) -> Tensor:
    """Returns the mean prediction over all combinations of scales, flips and rotations, without gradients.

    Probabilities are averaged in a running sum, so memory does not grow with the number of passes. The result is the
    logarithm of the mean; its softmax is the mean, so it can be used as logits. Of a binary or multilabel task the
    probabilities are sigmoids, and the result is the logit of the mean, whose sigmoid is the mean.

    Args:
        model: a network in eval mode, as for `predict_whole`.
        images: float (N, C, H, W), normalized RGB if C is 3, on the model's device.
        scales: factors of height and width. Images are resized bilinearly, with antialiasing when downscaling; their
            logits are resized back bilinearly.
        hflip: whether to add copies flipped left to right.
        vflip: whether to add copies flipped upside down.
        quarter_turns: whether to add copies rotated by 90, 180 and 270 degrees.
        left_right_pairs: pairs of class ids that are swapped in a mirrored image, such as left and right arm; None
            uses those of the model's metadata, if any.
        predict: function that predicts the logits of each copy, such as `predict_tiled`.
        task: `"multiclass"`, `"binary"` or `"multilabel"`, see `DatasetMetadata`; None takes that of the model's
            metadata, and without metadata multiclass.

    Returns:
        float32 (N, K, H, W), logarithms of the mean probabilities; their logits for a binary or multilabel task.

    Raises:
        InvalidArgumentError: if an argument is out of range, `predict` returns labels, or the network returns other
            than logits, or for a multiclass task those of one class.
    """
    factors = tuple(scales)
    if not factors or not all(is_number(f) and f > 0 for f in factors):
        raise InvalidArgumentError(f"scales must hold at least one factor above 0, got {scales!r}")
    check_images(images)
    if images.dtype != torch.float64:
        images = images.float()  # CPUs cannot resize others
    pairs = _pairs_of(model) if left_right_pairs is None else left_right_pairs
    is_multiclass = check_task(_task_of(model) if task is None else task) == MULTICLASS
    model = adapt(model)
    height, width = images.shape[-2:]
    sizes = [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]
    room = max(h * w for h, w in sizes)
    scratch, scratch_of_size = Scratch(), Scratch()
    total: Tensor | None = None
    passes = 0
    with torch.no_grad():
        for size in sizes:
            resized = _resized(images, size)
            for turns, upside_down, mirrored in _copies(hflip, vflip, quarter_turns):
                augmented = _augment(resized, turns, upside_down, mirrored)
                if predict is predict_whole:
                    logits = logits_into(scratch, model, augmented, room)
                else:
                    logits = predict(model, augmented)
                if not logits.is_floating_point():
                    raise InvalidArgumentError("predict must return logits, got labels: set its output to logits")
                if is_multiclass:
                    check_several_channels(logits)
                if turns or upside_down:  # a horizontal flip alone is undone when it is added
                    logits = _undo(logits, turns, upside_down, mirrored)
                logits = logits.float()
                if tuple(logits.shape[-2:]) != (height, width):
                    logits = scratch_of_size.resize(logits, (height, width))
                if total is None:
                    total = torch.zeros_like(logits, memory_format=torch.contiguous_format)
                # both flips together are a rotation by 180 degrees, which does not swap left and right
                order = _swapped_order(logits.shape[1], pairs) if upside_down != mirrored else None
                _add_probabilities(total, logits, order, mirrored and not (turns or upside_down), is_multiclass)
                del logits  # before the next pass needs the memory
                passes += 1
        assert total is not None
        total.div_(passes)
        if is_multiclass:
            return total.clamp_(min=_MIN_PROBABILITY).log_()
        return total.clamp_(_MIN_PROBABILITY, _MAX_PROBABILITY).logit_()


def _add_probabilities(
    total: Tensor, logits: Tensor, order: Tensor | None, mirrored: bool, is_multiclass: bool
) -> None:
    """Adds the softmax of logits (N, K, H, W) to `total`, a few rows at a time, which fit in the CPU's cache.

    Args:
        total: float32 (N, K, H, W).
        logits: floats of the same shape.
        order: int64 (K,), the class whose probability is added to each class, or None.
        mirrored: whether the rows of the logits are flipped left to right.
        is_multiclass: whether probabilities are the softmax over the classes, not the sigmoid of each.
    """
    rows = max(1, _STRIP // (logits.shape[1] * logits.shape[3]))
    for image, target in zip(logits, total, strict=True):
        for strip, target_strip in zip(image.split(rows, 1), target.split(rows, 1), strict=True):
            probabilities = strip.softmax(0) if is_multiclass else strip.sigmoid()
            if order is not None:
                probabilities = probabilities[order]
            target_strip += probabilities.flip(-1) if mirrored else probabilities


def _copies(hflip: bool, vflip: bool, quarter_turns: bool) -> Iterator[tuple[int, bool, bool]]:
    """Yields (quarter turns, vertical flip, horizontal flip) of the copies, without duplicates."""
    seen: set[tuple[int, bool]] = set()
    for turns in range(4) if quarter_turns else (0,):
        for upside_down in (False, True) if vflip else (False,):
            for mirrored in (False, True) if hflip else (False,):
                # a vertical flip equals a horizontal flip and a rotation by 180 degrees
                same = ((turns + 2 * upside_down) % 4, mirrored != upside_down)
                if same not in seen:
                    seen.add(same)
                    yield turns, upside_down, mirrored


def _augment(images: Tensor, turns: int, upside_down: bool, mirrored: bool) -> Tensor:
    axes = [axis for axis, wanted in ((-2, upside_down), (-1, mirrored)) if wanted]
    flipped = images.flip(axes) if axes else images
    return flipped.rot90(turns, (-2, -1)) if turns else flipped


def _undo(logits: Tensor, turns: int, upside_down: bool, mirrored: bool) -> Tensor:
    turned = logits.rot90(-turns, (-2, -1)) if turns else logits
    axes = [axis for axis, wanted in ((-2, upside_down), (-1, mirrored)) if wanted]
    return turned.flip(axes) if axes else turned


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)


def _swapped_order(num_classes: int, pairs: Sequence[Sequence[int]]) -> Tensor | None:
    """Returns int64 (K,), each class's partner where left and right are swapped; None if there are no pairs."""
    if not pairs:
        return None
    order = list(range(num_classes))
    for left, right in pairs:
        if not (0 <= left < num_classes and 0 <= right < num_classes):
            raise InvalidArgumentError(
                f"left_right_pairs must hold class ids 0 to {num_classes - 1}, got {[left, right]}"
            )
        order[left], order[right] = right, left
    return torch.tensor(order)


def _pairs_of(model: nn.Module) -> Sequence[Sequence[int]]:
    info = getattr(model, "model_info", None)
    return () if info is None else info.metadata.left_right_pairs or ()


def _task_of(model: nn.Module) -> str:
    info = getattr(model, "model_info", None)
    return MULTICLASS if info is None else info.metadata.task


def tta_options(tta: bool | Sequence[float] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns the arguments of `predict_tta` for `Predictor(tta=)`, checked; None if it is turned off."""
    if tta is None or tta is False:
        return None
    if tta is True:
        return {}
    if not isinstance(tta, Mapping | Sequence) or isinstance(tta, str):
        raise InvalidArgumentError(
            f"tta must be True, a list of scales such as [0.75, 1.0], or a dict of the arguments of predict_tta, got "
            f"{tta!r}"
        )
    options = dict(tta) if isinstance(tta, Mapping) else {"scales": tuple(tta)}
    known = ("scales", "hflip", "vflip", "quarter_turns", "left_right_pairs")
    for name in options:
        if name not in known:
            raise InvalidArgumentError(f"tta has no option {name!r}; it has {', '.join(known)}")
    scales = options.get("scales", (1.0,))
    if not isinstance(scales, Sequence) or not scales or not all(is_number(s) and s > 0 for s in scales):
        raise InvalidArgumentError(f"tta must have scales above 0, got {scales!r}")
    for name in ("hflip", "vflip", "quarter_turns"):
        if not isinstance(options.get(name, False), bool):
            raise InvalidArgumentError(f"tta {name} must be True or False, got {options[name]!r}")
    pairs = options.get("left_right_pairs") or ()
    if not isinstance(pairs, Sequence) or not all(isinstance(p, Sequence) and len(p) == 2 for p in pairs):
        raise InvalidArgumentError(f"tta left_right_pairs must be pairs of class ids, got {pairs!r}")
    return options
