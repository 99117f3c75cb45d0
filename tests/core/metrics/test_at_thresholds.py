"""Counts at other thresholds, from the histograms of scores."""

import pytest
import torch

from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import threshold_labels
from seg_core.metrics.metric_store import MetricStore
from seg_core.metrics.protocol import EvaluationProtocol


def stored(seed, task="multilabel", thresholds=0.5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    count = 1 if task == "binary" else 3
    logits = torch.randn(4, count, 16, 16, generator=generator) * 3
    truth = (logits + 3 * torch.randn(logits.shape, generator=generator) > 1).to(torch.uint8)
    truth[:, :, :2] = 255
    logits = logits.to(dtype)
    labels, scores = threshold_labels(logits, thresholds), logits.float().sigmoid()
    if task == "binary":
        truth, labels, scores = truth[:, 0], labels[:, 0], scores[:, 0]
    store = MetricStore(count, task=task)
    store.store_results(truth, labels, scores)
    store.store_measures(4, {"loss": 2.0})
    return store


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])  # many equal logits in half precision
@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_counts_are_those_of_labels_at_the_thresholds(task, dtype, seed):
    store = stored(seed, task, dtype=dtype)
    thresholds = store.best_thresholds()
    found = store.at_thresholds(thresholds)
    expected = stored(seed, task, thresholds, dtype)
    assert torch.equal(found.confusion_matrix, expected.confusion_matrix)
    assert not torch.equal(found.confusion_matrix, store.confusion_matrix)
    assert found.summarize() == expected.summarize()
    assert found.summarize()["miou"] > store.summarize()["miou"]
    assert store.summarize() == stored(seed, task, dtype=dtype).summarize()  # unchanged


def test_errors():
    with pytest.raises(InvalidArgumentError, match="above 0 and below 1"):
        stored(0).at_thresholds([0.5, 1.0, 0.5])
    with pytest.raises(InvalidArgumentError, match="pass them to store_results"):
        MetricStore(2, task="multilabel").at_thresholds([0.5, 0.5])


def test_protocol_holds_thresholds_of_tasks_that_have_them():
    plain = EvaluationProtocol("A", "val", "", 1, ("a", "b"))
    assert not {"thresholds", "tuned"} & plain.to_dict().keys()
    assert "threshold" not in str(plain)
    tuned = EvaluationProtocol("A", "val", "", 1, ("a", "b"), thresholds=(0.25, 0.5), tuned=True)
    assert EvaluationProtocol.from_dict(tuned.to_dict()) == tuned
    assert "thresholds 0.25, 0.5 tuned on this split" in str(tuned)
    assert "threshold 0.5," in str(EvaluationProtocol("A", "val", "", 1, ("a", "b"), thresholds=(0.5, 0.5)))
