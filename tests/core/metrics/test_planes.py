"""Scores of binary and multilabel tasks, against scikit-learn and plain counting."""

import math

import numpy as np
import pytest
import torch

import seg_core
from seg_core import InvalidArgumentError, LabelOutOfRangeError, MetricStore, scores_from_confusion
from seg_core.metrics.totals import PlaneCounts

IGNORED = 255


def _data(seed: int, classes: int, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, classes, 17, 23)
    scores = torch.rand(shape, generator=generator)
    truth = (torch.rand(shape, generator=generator) < scores * 0.6).long()
    truth[torch.rand(shape, generator=generator) < 0.1] = IGNORED
    return truth.to(dtype), scores


def _store(truth, scores, **options) -> MetricStore:
    classes = truth.shape[1]
    store = MetricStore(classes, task="binary" if classes == 1 else "multilabel", **options)
    if classes == 1:
        truth, scores = truth[:, 0], scores[:, 0]
    for image in range(len(truth)):
        store.store_results(truth[image : image + 1], scores[image : image + 1] > 0.5, scores[image : image + 1])
    return store


@pytest.mark.parametrize("classes", [1, 4])
def test_counts_and_scores_are_those_of_plain_counting(classes):
    truth, scores = _data(0, classes)
    store = _store(truth, scores)
    found = store.summarize()
    for k in range(classes):
        t, p = truth[:, k].numpy(), scores[:, k].numpy() > 0.5
        valid = t != IGNORED
        t, p = t[valid] == 1, p[valid]
        tp, fp, fn, tn = (t & p).sum(), (~t & p).sum(), (t & ~p).sum(), (~t & ~p).sum()
        assert store.confusion_matrix[k].tolist() == [[tn, fp], [fn, tp]]
        assert found["iou_per_class"][k] == tp / (tp + fp + fn)
        assert found["dice_per_class"][k] == 2 * tp / (2 * tp + fp + fn)
        assert found["precision_per_class"][k] == tp / (tp + fp)
        assert found["recall_per_class"][k] == tp / (tp + fn)
        assert found["specificity_per_class"][k] == tn / (tn + fp)
    assert found["miou"] == pytest.approx(np.mean(found["iou_per_class"]), abs=1e-12)
    counts = store.confusion_matrix.double()
    assert found["acc"] == pytest.approx(float(counts.diagonal(dim1=1, dim2=2).sum() / counts.sum()), abs=1e-12)


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    truth, scores = _data(1, 3)
    found = _store(truth, scores).summarize()
    for k in range(3):
        valid = truth[:, k].numpy() != IGNORED
        t, s = truth[:, k].numpy()[valid], scores[:, k].numpy()[valid]
        assert found["iou_per_class"][k] == pytest.approx(metrics.jaccard_score(t, s > 0.5), abs=1e-12)
        assert found["dice_per_class"][k] == pytest.approx(metrics.f1_score(t, s > 0.5), abs=1e-12)
        assert found["specificity_per_class"][k] == pytest.approx(metrics.recall_score(1 - t, s <= 0.5), abs=1e-12)
        # scores in one bin count as equal
        assert found["ap_per_class"][k] == pytest.approx(metrics.average_precision_score(t, s), abs=2e-4)
    assert found["ap"] == pytest.approx(np.mean(found["ap_per_class"]), abs=1e-12)


