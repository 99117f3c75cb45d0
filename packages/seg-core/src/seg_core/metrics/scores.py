"""Scores from a confusion matrix, and the rule for absent classes."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seg_core.errors import InvalidArgumentError

__all__ = ["AbsentPolicy", "scores_from_confusion"]

AbsentPolicy = Literal["skip", "zero", "one", "nan"]


def scores_from_confusion(matrix: Any, absent: AbsentPolicy = "skip") -> dict[str, Any]:
    """Returns the scores of a confusion matrix, as floats from 0 to 1 (nan if nothing was counted).

    With TP, FP and FN the true positive, false positive and false negative pixels of a class:

    - `acc`: fraction of the pixels that are correct.
    - `acc_per_class`: TP / (TP + FN); `macc` is its mean over the classes.
    - `iou_per_class`: TP / (TP + FP + FN); `miou` is its mean, `fwiou` its mean weighted by ground-truth pixels.
    - `dice_per_class`: 2 TP / (2 TP + FP + FN); `dice` is its mean.
    - `absent`: the policy, as given.

    Of binary and multilabel tasks the counts are (K, 2, 2), one table per class. With TN the true negative pixels:

    - `acc`: fraction of correct answers, over the pixels of all classes.
    - `iou_per_class`, `dice_per_class` as above; `precision_per_class`: TP / (TP + FP); `recall_per_class`: TP / (TP +
      FN); `specificity_per_class`: TN / (TN + FP). `miou`, `dice`, `precision`, `recall` and `specificity` are their
      means. The background is no class.
    - `absent`: the policy, as given.

    Args:
        matrix: array, tensor or nested list (K, K) or (K, 2, 2) of counts, rows are ground truth, columns are
            predictions.
        absent: rule for a class whose denominator is zero (IoU and Dice: neither in the ground truth nor predicted;
            accuracy and recall: not in the ground truth; precision: not predicted). `"skip"`: nan, and left out of the
            mean; `"zero"` and `"one"`: that value, also in the mean; `"nan"`: nan, and so is the mean. All but the
            first exist to reproduce the scores of other projects.

    Raises:
        InvalidArgumentError: if the matrix has another shape, negative or undefined values, or the policy is unknown.
    """
    if absent not in get_args(AbsentPolicy):
        raise InvalidArgumentError(f"absent must be one of {', '.join(get_args(AbsentPolicy))}, got {absent!r}")
    counts = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix, dtype=np.float64)
    is_square = counts.ndim == 2 and counts.shape[0] == counts.shape[1]
    if not (is_square or counts.shape[1:] == (2, 2)) or not counts.size:
        raise InvalidArgumentError(
            f"matrix must be square, (K, K), got shape {counts.shape}; or (K, 2, 2) for other tasks than multiclass"
        )
    if not (counts >= 0).all() or np.isinf(counts).any():
        raise InvalidArgumentError("matrix must hold counts, but some entries are negative, infinite or nan")
    if counts.ndim == 3:
        return _scores_of_planes(counts, absent)
    right = np.diag(counts)
    in_truth = counts.sum(1)
    in_both = in_truth + counts.sum(0)
    total = in_truth.sum()
    accuracy = _ratio(right, in_truth, absent)
    iou = _ratio(right, in_both - right, absent)
    dice = _ratio(2 * right, in_both, absent)
    present = in_truth > 0
    weighted_iou = (in_truth[present] * iou[present]).sum()
    return {
        "acc": float(right.sum() / total) if total else float("nan"),
        "macc": _mean(accuracy, absent),
        "miou": _mean(iou, absent),
        "fwiou": float(weighted_iou / total) if total else float("nan"),
        "dice": _mean(dice, absent),
        "acc_per_class": accuracy.tolist(),
        "iou_per_class": iou.tolist(),
        "dice_per_class": dice.tolist(),
        "absent": absent,
    }


def _scores_of_planes(counts: npt.NDArray[np.float64], absent: AbsentPolicy) -> dict[str, Any]:
    (negative, false), (missed, hits) = counts.transpose(1, 2, 0)
    wrong = false + missed
    per_class = {
        "iou": _ratio(hits, hits + wrong, absent),
        "dice": _ratio(2 * hits, 2 * hits + wrong, absent),
        "precision": _ratio(hits, hits + false, absent),
        "recall": _ratio(hits, hits + missed, absent),
        "specificity": _ratio(negative, negative + false, absent),
    }
    total = counts.sum()
    means = {"miou" if name == "iou" else name: _mean(values, absent) for name, values in per_class.items()}
    return {
        "acc": float((hits + negative).sum() / total) if total else float("nan"),
        **means,
        **{f"{name}_per_class": values.tolist() for name, values in per_class.items()},
        "absent": absent,
    }


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any], absent: AbsentPolicy) -> npt.NDArray[Any]:
    value = {"skip": np.nan, "zero": 0.0, "one": 1.0, "nan": np.nan}[absent]
    ratio = np.full_like(whole, value)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: npt.NDArray[Any], absent: AbsentPolicy) -> float:
    counted = values[~np.isnan(values)] if absent == "skip" else values
    return float(counted.mean()) if counted.size else float("nan")
