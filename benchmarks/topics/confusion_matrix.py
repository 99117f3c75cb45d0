"""Counting a confusion matrix: the pixels of one large image, 19 classes, some pixels ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import IGNORED, blocky_labels, like_prediction

__all__ = ["CASES", "Inputs"]

NUM_CLASSES = 19


@dataclass(frozen=True)
class Inputs:
    """Ground truth and prediction of one image: uint8 (1, H, W), class ids; the ground truth also holds 255."""

    truth: Tensor
    pred: Tensor

    def long(self) -> "Inputs":
        """Returns the same labels as int64, the only type that most peers take."""
        return Inputs(self.truth.long(), self.pred.long())


def _make_inputs(quick: bool) -> Inputs:
    height, width = (256, 512) if quick else (1024, 2048)
    truth = blocky_labels(height, width, NUM_CLASSES)
    return Inputs(truth[None], like_prediction(truth, NUM_CLASSES)[None])


# -- ours: one store over the whole dataset, so each answer comes from a fresh one


def _ours(inputs: Inputs) -> Callable[[], None]:
    import seg_core

    store = seg_core.MetricStore(NUM_CLASSES, IGNORED)
    return lambda: store.store_results(inputs.truth, inputs.pred)


def _ours_answer(inputs: Inputs) -> Tensor:
    import seg_core

    store = seg_core.MetricStore(NUM_CLASSES, IGNORED)
    store.store_results(inputs.truth, inputs.pred)
    return store.confusion_matrix


# -- peers


def _torchmetrics(name: str, validate: bool) -> Contender:
    def metric() -> Any:
        from torchmetrics.classification import MulticlassConfusionMatrix

        return MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=IGNORED, validate_args=validate)

    def prepare(inputs: Inputs) -> Callable[[], None]:
        store, long = metric(), inputs.long()
        return lambda: store.update(long.pred, long.truth)

    def answer(inputs: Inputs) -> Tensor:
        store, long = metric(), inputs.long()
        store.update(long.pred, long.truth)
        return store.compute()

    return Contender(name, prepare, "peer", "torchmetrics", answer)


def _smp(inputs: Inputs) -> Callable[[], Any]:
    from segmentation_models_pytorch.metrics import get_stats

    long = inputs.long()
    options = {"mode": "multiclass", "num_classes": NUM_CLASSES, "ignore_index": IGNORED}
    return lambda: get_stats(long.pred, long.truth, **options)


def _pixseg(inputs: Inputs) -> Callable[[], Tensor]:
    from pixseg.utils.metrics import fast_confusion_matrix

    long = inputs.long()
    return lambda: fast_confusion_matrix(long.truth, long.pred, NUM_CLASSES)


def _sklearn(inputs: Inputs) -> Callable[[], Any]:
    from sklearn.metrics import confusion_matrix

    long = inputs.long()
    truth, pred = long.truth.flatten().numpy(), long.pred.flatten().numpy()
    # values outside `labels` are left out: here the ignored pixels
    return lambda: confusion_matrix(truth, pred, labels=range(NUM_CLASSES))


# -- bounds: counting only, without a check for values out of range


def _opencv(inputs: Inputs) -> Callable[[], Any]:
    import cv2

    planes = [inputs.truth[0].numpy(), inputs.pred[0].numpy()]
    sizes, ranges = [NUM_CLASSES, NUM_CLASSES], [0, NUM_CLASSES, 0, NUM_CLASSES]
    return lambda: cv2.calcHist(planes, [0, 1], None, sizes, ranges)


def _bincount(inputs: Inputs) -> Callable[[], Tensor]:
    code = (inputs.truth.int() * NUM_CLASSES + inputs.pred).clamp(max=NUM_CLASSES**2).flatten()
    return lambda: torch.bincount(code, minlength=NUM_CLASSES**2 + 1)


def check_matrices(answers: Mapping[str, Any]) -> str:
    """Returns the sentence of agreement; SMP returns only tp, fp, fn and tn per class, not the matrix."""
    first, *names = answers
    matrix = torch.as_tensor(answers[first])
    right = matrix.diagonal()
    sums = torch.stack([right, matrix.sum(0) - right, matrix.sum(1) - right])
    for name in names:
        answer = answers[name]
        if isinstance(answer, tuple):
            equal = torch.equal(torch.cat(answer[:3]), sums)
        else:
            equal = torch.equal(torch.as_tensor(answer), matrix)
        if not equal:
            raise DisagreementError(f"the counts of {name!r} and {first!r} differ")
    accuracy = right.sum() / matrix.sum()
    return f"all counts equal ({int(matrix.sum())} pixels, {100 * accuracy:.1f} % of them right)"


CASES = (
    Case(
        name="1024x2048",
        work="add one image of 1024x2048 pixels, 19 classes, 5 % of them ignored (255), to a confusion matrix",
        make_inputs=_make_inputs,
        contenders=(
            Contender("ours uint8", _ours, "ours", "seg-core", _ours_answer),
            Contender("ours int64", lambda i: _ours(i.long()), "ours", "seg-core", lambda i: _ours_answer(i.long())),
            _torchmetrics("torchmetrics", validate=True),
            _torchmetrics("torchmetrics unchecked", validate=False),
            Contender("SMP get_stats", _smp, "peer", "segmentation-models-pytorch"),
            Contender("pixseg", _pixseg, "peer", "pixseg"),
            Contender("scikit-learn", _sklearn, "peer", "scikit-learn"),
            Contender("cv2.calcHist, uint8", _opencv, "bound", "opencv-python-headless"),
            Contender("torch.bincount of codes", _bincount, "bound", "torch"),
        ),
        check=check_matrices,
        goals=(
            Goal("ours uint8", "torchmetrics", speed=15, memory_mib=20),
            Goal("ours uint8", "torchmetrics unchecked", speed=4.5),
            Goal("ours uint8", "SMP get_stats", speed=6),
            Goal("ours uint8", "pixseg", speed=6),
            Goal("ours int64", "torchmetrics unchecked", speed=3, memory_mib=20),
        ),
    ),
)
