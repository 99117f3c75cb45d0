"""Cross entropy over hard pixels only: online hard example mining (OHEM).

"Training Region-based Object Detectors with Online Hard Example Mining", Shrivastava et al., 2016,
https://arxiv.org/abs/1604.03540; for pixels: "Bridging Category-level and Instance-level Semantic Image Segmentation",
Wu et al., 2016, https://arxiv.org/abs/1605.06885. As in the code of HRNet, BiSeNet and PIDNet, a pixel is hard if the
probability of its true class is below a threshold; if these are too few, the pixels of lowest probability are kept.

Differs from PIDNet's code:
- Pixels with the same probability as the last one kept are kept too; there all such ties may be dropped.
- If fewer pixels are valid than should be kept, all of them are, including the most probable one.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.checking import check_fraction
from seg_train.losses.elements import margins_of
from seg_train.losses.inputs import check_inputs
from seg_train.losses.log_probabilities import log_probabilities
from seg_train.losses.reduction import pixel_weights, reduce_pixels
from seg_train.losses.weighted import WeightedLoss

__all__ = ["OhemCrossEntropyLoss"]


class OhemCrossEntropyLoss(WeightedLoss):
    """Cross entropy of the pixels whose true class has a low probability, and of a minimum number of pixels.

    They are chosen among all pixels of the batch; in distributed training, of each process's share of it.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each; it does not affect which pixels are kept.
        threshold: probability 0 to 1; pixels whose true class has a lower one are kept.
        min_kept: minimum number of pixels kept: an integer >= 0, or a float between 0 and 1 for a fraction of the valid
            pixels (BiSeNet: 1/16). If fewer are below the threshold, those of lowest probability are kept; if fewer are
            valid, all of them.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"` (sum divided by the number of kept pixels, not their weights, as in PIDNet and HRNet),
            `"sum"` or `"none"` (0 for pixels that are not kept).
        task: `"multiclass"`; `"binary"`: logits (N, 1, ...) and a target (N, ...) of 0, 1 and `ignore_index`; or
            `"multilabel"`: logits (N, K, ...) and such a target (N, K, ...).
            There the pixels are elements, each with a binary cross entropy.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        threshold: float = 0.7,
        min_kept: float = 100_000,
        ignore_index: int = 255,
        reduction: str = "mean",
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, task)
        check_fraction("threshold", threshold)
        if not (type(min_kept) is int and min_kept >= 0) and not (isinstance(min_kept, float) and 0 < min_kept < 1):
            raise InvalidArgumentError(
                "min_kept must be a number of pixels, an integer of at least 0, or a fraction of the valid pixels, a "
                f"float between 0 and 1, got {min_kept!r}"
            )
        self.threshold = threshold
        self.min_kept = min_kept

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
        log_p = log_probabilities(logits, target, self.ignore_index)
        kept = self._kept(log_p.detach(), pixel_weights(target, self.ignore_index, None))
        terms = log_p.where(kept, 0)
        if self.weight is not None:
            terms = terms * pixel_weights(target, self.ignore_index, self.weight.to(log_p))
        return -reduce_pixels(terms, kept, self.reduction)

    def _of_elements(self, logits: Tensor, target: Tensor) -> Tensor:
        elements = margins_of(logits, target, self.task, self.ignore_index, self.weight)
        log_p = F.logsigmoid(elements.margins)
        # NaN is an element whose target is not allowed
        kept = self._kept(log_p.detach(), (elements.signs != 0) | elements.margins.isnan())
        terms = log_p.where(kept, 0)
        if self.weight is not None:
            terms = terms * self.weight.to(terms).view(-1, *[1] * (terms.ndim - 2))
        losses = -reduce_pixels(terms, kept, self.reduction)
        return losses.reshape(target.shape) if self.reduction == "none" else losses

    def _kept(self, log_p: Tensor, valid: Tensor) -> Tensor:
        """Returns the mask of kept pixels from log-probabilities and the mask of valid pixels, all (N, ...)."""
        limit = math.log(self.threshold) if self.threshold > 0 else -math.inf
        hard = valid & ~(log_p >= limit)  # keeps NaN, so that it shows in the loss
        if self.min_kept == 0:
            return hard
        probable = log_p.where(valid, math.inf).flatten()
        if not torch.compiler.is_compiling():
            count = self.min_kept
            count = math.ceil(count * int(valid.sum())) if isinstance(count, float) else min(count, valid.numel())
            if int(hard.sum()) >= count:
                return hard
            last = probable.kthvalue(count).values
        elif isinstance(self.min_kept, float):  # reading a value of the batch would break the compiled graph
            number = (self.min_kept * valid.sum().to(log_p.dtype)).ceil().long()
            last = probable.sort().values.gather(0, (number - 1).clamp(min=0)[None])
        else:
            last = probable.kthvalue(min(self.min_kept, valid.numel())).values
        return hard | (valid & (log_p <= last))

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, threshold={self.threshold}, min_kept={self.min_kept}"