def test_average_precision_of_known_values():
    store = MetricStore(1, task="binary")
    truth, scores = torch.tensor([[1, 0, 1, 0, IGNORED]]), torch.tensor([[0.9, 0.8, 0.7, 0.1, 1.0]])
    store.store_results(truth, scores > 0.5, scores)
    assert store.summarize()["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-12)


def test_scores_close_together_are_told_apart():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.random((4, 64, 96)) < 0.05
    scores = (0.146 + 0.01 * (rng.random(truth.shape) * 0.6 + truth * 0.3)).astype(np.float32)
    store = MetricStore(1, task="binary")
    store.store_results(truth, scores > 0.5, scores)
    assert store.summarize()["ap"] == pytest.approx(
        metrics.average_precision_score(truth.ravel(), scores.ravel()), abs=0.01
    )


def test_extreme_scores_of_a_network_are_told_apart():
    store = MetricStore(1, task="binary")
    scores = torch.sigmoid(torch.tensor([[-9.0, -8.0, 8.0, 9.0]], dtype=torch.float64)).float()
    store.store_results(torch.tensor([[0, 1, 0, 1]]), scores > 0.5, scores)
    assert store.summarize()["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-12)
    store.store_results(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), torch.tensor([[0.0, 1.0]]))
    assert store.summarize()["ap"] > 0.8


def test_absent_classes_follow_the_rule():
    counts = torch.tensor([[[10, 0], [0, 0]], [[5, 1], [2, 2]]])
    skipped = scores_from_confusion(counts)
    assert math.isnan(skipped["iou_per_class"][0]) and skipped["miou"] == 0.4
    assert skipped["specificity_per_class"][0] == 1.0 and skipped["recall"] == 0.5
    assert scores_from_confusion(counts, "zero")["miou"] == 0.2
    assert scores_from_confusion(counts, "one")["miou"] == 0.7
    assert math.isnan(scores_from_confusion(counts, "nan")["miou"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32, torch.uint16])
def test_every_integer_type_and_numpy_count_alike(dtype):
    truth, scores = _data(2, 3, dtype)
    store = MetricStore(3, task="multilabel")
    store.store_results(truth.numpy(), (scores > 0.5).numpy())
    expected = _store(truth, scores).confusion_matrix
    assert store.confusion_matrix.equal(expected) and "ap" not in store.summarize()


def test_merged_stores_count_all_and_settings_must_agree():
    truth, scores = _data(3, 2)
    whole, first, second = _store(truth, scores), _store(truth[:1], scores[:1]), _store(truth[1:], scores[1:])
    first.merge(second)
    assert first.summarize() == whole.summarize()
    with pytest.raises(InvalidArgumentError, match="this one has task='multilabel', the other 'multiclass'"):
        first.merge(MetricStore(2))


def test_an_ignored_value_beyond_a_byte_does_not_wrap_around():
    store = MetricStore(1, ignore_index=256, task="binary")
    store.store_results(torch.tensor([[0, 1]], dtype=torch.uint8), torch.tensor([[0, 1]]))
    assert store.confusion_matrix.tolist() == [[[1, 0], [0, 1]]]


@pytest.mark.parametrize(
    ("truth", "pred", "match"),
    [
        ([[0, 2]], [[0, 1]], "truths hold 2 .*; allowed are 0 and 1 and ignore_index 255"),
        ([[0, 1]], [[0, 255]], "preds hold 255 .*; allowed are 0 and 1: ignore_index counts in truths only"),
    ],
)
def test_other_values_are_named_and_nothing_is_counted(truth, pred, match):
    store = MetricStore(1, task="binary")
    with pytest.raises(LabelOutOfRangeError, match=match):
        store.store_results(torch.tensor(truth), torch.tensor(pred))
    assert store.confusion_matrix.sum() == 0


def test_best_thresholds_are_those_of_a_search():
    truth, scores = _data(5, 3)
    scores[:, 1] = scores[:, 1] ** 3
    found = _store(truth, scores).best_thresholds()
    for k in range(3):
        valid = truth[:, k] != IGNORED
        t, s = truth[:, k][valid] == 1, scores[:, k][valid]
        ious = {u: float((t & (s > u)).sum() / (t | (s > u)).sum()) for u in np.linspace(0.01, 0.99, 99).tolist()}
        own = float((t & (s > found[k])).sum() / (t | (s > found[k])).sum())
        assert own >= max(ious.values()) - 1e-3
    assert found[1] < found[0]


def test_without_scores_or_objects_thresholds_are_an_error_or_one_half():
    store = MetricStore(1, task="binary")
    with pytest.raises(InvalidArgumentError, match="thresholds need scores: pass them to store_results"):
        store.best_thresholds()
    store.store_results(torch.tensor([[0, 0]]), torch.tensor([[0, 1]]), torch.tensor([[0.2, 0.9]]))
    assert store.best_thresholds() == [0.5]
    store.store_results(torch.tensor([[1, 1]]), torch.tensor([[0, 1]]), torch.tensor([[0.95, 0.99]]))
    assert 0.9 < store.best_thresholds()[0] < 0.95


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_classes": 2, "task": "binary"}, "num_classes must be 1 for a binary task"),
        ({"num_classes": 2, "task": "multilabels"}, "task must be one of"),
        ({"num_classes": 2, "task": "multilabel", "ignore_index": 1}, "ignore_index 1 is a label of a multilabel task"),
    ],
)
def test_wrong_settings_are_named(options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        MetricStore(**options)


def test_wrong_shapes_and_scores_are_named():
    store, planes = MetricStore(2, task="multilabel"), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InvalidArgumentError, match=r"must be \(N, K, H, W\) with K=2 classes, got shape"):
        store.store_results(planes, planes)
    planes = planes[:, :2]
    with pytest.raises(InvalidArgumentError, match="in 0 to 1, got values from 3 to 3; logits become .*sigmoid"):
        store.store_results(planes, planes, torch.full(planes.shape, 3.0))
    with pytest.raises(InvalidArgumentError, match="probabilities of the shape of preds"):
        store.store_results(planes, planes, planes)
    assert store.confusion_matrix.sum() == 0
    store.store_results(planes, planes)
    store.store_results(planes, planes, torch.zeros(planes.shape))
    with pytest.raises(InvalidArgumentError, match="scores were stored for 32 of 64 answers"):
        store.summarize()
    with pytest.raises(InvalidArgumentError, match="scores are for binary and multilabel tasks"):
        MetricStore(2).store_results(planes, planes, torch.zeros(planes.shape))


