"""Focal loss over pixels: cross entropy that counts well-classified pixels less.

"Focal Loss for Dense Object Detection", Lin et al., 2017, https://arxiv.org/abs/1708.02002. With p_t the probability of
a pixel's true class, the loss is -(1 - p_t)^gamma log p_t (equation 4), times a factor of the class (equation 5).

Differs from the paper:
- There classes are independent: p_t comes from a sigmoid, with one term per class, as here in the tasks `"binary"` and
  `"multilabel"`. By default, as usual in segmentation, p_t comes from the softmax over all classes, with one term per
  pixel.
- There the sum is divided by the number of objects. Here it is the mean over pixels, as in cross entropy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.checking import check_fraction, check_non_negative
from seg_train.losses.elements import element_loss, margins_of
from seg_train.losses.inputs import check_inputs
from seg_train.losses.log_probabilities import log_probabilities
from seg_train.losses.reduction import pixel_weights, reduce_pixels
from seg_train.losses.weighted import WeightedPixelLoss

__all__ = ["FocalLoss"]

_SMALLEST = -1000.0  # a log-probability whose probability is 0 even in float64


class FocalLoss(WeightedPixelLoss):
    """Cross entropy times a power of the other classes' probability.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each: with several classes the paper's alpha.
        gamma: power, a finite number >= 0; 0 gives cross entropy.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"` (sum divided by the sum of the valid pixels' weights, as in cross entropy), `"sum"` or
            `"none"` (0 for ignored pixels).
        alpha: fraction from 0 to 1: factor of the elements with target 1, those with target 0 have 1 - alpha, which the
            divisor of the mean does not count; None for 1 each. Not for `"multiclass"`, which has `weight`.
        task: `"multiclass"`; `"binary"`: logits (N, 1, ...) and a target (N, ...) of 0, 1 and `ignore_index`; or
            `"multilabel"`: logits (N, K, ...) and such a target (N, K, ...).

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        gamma: float = 2.0,
        ignore_index: int = 255,
        reduction: str = "mean",
        alpha: float | None = None,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, task)
        check_non_negative("gamma", gamma)
        if alpha is not None:
            if task == MULTICLASS:
                raise InvalidArgumentError(
                    f"FocalLoss has no alpha with task='multiclass', got alpha={alpha!r}: use weight=, one factor per "
                    "class (in a config criterion.class_weights), or the task 'binary' or 'multilabel'"
                )
            check_fraction("alpha", alpha)
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or the target's shape with `reduction="none"`.

        Args:
            logits: float (N, K, ...), one channel per class.
            target: any integer type (N, ...), class ids and `ignore_index`; of other tasks see the class.

        Raises:
            InvalidArgumentError: if shapes do not match, the target is not of an integer type, or the number of
                weights is not the number of classes.
            LabelOutOfRangeError: if the target contains any other value. On CUDA torch's own assertion fails instead,
                and compiled code may not check; of tasks other than `"multiclass"` the loss is NaN in both cases.
        """
        if self.task != MULTICLASS:
            return self._of_elements(logits, target)
        check_inputs(logits, target, self.weight)
        terms = log_probabilities(logits, target, self.ignore_index, _FocalTerm(self.gamma))
        weight = None if self.weight is None else self.weight.to(terms)
        weights = pixel_weights(target, self.ignore_index, weight)
        if weight is not None:
            terms = terms * weights
        return -reduce_pixels(terms, weights, self.reduction)

    def _of_elements(self, logits: Tensor, target: Tensor) -> Tensor:
        elements = margins_of(logits, target, self.task, self.ignore_index, self.weight)
        terms = _FocalTerm(self.gamma)(F.logsigmoid(elements.margins))
        if self.alpha is not None:
            terms = terms * ((self.alpha - 0.5) * elements.signs + 0.5)
        return -element_loss(terms, elements.counts, self.weight, self.reduction, target.shape)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        alpha = "" if self.alpha is None else f", alpha={self.alpha}"
        return f"{super().extra_repr()}, gamma={self.gamma}{alpha}"


class _FocalTerm:
    """(1 - p)^gamma log p, from log p."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def __call__(self, log_p: Tensor) -> Tensor:
        # Within these limits the power has a finite gradient, even for gamma < 1; beyond them 1 - p does not change.
        others = -log_p.clamp(_SMALLEST, -torch.finfo(log_p.dtype).tiny).expm1()
        return others.pow(self.gamma) * log_p

    def of_strip(self, log_p: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        limited = log_p.clip(_SMALLEST, -np.finfo(log_p.dtype).tiny)
        minus_others = np.expm1(limited)
        power = (-minus_others) ** self.gamma
        # p log p / (1 - p) lies between -1 (at p = 1) and 0 (at p = 0)
        slope = power * (1 + self.gamma * (1 + minus_others) * limited / minus_others)
        return power * log_p, slope
