"""Arrays of any layout become the tensors of the same values, wherever arrays of a user come in."""

import numpy as np
import pytest
import torch

from seg_core import MetricStore, class_weights
from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def field_of_records(array):
    records = np.zeros(array.shape, [("a", "u1"), ("b", array.dtype)])
    records["b"] = array
    return records["b"]


LAYOUTS = {
    "contiguous": lambda a: a,
    "flipped": lambda a: a[..., ::-1].copy()[..., ::-1],
    "columns first": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "read-only": read_only,
    "field of records": field_of_records,
}
in_each_layout = pytest.mark.parametrize("lay", LAYOUTS.values(), ids=LAYOUTS)


@in_each_layout
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i8", "f2", "f4", "f8", "?"])
def test_tensor_has_the_values_of_the_array(lay, dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    assert tensor_of_array(lay(values)).tolist() == values.tolist()


def test_memory_is_shared_where_it_can_be():
    values = np.zeros((2, 3))
    tensor_of_array(values)[0, 0] = 1
    assert values[0, 0] == 1


def test_long_doubles_become_doubles():
    assert tensor_of_array(np.ones(2, np.longdouble)).dtype == torch.float64


@in_each_layout
def test_confusion_matrix_and_thresholds_of_any_layout(lay):
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, (2, 3, 4, 5)), rng.random((2, 3, 4, 5))
    labels = (scores > 0.5).astype(np.int64)
    found, expected = (MetricStore(3, task="multilabel") for _ in range(2))
    found.store_results(lay(truth), lay(labels), lay(scores))
    expected.store_results(torch.tensor(truth), torch.tensor(labels), torch.tensor(scores))
    assert found.confusion_matrix.equal(expected.confusion_matrix)
    assert found.summarize() == expected.summarize()


@in_each_layout
def test_class_weights_of_counts_of_any_layout(lay):
    counts = np.array([10, 20, 30, 40])
    assert class_weights(lay(counts)).equal(class_weights(counts.tolist()))
    assert counts.tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "counts", [np.array(["a"]), np.array([1j]), torch.tensor([1j]), np.array(["2020-01-01"], "M8[D]")]
)
def test_counts_that_are_no_numbers_are_refused(counts):
    with pytest.raises(InvalidArgumentError, match="one number of pixels per class"):
        class_weights(counts)


@pytest.mark.parametrize("scores", ["high", [0.5], np.array(["a"]), np.array([0.5 + 1j])])
def test_scores_that_are_no_probabilities_are_refused(scores):
    store = MetricStore(1, task="binary")
    labels = np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(InvalidArgumentError, match="scores must be a tensor or an array of probabilities"):
        store.store_results(labels, labels, scores)
