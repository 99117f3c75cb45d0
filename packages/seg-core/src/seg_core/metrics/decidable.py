"""Checks that logits can be decided: that they have several classes to choose from, and no NaN."""

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, NonFiniteLogitsError
from seg_core.labels.comparison import ONE_CHANNEL_ADVICE
from seg_core.labels.tasks import MULTICLASS

__all__ = ["check_decidable", "check_several_channels", "warning_of_non_finite"]

_warned: ContextVar[list[bool] | None] = ContextVar("warned", default=None)


def check_decidable(logits: Tensor, task: str = MULTICLASS) -> None:
    """Checks that the class of each pixel can be found from logits: that there are several, and no NaN.

    A class may be excluded with minus infinity.

    Args:
        logits: floating point (N, K, h, w) or (K, h, w).
        task: what is asked of the network; of another than multiclass one class is enough.

    Raises:
        NonFiniteLogitsError: if an image has NaN or infinity among its logits; within `warning_of_non_finite` this is a
            warning.
        InvalidArgumentError: if there is one channel only.
    """
    if task == MULTICLASS:
        check_several_channels(logits)
    # one pass over the values; the sum is finite unless one of them is not
    if bool(logits.sum(dtype=torch.float32).isfinite()):
        return
    wrong = (logits.isnan() | logits.isposinf()).flatten(-3).any(-1).reshape(-1)
    if not bool(wrong.any()):
        return
    told = _warned.get()
    if told is None:
        half = " or its number type (fp16 overflows: use bf16 or fp32)" if logits.dtype == torch.float16 else ""
        raise NonFiniteLogitsError(
            "the network returns NaN or infinity for this image, so its pixels have no class; check its weights "
            f"(a training that diverged){half} and the normalization of the image",
            int(wrong.nonzero()[0]),
        )
    if not told:
        told.append(True)
        warnings.warn(
            "the network returns NaN or infinity for an image, and maybe for others: their pixels count as any class "
            "in these scores; in the first steps of a training this passes, later it has diverged",
            stacklevel=3,
        )


def check_several_channels(logits: Tensor) -> None:
    """Checks that logits (N, K, h, w) or (K, h, w) have several channels to choose from.

    Raises:
        InvalidArgumentError: if they have one only.
    """
    if logits.shape[-3] < 2:
        raise InvalidArgumentError(
            f"the network returns one channel, so every pixel would be class 0; {ONE_CHANNEL_ADVICE}"
        )


@contextlib.contextmanager
def warning_of_non_finite() -> Iterator[None]:
    """In the block `check_decidable` warns of NaN and infinity, once, where it would raise an error.

    For evaluations: the running statistics of batch norms are far behind in the first steps of a training, so that a
    sound network may overflow in eval mode.
    """
    token = _warned.set([])
    try:
        yield
    finally:
        _warned.reset(token)
