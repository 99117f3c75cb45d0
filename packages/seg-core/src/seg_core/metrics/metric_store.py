"""Counts a confusion matrix over a whole dataset, on any device and in any number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from seg_core.arrays import tensor_of_array
from seg_core.checks import MAX_CLASSES
from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.tasks import BINARY, MULTICLASS, check_task
from seg_core.metrics.argmax import logit_thresholds
from seg_core.metrics.joint_histogram import PairTable, as_bytes, count_bytes
from seg_core.metrics.names import AVERAGE_PRECISION, per_class_names, score_names
from seg_core.metrics.plane_counts import (
    as_planes,
    average_precision,
    best_thresholds,
    count_planes,
    count_scores,
    counts_at,
    wrong_planes,
)
from seg_core.metrics.scores import AbsentPolicy, scores_from_confusion
from seg_core.metrics.stored_labels import LOGITS_ADVICE, as_integers
from seg_core.metrics.totals import PlaneCounts, Totals

__all__ = ["MetricStore"]

_LARGEST_BYTE = 255
_TOLERANCE = 1e-3  # of probabilities, which half precision rounds


class MetricStore:
    """Accumulates label maps and measures over a dataset.

    Args:
        num_classes: number of classes K.
        ignore_index: value in the ground truth whose pixels are not counted, not a class id.
        absent: rule for absent classes, see `scores_from_confusion`.
        task: `"multiclass"`; `"binary"`, with `num_classes` 1, whose labels are 0 and 1; or `"multilabel"`, whose
            labels are 0 and 1 in a plane per class.

    Example:
        >>> store = MetricStore(num_classes=2)
        >>> store.store_results(torch.tensor([[[0, 1, 1, 255]]]), torch.tensor([[[0, 1, 0, 0]]]))
        >>> store.confusion_matrix
        tensor([[1, 0],
                [1, 1]])
        >>> store.summarize()["miou"]
        0.5
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, absent: AbsentPolicy = "skip", task: str = MULTICLASS
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise InvalidArgumentError(f"num_classes must be from 1 to {MAX_CLASSES}, got {num_classes}")
        if check_task(task) == BINARY and num_classes != 1:
            raise InvalidArgumentError(f"num_classes must be 1 for a binary task, the object, got {num_classes}")
        if task != MULTICLASS and ignore_index in (0, 1):
            raise InvalidArgumentError(f"ignore_index {ignore_index} is a label of a {task} task; choose another value")
        if task == MULTICLASS and 0 <= ignore_index < num_classes:
            raise InvalidArgumentError(
                f"ignore_index {ignore_index} is a class id (0 to {num_classes - 1}); map the ids with a LabelMap, so "
                "that ignored pixels get another value"
            )
        if absent not in get_args(AbsentPolicy):
            raise InvalidArgumentError(f"absent must be one of {', '.join(get_args(AbsentPolicy))}, got {absent!r}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent: AbsentPolicy = absent
        self.task = task
        self.reset()

    def reset(self) -> None:
        """Resets all counts and measures."""
        # totals from `reduce` are kept apart, so that repeated calls count no sample twice
        self._own = self._no_totals()
        self._shared = self._no_totals()
        self._on_devices: dict[torch.device, tuple[PairTable, Tensor]] = {}
        self._planes_on_devices: dict[torch.device, PlaneCounts] = {}

    def store_results(
        self,
        truths: Tensor | npt.NDArray[Any],
        preds: Tensor | npt.NDArray[Any],
        scores: Tensor | npt.NDArray[Any] | None = None,
    ) -> None:
        """Counts the pixels of one batch on the device of `preds`, without waiting for a device other than the CPU.

        Fastest with uint8 on both sides. The inputs are not changed.

        Args:
            truths: ground truth, integer (N, H, W) or any shape, class ids or `ignore_index`. Of a binary task 0, 1 or
                `ignore_index`; of a multilabel task the same as (N, K, H, W), or (N, K, ...).
            preds: predictions, integer of the same shape, class ids, also where the ground truth is ignored; 0 and 1 or
                bool of the other tasks.
            scores: probabilities of the same shape, float in 0 to 1, for the average precision; not for multiclass.
                Those whose logits differ by less than 1/2048 count as equal.

        Raises:
            LabelOutOfRangeError: if either holds any other value; nothing of the batch is counted. For tensors on
                another device than the CPU it is raised when the results are read, each time until `reset`.
            InvalidArgumentError: if the shapes differ or either does not hold integers.
        """
        truth, pred = as_integers("truths", truths, self.task), as_integers("preds", preds, self.task)
        if self.task == MULTICLASS and scores is not None:
            raise InvalidArgumentError("scores are for binary and multilabel tasks; leave them out")
        if truth.shape != pred.shape:
            raise InvalidArgumentError(
                f"truths and preds must have the same shape, got {tuple(truth.shape)} and {tuple(pred.shape)}; "
                f"{LOGITS_ADVICE[self.task]}"
            )
        if self.task != MULTICLASS:
            self._store_planes(truth.to(pred.device), pred, scores)
            return
        truth, pred = truth.to(pred.device).reshape(-1), pred.reshape(-1)
        if not truth.numel():
            return
        if truth.device.type != "cpu":
            self._count_on_device(truth, pred)
            return
        self._own.matrix += self._count(truth, pred)

    def store_measures(self, n: int, measures: Mapping[str, float | Tensor]) -> None:
        """Adds values to running means, such as the loss of a batch.

        Args:
            n: weight of the values, usually the number of samples in the batch.
            measures: name -> number or tensor with one element; tensors stay on their device until they are read.

        Raises:
            InvalidArgumentError: if `n` is negative, a name is that of a score, or a tensor has more than one element.
        """
        if n < 0:
            raise InvalidArgumentError(f"n must be the number of samples, at least 0, got {n}")
        for name, value in measures.items():
            if name in self._score_names:
                raise InvalidArgumentError(f"measure {name!r} has the name of a score; choose another name")
            if isinstance(value, Tensor):
                if value.numel() != 1:
                    raise InvalidArgumentError(
                        f"measure {name!r} must be a single number, got a tensor of shape {tuple(value.shape)}"
                    )
                value = value.detach().reshape(()).clone()
            self._own.add_measure(name, n * value, n)

    @property
    def confusion_matrix(self) -> Tensor:
        """The pixels counted so far: int64 (K, K) on the CPU, rows are ground truth, columns are predictions; a copy.

        Of binary and multilabel tasks (K, 2, 2), a table per class.

        Raises:
            LabelOutOfRangeError: if results stored from a device held values out of range.
        """
        self._collect()
        return self._own.matrix + self._shared.matrix

    def summarize(self) -> dict[str, Any]:
        """Returns the scores, see `scores_from_confusion`, and the weighted mean of each measure.

        Raises:
            LabelOutOfRangeError: if results stored from a device held values out of range.
            InvalidArgumentError: if scores were stored with some batches only.
        """
        totals = self._totals()
        means = {
            name: value / totals.weights[name] if totals.weights[name] else float("nan")
            for name, value in totals.sums.items()
        }
        found = scores_from_confusion(totals.matrix, self.absent)
        histogram = totals.checked_histogram()
        if histogram is not None:
            precision = average_precision(histogram)
            known = precision[~np.isnan(precision)]
            found[AVERAGE_PRECISION] = float(known.mean()) if known.size else float("nan")
            found[f"{AVERAGE_PRECISION}_per_class"] = precision.tolist()
        return {**found, **means}

    def best_thresholds(self) -> list[float]:
        """Returns for each class the threshold of the probability with the highest IoU, and so with the highest F1.

        It is chosen from all scores that were stored, to 1/2048 of the logit.

        Raises:
            LabelOutOfRangeError: if results stored from a device held values out of range.
            InvalidArgumentError: if no scores were stored, or with some batches only.
        """
        histogram = self._totals().checked_histogram()
        if histogram is None:
            raise InvalidArgumentError(
                "thresholds need scores: pass them to store_results, for a binary or multilabel task"
            )
        found: list[float] = best_thresholds(histogram).tolist()
        return found

    def at_thresholds(self, thresholds: Sequence[float]) -> "MetricStore":
        """Returns a store of the same results whose labels are those at other thresholds.

        Args:
            thresholds: K probabilities above 0 and below 1, such as `best_thresholds()`; others are rounded to 1/2048
                of the logit.

        Raises:
            LabelOutOfRangeError: if results stored from a device held values out of range.
            InvalidArgumentError: if no scores were stored, or with some batches only; or a threshold is not allowed.
        """
        logit_thresholds(thresholds, self.num_classes)
        totals = self._totals()
        histogram = totals.checked_histogram()
        if histogram is None:
            raise InvalidArgumentError(
                "thresholds need scores: pass them to store_results, for a binary or multilabel task"
            )
        found = MetricStore(self.num_classes, self.ignore_index, self.absent, self.task)
        found._own = Totals(counts_at(histogram, thresholds), totals.sums, totals.weights, histogram)
        return found

    def _totals(self) -> Totals:
        """Returns the sums of all samples stored so far."""
        totals = self._no_totals()
        self._collect()
        totals.add(self._own)
        totals.add(self._shared)
        return totals

    def merge(self, other: "MetricStore") -> None:
        """Adds the counts of `other`, which is not changed.

        Raises:
            InvalidArgumentError: if the two differ in `num_classes`, `ignore_index` or `task`, or are one and the same.
            LabelOutOfRangeError: if results stored from a device held values out of range.
        """
        if other is self:
            raise InvalidArgumentError("a store cannot be merged with itself; every sample would count twice")
        for name in ("num_classes", "ignore_index", "task"):
            own, theirs = getattr(self, name), getattr(other, name)
            if own != theirs:
                raise InvalidArgumentError(
                    f"stores to merge must agree: this one has {name}={own!r}, the other {theirs!r}"
                )
        other._collect()
        self._own.add(other._own)
        self._shared.add(other._shared)

    def reduce(self) -> None:
        """Adds up the stores of all processes of `torch.distributed`; afterwards each process holds the total.

        Every process must call it. Without an initialized process group it does nothing. Calls may be repeated and
        results stored in between: each sample counts once.

        Raises:
            LabelOutOfRangeError: in every process, if one of them stored results from a device with values out of
                range.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return
        error = None
        try:
            self._collect()
        except LabelOutOfRangeError as caught:
            error = str(caught)  # raised below in all processes, so that none waits for this one
        # objects, not tensors: the names of measures may differ between processes, and any backend takes objects
        gathered: list[Any] = [None] * dist.get_world_size()
        own = self._own
        dist.all_gather_object(gathered, (error, own.matrix, own.sums, own.weights, own.histogram))
        for rank, (message, *_) in enumerate(gathered):
            if message is not None:
                raise LabelOutOfRangeError(f"process {rank}: {message}")
        for _, matrix, sums, weights, histogram in gathered:
            self._shared.add(Totals(matrix, sums, weights, histogram))
        self._own = self._no_totals()

    @property
    def _score_names(self) -> tuple[str, ...]:
        of_scores = () if self.task == MULTICLASS else (AVERAGE_PRECISION, f"{AVERAGE_PRECISION}_per_class")
        return *score_names(self.task), *per_class_names(self.task), *of_scores, "absent"

    def _no_totals(self) -> Totals:
        shape = (self.num_classes,) * 2 if self.task == MULTICLASS else (self.num_classes, 2, 2)
        return Totals(torch.zeros(shape, dtype=torch.int64))

    # ---- binary and multilabel ---------------------------------------------------------------------------------------

    def _store_planes(self, truth: Tensor, pred: Tensor, scores: Tensor | npt.NDArray[Any] | None) -> None:
        """Counts a batch of a binary or multilabel task.

        Raises:
            LabelOutOfRangeError: on the CPU, if there are other values than 0, 1 and, in the truth, `ignore_index`.
            InvalidArgumentError: if shapes or the type of `scores` are not allowed.
        """
        if self.num_classes > 1 and (truth.ndim < 2 or truth.shape[1] != self.num_classes):
            raise InvalidArgumentError(
                f"truths and preds of a multilabel task must be (N, K, H, W) with K={self.num_classes} classes, got "
                f"shape {tuple(truth.shape)}"
            )
        if not truth.numel():
            return
        values = None if scores is None else self._checked_scores(scores, pred)
        if not 0 <= self.ignore_index <= _LARGEST_BYTE:
            truth = truth.long()  # in a comparison with such a number, uint8 would wrap around
        planes, answers = as_planes(truth, self.num_classes), as_planes(pred, self.num_classes)
        wrong = wrong_planes(planes, answers, self.ignore_index)
        if truth.device.type == "cpu" and wrong.any():
            raise self._out_of_range(truth.reshape(-1), pred.reshape(-1))
        counts = count_planes(planes, answers, self.ignore_index)
        histogram = None
        if values is not None:
            histogram = count_scores(planes, as_planes(values, self.num_classes), self.ignore_index)
        found = PlaneCounts(counts, wrong, histogram)
        if truth.device.type == "cpu":
            self._own.add(found.totals())
        elif truth.device in self._planes_on_devices:
            self._planes_on_devices[truth.device].add(found)
        else:
            self._planes_on_devices[truth.device] = found

    def _checked_scores(self, scores: Tensor | npt.NDArray[Any], pred: Tensor) -> Tensor:
        is_array = isinstance(scores, np.ndarray) and scores.dtype.kind in "biuf"
        values = tensor_of_array(scores) if is_array else scores  # type: ignore[arg-type]  # mypy forgets what was asked
        if not isinstance(values, Tensor):
            kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
            raise InvalidArgumentError(f"scores must be a tensor or an array of probabilities, got {kind}")
        values = values.detach().as_subclass(Tensor)
        if not values.is_floating_point() or values.shape != pred.shape:
            raise InvalidArgumentError(
                f"scores must be probabilities of the shape of preds, {tuple(pred.shape)}, got {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        if values.device.type == "cpu":
            low, high = torch.aminmax(values.float())  # NaN if there is one
            if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
                raise InvalidArgumentError(
                    f"scores must be probabilities in 0 to 1, got values from {float(low):.4g} to {float(high):.4g}; "
                    "logits become probabilities by torch.sigmoid"
                )
        return values.to(pred.device).clamp(0, 1)

    # ---- multiclass --------------------------------------------------------------------------------------------------

    def _count(self, truth: Tensor, pred: Tensor) -> Tensor:
        """Returns the confusion matrix of two flat tensors on the CPU.

        Raises:
            LabelOutOfRangeError: if one holds values out of range.
        """
        # with another ignored value, 255 in the ground truth would be an error
        if self.ignore_index == _LARGEST_BYTE and self.num_classes < _LARGEST_BYTE:
            truth_bytes, pred_bytes = as_bytes(truth), as_bytes(pred)
            if truth_bytes is not None and pred_bytes is not None:
                matrix, ignored = count_bytes(truth_bytes, pred_bytes, self.num_classes)
                if int(matrix.sum()) + ignored != truth.numel():
                    raise self._out_of_range(truth, pred)
                return matrix
        table = PairTable(self.num_classes, self.ignore_index)
        counts = table.zeros(truth.device)
        table.add_to(counts, truth, pred)
        if any(table.wrong_values(counts).values()):
            raise self._out_of_range(truth, pred)
        return table.matrix(counts)

    def _count_on_device(self, truth: Tensor, pred: Tensor) -> None:
        """Adds two flat tensors to the counts that stay on their device until they are read."""
        table = PairTable(self.num_classes, self.ignore_index)
        if truth.device not in self._on_devices:
            self._on_devices[truth.device] = table, table.zeros(truth.device)
        table.add_to(self._on_devices[truth.device][1], truth, pred)

    def _out_of_range(self, truth: Tensor, pred: Tensor) -> LabelOutOfRangeError:
        """Returns the error that names the wrong values of the first argument that has some, with their pixels."""
        truth, pred = truth.long(), pred.long()  # in a comparison with a larger number, uint8 would wrap around
        side, wrong = "truths", truth[_is_wrong(truth, self._num_ids) & (truth != self.ignore_index)]
        if not wrong.numel():
            side, wrong = "preds", pred[_is_wrong(pred, self._num_ids)]
        values, counts = np.unique(wrong.numpy(), return_counts=True)
        return self._range_error(side, list_ids(values, counts))

    @property
    def _num_ids(self) -> int:
        return self.num_classes if self.task == MULTICLASS else 2

    def _collect(self) -> None:
        """Moves the counts of other devices to the CPU."""
        for device, (table, on_device) in list(self._on_devices.items()):
            counts = on_device.cpu()
            for side, wrong in table.wrong_values(counts).items():
                if wrong:
                    seen = list_ids(wrong, wrong.values())
                    raise self._range_error(side, seen)
            self._own.matrix += table.matrix(counts)
            del self._on_devices[device]
        for device, found in list(self._planes_on_devices.items()):
            for side, count in zip(("truths", "preds"), found.wrong.tolist(), strict=True):
                if count:
                    raise self._range_error(side, f"{count} other values")
            self._own.add(found.totals())
            del self._planes_on_devices[device]
        # measures on devices become numbers at the same time
        self._own.sums = {name: float(value) for name, value in self._own.sums.items()}

    def _range_error(self, side: str, seen: str) -> LabelOutOfRangeError:
        if self.task != MULTICLASS:
            allowed = "0 and 1"
        else:
            allowed = f"the class ids 0 to {self.num_classes - 1}" if self.num_classes > 1 else "the class id 0"
        if side == "truths":
            allowed += f" and ignore_index {self.ignore_index}"
            advice = "map the ids with a LabelMap, or check num_classes and ignore_index"
        else:
            advice = (
                "ignore_index counts in truths only; check num_classes, and that preds are labels of the same classes"
            )
        return LabelOutOfRangeError(f"{side} hold {seen}; allowed are {allowed}: {advice}")


def _is_wrong(values: Tensor, num_classes: int) -> Tensor:
    return (values < 0) | (values >= num_classes)