@pytest.mark.parametrize(
    ("task", "count", "advice"),
    [
        ("multiclass", 2, "logits become labels with argmax_labels"),
        ("binary", 1, r"become labels \(N, H, W\) with threshold_labels\(logits\)\[:, 0\]"),
        ("multilabel", 2, "logits become labels with threshold_labels"),
    ],
)
def test_advice_on_logits_is_that_of_the_task(task, count, advice):
    """Logits, or labels of another shape, instead of predictions; what the message says works."""
    store, logits = MetricStore(count, task=task), torch.linspace(-1, 1, 16 * count).view(1, count, 4, 4)
    truth = torch.zeros((1, 4, 4) if task != "multilabel" else logits.shape, dtype=torch.uint8)
    for preds in (logits, torch.zeros(1, count, 4, 5, dtype=torch.uint8)):
        with pytest.raises(InvalidArgumentError, match=advice):
            store.store_results(truth, preds)
    labels = seg_core.argmax_labels(logits) if task == "multiclass" else seg_core.threshold_labels(logits)
    store.store_results(truth, labels[:, 0] if task == "binary" else labels)
    assert int(store.confusion_matrix.sum()) == truth.numel()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device_as_on_the_cpu():
    truth, scores = _data(4, 3)
    expected = _store(truth, scores).summarize()
    assert _store(truth.cuda(), scores.cuda()).summarize() == expected


def test_on_another_device_wrong_values_are_told_when_results_are_read():
    store, wrong = MetricStore(1, task="binary"), torch.tensor([1, 0])
    # what a device would hand over
    store._planes_on_devices[torch.device("cuda")] = PlaneCounts(torch.zeros(1, 2, 2, dtype=torch.int64), wrong, None)
    with pytest.raises(LabelOutOfRangeError, match="truths hold 1 other values; allowed are 0 and 1 and ignore_index"):
        _ = store.confusion_matrix
