"""Lovasz-softmax loss: the convex extension of the Jaccard loss to probabilities."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_train.losses.checking import WeightedLoss, check_inputs, class_ids
from seg_train.losses.cpu.regions import reduce_classes, softmax_of_strip
from seg_train.losses.cpu.strips import Strip, ids_of_strip, over_strips, takes_strips

__all__ = ["LovaszLoss"]

_Classes = Literal["present", "all"]

# The largest number of pixels whose places fit into half of a key, see `_descending`.
_MOST_PLACES = 2**32


class LovaszLoss(WeightedLoss):
    """The Lovasz extension of the Jaccard loss of each class, averaged over the classes.

    From Berman et al. 2018 (https://arxiv.org/abs/1705.08790, algorithm 1). The errors of class k are 1 - p_k where the
    target is k and p_k elsewhere, p being the softmax. In descending order, each error counts with the amount by which
    the Jaccard loss rises when its pixel is wrong as well as those before it. With G pixels of the class, g of them
    among the first i, and U = G + i - g, that is 1 / U for a pixel of the class and (G - g) / (U (U - 1)) for another;
    the paper's difference of two losses is the same, but loses digits.

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: over classes, never over pixels. `"mean"` (sum of the weighted losses divided by the sum of the
            weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of each
            class, 0 for those that do not count.
        classes: which classes count: `"present"`, those in the target, or `"all"`, where the loss of an absent class is
            its largest probability.
        per_image: whether each image has a loss of its own, with its own classes. `"mean"` is then the mean over the
            images that have valid pixels, `"sum"` goes over classes and images, `"none"` gives (N, K). Otherwise the
            pixels of the whole batch are those of one image.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        classes: _Classes = "present",
        per_image: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        if classes not in get_args(_Classes):
            raise InvalidArgumentError(f"classes must be one of {', '.join(get_args(_Classes))}, got {classes!r}")
        self.classes: _Classes = classes
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (K,) or (N, K) where `reduction="none"`.

        Args:
            logits: float (N, K, ...), one plane per class.
            target: any integer type (N, ...), class ids and `ignore_index`.

        Raises:
            InvalidArgumentError: if the shapes do not belong together, the target is not of integers, or there is not
                one weight per class.
            LabelOutOfRangeError: if the target holds any other value.
        """
        check_inputs(logits, target, self.weight)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        way = extension_by_strips if takes_strips(logits) else extension_by_torch
        losses, true = way(logits, target, self.ignore_index, self.per_image)
        counted = true > 0 if self.classes == "present" else (true > 0).any(1, keepdim=True).expand_as(true)
        if not self.per_image:
            losses, counted = losses[0], counted[0]
        return reduce_classes(losses, counted, self.weight, self.reduction)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, classes={self.classes!r}, per_image={self.per_image}"


class Extension(NamedTuple):
    """The Lovasz extension of the Jaccard loss: a row for each image, or one for the batch.

    Attributes:
        losses: of each class, float (rows, K); 0 in a row without valid pixels.
        true: pixels of each class, (rows, K), without a gradient.
    """

    losses: Tensor
    true: Tensor


def extension_by_torch(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> Extension:
    """Returns the losses and pixels of each class for float32 or float64 logits, on any device, by operations of torch.

    Compiled code cannot raise for a target out of range: there the losses are NaN.
    """
    num_classes = logits.shape[1]
    ids, ignored = class_ids(target.reshape(len(target), -1), num_classes, ignore_index)  # (N, L)
    values = logits.reshape(*logits.shape[:2], -1).masked_fill(ignored[:, None], 0).softmax(1)
    if torch.compiler.is_compiling():
        outside = (ids < 0) | (ids >= num_classes)
        values = values.masked_fill(outside[:, None], float("nan"))
    values = values.transpose(0, 1)  # (K, N, L)
    rows = len(ids) if per_image else 1
    ids, ignored = ids.reshape(rows, -1), ignored.reshape(rows, -1)
    losses, true = [], []
    for index, plane in enumerate(values):
        own = (ids == index) & ~ignored  # (rows, pixels)
        area = own.sum(1, keepdim=True)
        errors = plane.reshape(rows, -1)
        # below all others, so that ignored pixels come last
        errors = torch.where(own, 1 - errors, errors).masked_fill(ignored, -1)
        errors, order = errors.sort(dim=1, descending=True, stable=True)
        own = own.gather(1, order)
        own_before = own.cumsum(1)
        ranks = torch.arange(1, own.shape[1] + 1, device=own.device)
        union = (area + ranks - own_before).to(errors.dtype)
        left = (area - own_before).to(errors.dtype)
        increments = torch.where(own, 1, left / (union - 1).clamp(min=1)) / union
        increments = torch.where(area > 0, increments, (ranks == 1).to(errors.dtype))
        losses.append((errors.masked_fill(errors < 0, 0) * increments).sum(1))
        true.append(area[:, 0])
    return Extension(torch.stack(losses, 1), torch.stack(true, 1))


def extension_by_strips(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> Extension:
    """Returns the losses and pixels of each class, for logits that `takes_strips` accepts."""
    return Extension(*_Extension.apply(logits.flatten(2).contiguous(), target.flatten(1), ignore_index, per_image))


class _Extension(torch.autograd.Function):
    """Losses and pixels of each class from logits (N, K, L), contiguous on a CPU, and their target (N, L)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> tuple[Tensor, Tensor]:
        losses, true, slopes = _extend(logits, target, ignore_index, per_image)
        ctx.save_for_backward(logits, target)
        ctx.slopes = slopes if ctx.needs_input_grad[0] else None
        ctx.ignore_index, ctx.per_image = ignore_index, per_image
        ctx.mark_non_differentiable(true)
        return losses, true

    @staticmethod
    def backward(ctx: Any, by_losses: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to have one itself
            losses, _ = extension_by_torch(logits, target, ctx.ignore_index, ctx.per_image)
            return *torch.autograd.grad(losses, logits, by_losses, create_graph=True), None, None, None
        # The first call turns the slopes into the gradient; another one has to find them anew.
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            slopes = _extend(logits, target, ctx.ignore_index, ctx.per_image)[2]
        out = slopes.numpy()
        factors = by_losses.expand(len(logits), -1).numpy()[..., None]  # (N, K, 1)

        def fill(strips: Sequence[Strip]) -> None:
            for strip in strips:
                image, pixels = strip
                _, ignored = ids_of_strip(target, strip, logits.shape[1], ctx.ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                place = out[image, :, pixels]
                change = place * factors[image]
                change *= values
                values *= change.sum(0)
                np.subtract(change, values, out=place)

        over_strips(fill, logits.shape)
        return slopes, None, None, None


def _extend(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns losses and pixels of each class, both (rows, K), and the slopes: the derivative of the loss of a class by
    the probabilities of that class, (N, K, L).
    """
    num_images, num_classes, length = logits.shape
    slopes = torch.empty_like(logits)
    planes = slopes.numpy()
    truth = np.empty((num_images, length), np.int32)

    def fill(strips: Sequence[Strip]) -> None:
        for strip in strips:
            image, pixels = strip
            ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
            # below all probabilities, and no class
            planes[image, :, pixels] = softmax_of_strip(logits, strip, ignored, fill=-1)
            truth[strip] = np.where(ignored, -1, ids)

    over_strips(fill, logits.shape)
    rows = [slice(i, i + 1) for i in range(num_images)] if per_image else [slice(None)]
    places = [(row, index) for row in rows for index in range(num_classes)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        results = list(pool.map(lambda place: _extend_class(planes[place], truth[place[0]] == place[1]), places))
    losses, true = torch.tensor(results, dtype=torch.float64).reshape(len(rows), num_classes, 2).unbind(2)
    return losses.to(logits.dtype), true.to(logits.dtype), slopes


def _extend_class(values: npt.NDArray[Any], own: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """Puts the slopes in the place of the probabilities of a class, and returns its loss and the number of its pixels.

    Args:
        values: float (n, L), probabilities; -1 for ignored pixels.
        own: bool (n, L), which pixels are of the class.
    """
    own = own.reshape(-1)
    errors = values.reshape(-1)
    inside = np.flatnonzero(own)
    area = len(inside)
    slopes = np.zeros_like(errors)
    if area:
        errors[inside] = 1 - errors[inside]
        # what comes after the last pixel of the class raises the loss no more
        least = errors[inside].min()
        order, ordered = _descending(errors, np.flatnonzero(errors >= least))
        own_there = own[order]
        own_before = np.cumsum(own_there)
        union = np.arange(area + 1, area + len(order) + 1) - own_before
        increments = np.where(own_there, 1, (area - own_before) / np.maximum(union - 1, 1)) / union
        loss = float((ordered * increments).sum()) if least == least else float("nan")
        slopes[order] = np.where(own_there, -increments, increments)
    else:
        first = int(errors.argmax())
        loss = max(float(errors[first]), 0)
        slopes[first] = loss > 0
    values[...] = slopes.reshape(values.shape)
    return loss, area


def _descending(
    errors: npt.NDArray[Any], places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Returns rising places sorted by their errors, the largest first and of equal ones the first place, and the errors
    in that order.
    """
    chosen = errors[places]
    if errors.dtype != np.float32 or len(errors) > _MOST_PLACES:
        order = np.argsort(-chosen, kind="stable")
        return places[order], chosen[order]
    # The bits of positive numbers have the order of the numbers. To sort integers takes a tenth of the time of argsort.
    keys = (~chosen.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= places.view(np.uint64)
    keys.sort()
    ordered = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return (keys & np.uint64(0xFFFFFFFF)).view(np.int64), ordered
