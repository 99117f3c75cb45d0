"""Test-time augmentation: the mean of what a network says of an image rescaled, mirrored and turned."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import Predict
from seg_models.inference.adapted import adapt
from seg_models.inference.scratch import Scratch, logits_into
from seg_models.inference.whole import predict_whole

__all__ = ["predict_tta"]

_LEAST = 1e-12  # probability, whose logarithm is finite
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
) -> Tensor:
    """Returns the mean over all combinations of scales, flips and turns, without gradients.

    The probabilities are averaged, in a running sum: the memory does not depend on how many passes there are. What
    comes back are their logarithms, whose softmax they are, so they serve as logits.

    Args:
        model: a network as the builders make it, in eval mode.
        images: float (N, C, H, W), normalized RGB where C is 3, on the model's device.
        scales: factors of height and width; the images are resized bilinearly, antialiased where they shrink, and their
            logits back, bilinearly.
        hflip: whether each is also predicted mirrored left to right.
        vflip: whether each is also predicted upside down.
        quarter_turns: whether each is also predicted turned by 90, 180 and 270 degrees.
        left_right_pairs: class ids that change places in a mirrored image, as left and right arm; None takes those of
            the model's metadata, where it has some.
        predict: way of predicting each of them, with logits as its result; tiled, say.

    Returns:
        float32 (N, K, H, W), logarithms of the mean probabilities.

    Raises:
        InvalidArgumentError: if an argument is out of range, or `predict` gives labels.
    """
    factors = tuple(scales)
    if not factors or not all(isinstance(f, int | float) and 0 < f < math.inf for f in factors):
        raise InvalidArgumentError(f"scales must hold at least one factor above 0, got {scales!r}")
    if images.ndim != 4 or not images.is_floating_point():
        raise InvalidArgumentError(
            f"images must be float (N, C, H, W), normalized, got {images.dtype} {tuple(images.shape)}"
        )
    pairs = _pairs_of(model) if left_right_pairs is None else left_right_pairs
    model = adapt(model)
    height, width = images.shape[-2:]
    sizes = [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]
    room = max(h * w for h, w in sizes)
    scratch, scratch_of_size = Scratch(), Scratch()
    total: Tensor | None = None
    passes = 0
    with torch.inference_mode():
        for size in sizes:
            resized = _resized(images, size)
            for turns, up, mirrored in _variants(hflip, vflip, quarter_turns):
                changed = _changed(resized, turns, up, mirrored)
                if predict is predict_whole:
                    logits = logits_into(scratch, model, changed, room)
                else:
                    logits = predict(model, changed)
                if not logits.is_floating_point():
                    raise InvalidArgumentError("predict must give logits, got labels: set its output to logits")
                if turns or up:  # what is mirrored alone is turned back as it is added
                    logits = _changed_back(logits, turns, up, mirrored)
                logits = logits.float()
                if tuple(logits.shape[-2:]) != (height, width):
                    logits = scratch_of_size.resize(logits, (height, width))
                if total is None:
                    total = torch.zeros_like(logits, memory_format=torch.contiguous_format)
                # mirrored and upside down is half a turn, which leaves left and right as they are
                order = _swapped_order(logits.shape[1], pairs) if up != mirrored else None
                _add_probabilities(total, logits, order, mirrored and not (turns or up))
                del logits  # before the next pass needs the memory
                passes += 1
        assert total is not None
        return total.div_(passes).clamp_(min=_LEAST).log_()


def _add_probabilities(total: Tensor, logits: Tensor, order: Tensor | None, mirrored: bool) -> None:
    """Adds the softmax of logits (N, K, H, W) to `total`, a few rows at a time, which stay in the cache.

    Args:
        total: float32 (N, K, H, W).
        logits: floats of the same shape.
        order: int64 (K,), which class comes in the place of each, or None.
        mirrored: whether the rows run from right to left.
    """
    rows = max(1, _STRIP // (logits.shape[1] * logits.shape[3]))
    for image, target in zip(logits, total, strict=True):
        for strip, place in zip(image.split(rows, 1), target.split(rows, 1), strict=True):
            probabilities = strip.softmax(0)
            if order is not None:
                probabilities = probabilities[order]
            place += probabilities.flip(-1) if mirrored else probabilities


def _variants(hflip: bool, vflip: bool, quarter_turns: bool) -> Iterator[tuple[int, bool, bool]]:
    """Yields quarter turns, whether upside down, whether mirrored; none that is the same image as another."""
    seen: set[tuple[int, bool]] = set()
    for turns in range(4) if quarter_turns else (0,):
        for up in (False, True) if vflip else (False,):
            for mirrored in (False, True) if hflip else (False,):
                # upside down is half a turn of the mirrored image
                same = ((turns + 2 * up) % 4, mirrored != up)
                if same not in seen:
                    seen.add(same)
                    yield turns, up, mirrored


def _changed(images: Tensor, turns: int, up: bool, mirrored: bool) -> Tensor:
    axes = [axis for axis, wanted in ((-2, up), (-1, mirrored)) if wanted]
    flipped = images.flip(axes) if axes else images
    return flipped.rot90(turns, (-2, -1)) if turns else flipped


def _changed_back(logits: Tensor, turns: int, up: bool, mirrored: bool) -> Tensor:
    turned = logits.rot90(-turns, (-2, -1)) if turns else logits
    axes = [axis for axis, wanted in ((-2, up), (-1, mirrored)) if wanted]
    return turned.flip(axes) if axes else turned


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)


def _swapped_order(num_classes: int, pairs: Sequence[Sequence[int]]) -> Tensor | None:
    """Returns which class takes the place of each where left and right are exchanged; None where there are no pairs."""
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
