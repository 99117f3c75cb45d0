"""Strips of pixels that stay in the cache of a CPU core, and the threads that compute them.

Strips are computed with NumPy, which works in the thread that calls it. torch's operations distribute their work over a
thread pool and wait for it, each time; with as many operations as there are strips, that takes several times longer
than the work itself when other processes use the CPU too.
"""

import math
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seg_train.losses.inputs import class_ids

__all__ = [
    "CROSS_ENTROPY_FACTOR",
    "Strip",
    "has_cpu_values",
    "ids_of_strip",
    "map_strips",
    "softmax_of_strip",
    "strip_buffer",
    "use_strips",
]

Strip = tuple[int, slice]  # index of the image in the batch, and a range of its pixels

_Result = TypeVar("_Result")

# Logits per strip: they and a buffer of the same size fit into the cache of a core.
_STRIP = 65536
# Number of logits from which strips pay off. NumPy's exponential is fast on these processors; others use torch only.
_MIN_LOGITS: float = 65536 if platform.machine().lower() in ("x86_64", "amd64") else math.inf

CROSS_ENTROPY_FACTOR = 128
"""Factor of the minimum number of logits from which strips are faster than torch's own cross entropy: 8.4 million."""


def use_strips(logits: Tensor, factor: int = 1) -> bool:
    """Returns whether strips can be used for logits (N, K, ...) and pay off.

    They cannot be used in a graph that is compiled or exported, under `torch.func` transforms, for forward-mode
    gradients, or for memory that is neither contiguous nor channels_last.

    Args:
        logits: float (N, K, ...).
        factor: by which the minimum number of logits is multiplied; 1 is right for the areas of classes.
    """
    return (
        has_cpu_values(logits)
        and type(logits) in (Tensor, nn.Parameter)
        and logits.dtype in (torch.float32, torch.float64)
        and logits.ndim > 2
        and max(1, _MIN_LOGITS * factor) <= logits.numel()
        and _is_dense(logits)
        and torch.autograd.forward_ad.unpack_dual(logits).tangent is None  # type: ignore[no-untyped-call]  # of torch
    )


def has_cpu_values(logits: Tensor) -> bool:
    """Returns whether values can be read now: on a CPU, and not while torch compiles, exports or transforms code."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and logits.device.type == "cpu"
    )


def map_strips(work: Callable[[Sequence[Strip]], _Result], shape: Sequence[int]) -> list[_Result]:
    """Splits logits of shape (N, K, L) into strips and calls `work` in each thread with its strips.

    As many threads as torch uses are started for each call: a pool that is kept would be lost in a forked process.

    Args:
        work: takes at least one strip; the last strip of an image may be shorter than the others.
        shape: of the logits.

    Returns:
        The results, in the order of the strips.
    """
    num_images, num_classes, length = shape
    width = max(1, _STRIP // num_classes)
    strips = [
        (image, slice(start, min(start + width, length)))
        for image in range(num_images)
        for start in range(0, length, width)
    ]
    size = -(-len(strips) // torch.get_num_threads())
    first, *others = (strips[start : start + size] for start in range(0, len(strips), size))
    if not others:
        return [work(first)]
    with ThreadPoolExecutor(len(others)) as pool:
        results = [pool.submit(work, share) for share in others]
        return [work(first), *(result.result() for result in results)]


def ids_of_strip(
    target: Tensor, strip: Strip, num_classes: int, ignore_index: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Returns the class ids of a strip, 0 for ignored pixels, and the mask of ignored pixels.

    Args:
        target: any integer type (N, L), on a CPU.
        strip: to read.
        num_classes: class ids are 0 to `num_classes` - 1.
        ignore_index: value of ignored pixels.

    Raises:
        LabelOutOfRangeError: if the strip contains another value; the message lists those of the whole target.
    """
    ids = target.numpy()[strip].astype(np.int64)
    ignored = ids == ignore_index
    ids[ignored] = 0
    if ids.min() < 0 or ids.max() >= num_classes:
        class_ids(target, num_classes, ignore_index)
    return ids, ignored


def softmax_of_strip(
    logits: Tensor, strip: Strip, ignored: npt.NDArray[np.bool_], fill: float = 0.0
) -> npt.NDArray[Any]:
    """Returns the probabilities of a strip of logits (N, K, L) on a CPU: (K, l), `fill` at ignored pixels."""
    image, pixels = strip
    seen = logits.detach().numpy()[image, :, pixels]
    with np.errstate(all="ignore"):  # infinite or NaN logits give NaN probabilities, as in torch
        values: npt.NDArray[Any] = seen - seen.max(0)
        np.exp(values, out=values)
        values /= values.sum(0)
    if ignored.any():
        np.copyto(values, fill, where=ignored)
    return values


def strip_buffer(logits: Tensor, strips: Sequence[Strip]) -> npt.NDArray[Any]:
    """Returns uninitialized memory for the longest of the strips of logits (N, K, L), in their memory format."""
    size = logits.shape[1], max(pixels.stop - pixels.start for _, pixels in strips)
    # in channels_last memory the classes of a pixel are adjacent
    is_channels_last = logits.stride(1) < logits.stride(2)
    return np.empty(size, logits.detach().numpy().dtype, order="F" if is_channels_last else "C")


def _is_dense(logits: Tensor) -> bool:
    """Returns whether the pixels of an image can be flattened without a copy: contiguous or channels_last memory."""
    if logits.is_contiguous():
        return True
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(logits.ndim)
    return last is not None and logits.is_contiguous(memory_format=last)
