"""Strips of pixels that stay in the cache of a CPU, and the threads that compute them.

Strips are computed by NumPy: it works in the thread that calls it. Operations of torch share their work among a pool of
threads and wait for it, each time; with as many operations as strips that takes several times longer than the work
itself, where other processes want the CPU too.
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
    "MANY",
    "Strip",
    "can_be_read",
    "ids_of_strip",
    "over_strips",
    "softmax_of_strip",
    "strip_buffer",
    "takes_strips",
]

Strip = tuple[int, slice]  # an image of the batch, and some of its pixels

_Result = TypeVar("_Result")

# Logits in a strip: those of the strip and a buffer of that size fit into the cache of a core.
_STRIP = 65536
# Logits from which on strips pay. NumPy's exponential is fast on these processors; elsewhere torch does all.
_FEWEST: float = 65536 if platform.machine().lower() in ("x86_64", "amd64") else math.inf

MANY = 128
"""How many times more logits make strips pay where torch's own cross entropy would do the same: 8.4 million."""


def can_be_read(logits: Tensor) -> bool:
    """Whether a tensor holds numbers on a CPU, not in a graph to be compiled, exported or transformed."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and logits.device.type == "cpu"
    )


def takes_strips(logits: Tensor, many: int = 1) -> bool:
    """Whether strips pay for logits (N, K, ...), and can be used: not in a graph to be compiled or exported, not under
    the transforms of `torch.func`, not for forward-mode gradients, not for memory that is neither contiguous nor
    channels_last. `many` is how many times more logits they need than areas of classes do.
    """
    return (
        can_be_read(logits)
        and type(logits) in (Tensor, nn.Parameter)
        and logits.dtype in (torch.float32, torch.float64)
        and logits.ndim > 2
        and max(1, _FEWEST * many) <= logits.numel()
        and _is_dense(logits)
        and torch.autograd.forward_ad.unpack_dual(logits).tangent is None  # type: ignore[no-untyped-call]
    )


def over_strips(work: Callable[[Sequence[Strip]], _Result], shape: Sequence[int]) -> list[_Result]:
    """Cuts logits of a shape (N, K, L) into strips and has `work` done on all of them, a share for each thread.

    The threads are as many as torch uses, and last no longer than the call: a pool would be lost in a forked process.

    Args:
        work: takes a share of the strips, at least one, all as long as its first one or shorter.
        shape: of the logits.

    Returns:
        The results in the order of the strips.
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
    """Returns what `checking.class_ids` does, for a strip of a target (N, L) on a CPU.

    Raises:
        LabelOutOfRangeError: if the strip holds a value that is not allowed; it names all those of the whole target.
    """
    ids = target.numpy()[strip].astype(np.int64)
    ignored = ids == ignore_index
    ids[ignored] = 0
    if ids.min() < 0 or ids.max() >= num_classes:
        class_ids(target, num_classes, ignore_index)
    return ids, ignored


def strip_buffer(logits: Tensor, strip: Strip) -> npt.NDArray[Any]:
    """Returns memory for a strip of logits (N, K, L), in their layout."""
    size = logits.shape[1], strip[1].stop - strip[1].start
    # the classes of a pixel lie side by side in channels_last memory
    by_pixel = logits.stride(1) < logits.stride(2)
    return np.empty(size, logits.detach().numpy().dtype, order="F" if by_pixel else "C")


def _is_dense(logits: Tensor) -> bool:
    """Whether the pixels of an image can be counted through without a copy, the classes being inner- or outermost."""
    if logits.is_contiguous():
        return True
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(logits.ndim)
    return last is not None and logits.is_contiguous(memory_format=last)


def softmax_of_strip(
    logits: Tensor, strip: Strip, ignored: npt.NDArray[np.bool_], fill: float = 0.0
) -> npt.NDArray[Any]:
    """Returns the probabilities of a strip of logits (N, K, L) on a CPU: (K, l), and `fill` for ignored pixels."""
    image, pixels = strip
    seen = logits.detach().numpy()[image, :, pixels]
    with np.errstate(all="ignore"):  # where logits are infinite or NaN, so are the probabilities, as torch's
        values: npt.NDArray[Any] = seen - seen.max(0)
        np.exp(values, out=values)
        values /= values.sum(0)
    if ignored.any():
        np.copyto(values, fill, where=ignored)
    return values
