import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_core.metrics.metric_store import MetricStore
from seg_core.metrics.scores import scores_from_confusion

DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def brute_force(truth, pred, num_classes, ignore_index):
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for t, p in zip(truth.ravel().tolist(), pred.ravel().tolist(), strict=True):
        if t != ignore_index:
            matrix[t, p] += 1
    return matrix


@st.composite
def label_pairs(draw):
    num_classes = draw(st.integers(1, 7))
    ignore_index = draw(st.sampled_from([255, 100, num_classes, -1, -100, 1000]))
    truth_values = st.one_of(st.integers(0, num_classes - 1), st.just(ignore_index))
    size = draw(st.integers(0, 40))
    truth = np.array(draw(st.lists(truth_values, min_size=size, max_size=size)), np.int64)
    pred = np.array(draw(st.lists(st.integers(0, num_classes - 1), min_size=size, max_size=size)), np.int64)
    return truth, pred, num_classes, ignore_index


@pytest.mark.smoke
@given(label_pairs(), st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.booleans())
def test_store_results_any_types_agree_with_brute_force(pair, truth_dtype, pred_dtype, as_tensor):
    truth, pred, num_classes, ignore_index = pair
    matrix = brute_force(truth, pred, num_classes, ignore_index)
    truths = truth.astype(truth_dtype) if np.array_equal(truth.astype(truth_dtype).astype(np.int64), truth) else truth
    preds = pred.astype(pred_dtype) if np.array_equal(pred.astype(pred_dtype).astype(np.int64), pred) else pred
    if as_tensor:
        truths, preds = torch.from_numpy(truths), torch.from_numpy(preds)
    store = MetricStore(num_classes, ignore_index)
    store.store_results(truths, preds)
    assert store.confusion_matrix.dtype == torch.int64
    assert store.confusion_matrix.tolist() == matrix.tolist()
    assert np.asarray(truths).astype(np.int64).tolist() == truth.tolist()
    assert np.asarray(preds).astype(np.int64).tolist() == pred.tolist()


# scikit-learn warns where there is but one class
@given(label_pairs().filter(lambda pair: pair[2] > 1 and (pair[0] != pair[3]).any()))
def test_scores_agree_with_scikit_learn(pair):
    truth, pred, num_classes, ignore_index = pair
    store = MetricStore(num_classes, ignore_index)
    store.store_results(truth, pred)
    valid = truth != ignore_index
    truth, pred = truth[valid], pred[valid]
    labels = list(range(num_classes))
    assert store.confusion_matrix.tolist() == sklearn_metrics.confusion_matrix(truth, pred, labels=labels).tolist()
    scores = scores_from_confusion(store.confusion_matrix, absent="zero")
    options = {"labels": labels, "average": None, "zero_division": 0}
    assert scores["acc"] == pytest.approx(sklearn_metrics.accuracy_score(truth, pred))
    assert scores["iou_per_class"] == pytest.approx(sklearn_metrics.jaccard_score(truth, pred, **options))
    assert scores["dice_per_class"] == pytest.approx(sklearn_metrics.f1_score(truth, pred, **options))
    assert scores["acc_per_class"] == pytest.approx(sklearn_metrics.recall_score(truth, pred, **options))
    assert scores["miou"] == pytest.approx(np.mean(scores["iou_per_class"]))
    weighted = sklearn_metrics.jaccard_score(truth, pred, labels=labels, average="weighted", zero_division=0)
    for absent in ("skip", "zero", "one", "nan"):
        assert scores_from_confusion(store.confusion_matrix, absent)["fwiou"] == pytest.approx(weighted)
    # the skipping mean is the mean over the classes that occur on one side at least
    seen = sorted({*truth.tolist(), *pred.tolist()})
    skipping = scores_from_confusion(store.confusion_matrix)
    assert skipping["miou"] == pytest.approx(
        np.mean(sklearn_metrics.jaccard_score(truth, pred, labels=seen, average=None))
    )
    assert skipping["macc"] == pytest.approx(
        sklearn_metrics.recall_score(truth, pred, labels=np.unique(truth), average="macro")
    )


def test_scores_from_confusion_two_classes_by_hand():
    scores = scores_from_confusion([[3, 1], [2, 4]])
    assert scores["acc"] == pytest.approx(7 / 10)
    assert scores["acc_per_class"] == pytest.approx([3 / 4, 4 / 6])
    assert scores["macc"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert scores["iou_per_class"] == pytest.approx([3 / 6, 4 / 7])
    assert scores["miou"] == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert scores["fwiou"] == pytest.approx(0.4 * 3 / 6 + 0.6 * 4 / 7)
    assert scores["dice_per_class"] == pytest.approx([6 / 9, 8 / 11])
    assert scores["dice"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert scores["absent"] == "skip"
    assert all(type(scores[key]) is float for key in ("acc", "macc", "miou", "fwiou", "dice"))


# class 0 right, class 1 neither in the ground truth nor predicted, class 2 not in the ground truth but predicted once
ABSENT = [[3, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("absent", "iou", "accuracy", "mean_iou", "mean_accuracy"),
    [
        ("skip", [0.75, math.nan, 0.0], [0.75, math.nan, math.nan], 0.375, 0.75),
        ("zero", [0.75, 0.0, 0.0], [0.75, 0.0, 0.0], 0.25, 0.25),
        ("one", [0.75, 1.0, 0.0], [0.75, 1.0, 1.0], 1.75 / 3, 2.75 / 3),
        ("nan", [0.75, math.nan, 0.0], [0.75, math.nan, math.nan], math.nan, math.nan),
    ],
)
def test_scores_absent_classes_follow_the_policy(absent, iou, accuracy, mean_iou, mean_accuracy):
    for matrix in (ABSENT, np.array(ABSENT), torch.tensor(ABSENT)):
        scores = scores_from_confusion(matrix, absent)
        assert scores["iou_per_class"] == pytest.approx(iou, nan_ok=True)
        assert scores["acc_per_class"] == pytest.approx(accuracy, nan_ok=True)
        assert scores["miou"] == pytest.approx(mean_iou, nan_ok=True)
        assert scores["macc"] == pytest.approx(mean_accuracy, nan_ok=True)
        assert scores["absent"] == absent
        assert scores["fwiou"] == pytest.approx(0.75)


def test_summarize_nothing_valid_gives_nan_without_warning():
    store = MetricStore(3)
    store.store_results(torch.full((1, 4, 4), 255), torch.zeros(1, 4, 4, dtype=torch.long))
    scores = store.summarize()
    assert all(math.isnan(scores[key]) for key in ("acc", "macc", "miou", "fwiou", "dice"))
    assert store.confusion_matrix.sum() == 0


@pytest.mark.parametrize(
    ("matrix", "absent", "words"),
    [
        ([[1, 2]], "skip", r"matrix must be square, \(K, K\), got shape \(1, 2\)"),
        ([1, 2], "skip", "matrix must be square"),
        (np.zeros((0, 0)), "skip", "matrix must be square"),
        ([[1, -2], [0, 0]], "skip", "some entries are negative"),
        ([[1, math.nan], [0, 0]], "skip", "some entries are negative, infinite or nan"),
        ([[1]], "drop", "absent must be one of skip, zero, one, nan, got 'drop'"),
    ],
)
def test_scores_from_confusion_wrong_input_is_named(matrix, absent, words):
    with pytest.raises(InvalidArgumentError, match=words):
        scores_from_confusion(matrix, absent)


@pytest.mark.parametrize("ignore_index", [255, 1000, -100])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_store_results_out_of_range_truth_names_values_and_counts(ignore_index, dtype):
    store = MetricStore(3, ignore_index)
    truth = np.array([[0, 1, 2, 3], [3, 77, 0, 0]], dtype)
    with pytest.raises(
        LabelOutOfRangeError,
        match=rf"truths hold 3 \(2 pixels\), 77 \(1 pixel\); allowed are the class ids 0 to 2 and ignore_index "
        rf"{ignore_index}: map the ids with a LabelMap",
    ):
        store.store_results(truth, np.zeros_like(truth))
    assert store.confusion_matrix.sum() == 0


@pytest.mark.parametrize("ignore_index", [255, 1000, -100])
def test_store_results_wide_values_do_not_alias_into_the_range(ignore_index):
    store = MetricStore(3, ignore_index)
    zeros = torch.zeros(2, dtype=torch.long)
    for value in (-1, -3, 256, 257, 65536, 2**32 + 1, -(2**63)):
        wrong = torch.tensor([0, value])
        with pytest.raises(LabelOutOfRangeError, match=rf"truths hold {value} \(1 pixel\)"):
            store.store_results(wrong, zeros)
        with pytest.raises(LabelOutOfRangeError, match=rf"preds hold {value} \(1 pixel\)"):
            store.store_results(zeros, wrong)
    assert store.confusion_matrix.sum() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_store_results_prediction_equal_to_ignore_index_is_an_error(dtype):
    store = MetricStore(3)
    with pytest.raises(
        LabelOutOfRangeError,
        match=r"preds hold 255 \(1 pixel\); allowed are the class ids 0 to 2: ignore_index counts in",
    ):
        store.store_results(torch.tensor([0, 1], dtype=dtype), torch.tensor([255, 1], dtype=dtype))


@pytest.mark.parametrize(("ignore_index", "dtype"), [(255, torch.uint8), (255, torch.int64), (1000, torch.int64)])
def test_store_results_prediction_out_of_range_under_ignored_truth_is_an_error(ignore_index, dtype):
    store = MetricStore(3, ignore_index)
    with pytest.raises(LabelOutOfRangeError, match=r"preds hold 9 \(1 pixel\)"):
        store.store_results(torch.tensor([0, ignore_index], dtype=dtype), torch.tensor([0, 9], dtype=dtype))


def test_store_results_many_wrong_values_are_listed_in_short():
    with pytest.raises(LabelOutOfRangeError, match=r"5 \(1 pixel\) and 3 more ids; .* the class id 0 and"):
        MetricStore(1).store_results(np.arange(9), np.zeros(9, int))


def test_store_results_hundreds_of_classes_are_counted():
    store = MetricStore(300, ignore_index=65535)
    truth = torch.arange(300).repeat(2)
    truth[:10] = 65535
    store.store_results(truth.to(torch.uint16), torch.arange(300).repeat(2).to(torch.uint16))
    expected = torch.full((300,), 2)
    expected[:10] = 1
    assert torch.equal(store.confusion_matrix, torch.diag(expected))
    edge = MetricStore(256, ignore_index=256)
    edge.store_results(np.array([255, 256]), np.array([0, 255]))
    assert edge.confusion_matrix.nonzero().tolist() == [[255, 0]]


def test_store_results_views_and_read_only_arrays_are_counted():
    truth = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)
    pred = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)
    truth.flags.writeable = False
    store = MetricStore(2)
    store.store_results(truth, pred)
    store.store_results(truth[:, ::-1], pred[:, ::-1])
    store.store_results(torch.tensor(truth).T, torch.tensor(pred).T)
    store.store_results(truth.astype(">i2"), pred)
    assert store.confusion_matrix.tolist() == [[4, 4], [4, 8]]


def test_store_results_wrong_shapes_and_types_are_named():
    store = MetricStore(2)
    with pytest.raises(InvalidArgumentError, match=r"same shape, got \(1, 2\) and \(1, 2, 2\); logits become labels"):
        store.store_results(torch.zeros(1, 2, dtype=int), torch.zeros(1, 2, 2, dtype=int))
    with pytest.raises(InvalidArgumentError, match=r"preds must hold integers, got a tensor of torch\.float32; logits"):
        store.store_results(torch.zeros(1, 2, dtype=int), torch.zeros(1, 2))
    with pytest.raises(InvalidArgumentError, match="truths must hold integers, got an array of float64; convert masks"):
        store.store_results(np.zeros(2), np.zeros(2, int))
    with pytest.raises(InvalidArgumentError, match="truths must be a tensor or a numpy array, got list"):
        store.store_results([0], np.zeros(1, int))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 0}, "num_classes must be from 1 to 65535, got 0"),
        ({"num_classes": 10**9}, "num_classes must be from 1 to 65535, got 1000000000"),
        ({"num_classes": 3, "ignore_index": 0}, r"ignore_index 0 is a class id \(0 to 2\)"),
        ({"num_classes": 3, "absent": "no"}, "absent must be one of"),
    ],
)
def test_init_wrong_argument_is_named(arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        MetricStore(**arguments)


def test_confusion_matrix_is_a_copy():
    store = MetricStore(2)
    store.confusion_matrix.fill_(7)
    assert store.confusion_matrix.sum() == 0


def test_store_measures_means_are_weighted_and_stand_beside_the_scores():
    store = MetricStore(2, absent="zero")
    loss = torch.tensor(2.0, requires_grad=True)
    store.store_measures(3, {"loss": loss, "aux": 1.0})
    with torch.no_grad():
        loss.fill_(50.0)  # what was stored stays
    store.store_measures(1, {"loss": 6.0})
    store.store_measures(0, {"empty": 1.0})
    summary = store.summarize()
    assert summary["loss"] == pytest.approx(3.0)
    assert type(summary["loss"]) is float
    assert summary["aux"] == 1.0
    assert math.isnan(summary["empty"])
    assert summary["absent"] == "zero"
    store.reset()
    assert "loss" not in store.summarize()


def test_store_measures_wrong_values_are_named():
    store = MetricStore(2)
    with pytest.raises(InvalidArgumentError, match="n must be the number of samples, at least 0, got -1"):
        store.store_measures(-1, {"loss": 1.0})
    with pytest.raises(InvalidArgumentError, match="measure 'miou' has the name of a score"):
        store.store_measures(1, {"miou": 1.0})
    with pytest.raises(
        InvalidArgumentError, match=r"measure 'loss' must be a single number, got a tensor of shape \(2,\)"
    ):
        store.store_measures(1, {"loss": torch.zeros(2)})


@given(st.lists(label_pairs().map(lambda pair: (pair[0] % 7, pair[1])), max_size=4))
def test_merge_partial_stores_give_the_whole(pairs):
    whole, parts = MetricStore(7), MetricStore(7)
    for index, (truth, pred) in enumerate(pairs):
        part = MetricStore(7)
        for store in (whole, part):
            store.store_results(truth, pred)
            store.store_measures(len(truth), {"loss": index})
        parts.merge(part)
    assert torch.equal(whole.confusion_matrix, parts.confusion_matrix)
    assert repr(whole.summarize()) == repr(parts.summarize())


def test_merge_different_stores_is_an_error():
    store = MetricStore(3)
    with pytest.raises(InvalidArgumentError, match="this one has num_classes=3, the other 4"):
        store.merge(MetricStore(4))
    with pytest.raises(InvalidArgumentError, match="merged with itself"):
        store.merge(store)


def store_as_on_a_device(store, truth, pred):
    """Stores results by the path for other devices, on the CPU."""
    store._count_on_device(truth.reshape(-1), pred.reshape(-1))


def deferred(truth, pred, dtype=torch.int64):
    store = MetricStore(3)
    store_as_on_a_device(store, torch.tensor(truth).to(dtype), torch.tensor(pred).to(dtype))
    return store


@pytest.mark.parametrize("truth_dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_device_results_of_any_types_equal_those_of_the_cpu(truth_dtype):
    for pred_dtype in ["uint8", "int8", "int32", "int64"]:
        for ignore_index in [255, 3, 1000, -1, -100]:
            truth = torch.randint(0, 3, (2, 40, 50)).to(getattr(torch, truth_dtype))
            info = torch.iinfo(truth.dtype)
            if info.min <= ignore_index <= info.max:
                truth[0, :10] = ignore_index
            pred = torch.randint(0, 3, (2, 40, 50)).to(getattr(torch, pred_dtype))
            here, there = MetricStore(3, ignore_index), MetricStore(3, ignore_index)
            for _ in range(2):
                here.store_results(truth, pred)
                store_as_on_a_device(there, truth, pred)
            assert here.confusion_matrix.sum() == 2 * (truth != ignore_index).sum()
            assert torch.equal(here.confusion_matrix, there.confusion_matrix)


def test_store_results_every_ignored_value_is_distinguished_from_its_neighbors():
    for ignore_index in (-100, -2, -1, 3, 4, 254, 255, 256, 257, 1000, 65535):
        for offset in (-1, 1):
            value = ignore_index + offset
            if 0 <= value < 3:
                continue
            here, there = MetricStore(3, ignore_index), MetricStore(3, ignore_index)
            truth, pred = torch.tensor([1, ignore_index, value]), torch.tensor([1, 2, 1])
            with pytest.raises(LabelOutOfRangeError, match=rf"truths hold {value} \(1 pixel\)"):
                here.store_results(truth, pred)
            store_as_on_a_device(there, truth, pred)
            with pytest.raises(LabelOutOfRangeError, match=r"truths hold -?\d+( or less| or more)? \(1 pixel\)"):
                there.summarize()


def test_device_results_of_several_types_add_up():
    store = deferred([0, 1, 255], [0, 2, 1], torch.uint8)
    store_as_on_a_device(store, torch.tensor([0, 255]), torch.tensor([0, 0]))
    store_as_on_a_device(store, torch.tensor([2], dtype=torch.uint8), torch.tensor([2]))
    assert store.confusion_matrix.tolist() == [[2, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_device_results_are_counted_once_when_read():
    store = deferred([0, 1, 255, 2], [0, 2, 1, 2])
    store.store_results(np.array([1]), np.array([1]))
    for _ in range(2):
        assert store.confusion_matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("truth", "pred", "words"),
    [
        (
            [0, 7, 9, 255],
            [0, 0, 0, 0],
            r"truths hold 7 \(1 pixel\), 9 \(1 pixel\); allowed are the class ids 0 to 2 and ignore_index 255",
        ),
        ([0, 0, 0, 255], [0, 0, -1, 255], r"preds hold -1 \(1 pixel\), 255 \(1 pixel\); allowed"),
        # values far out share one bin
        ([0, -5, 300, -7], [0] * 4, r"truths hold -2 or less \(2 pixels\), 257 or more \(1 pixel\)"),
        ([0, 2**32 + 1], [0, 0], r"truths hold 257 or more \(1 pixel\)"),
    ],
)
def test_device_results_out_of_range_raise_when_read_until_reset(truth, pred, words):
    store = deferred(truth, pred)
    for read in (lambda: store.confusion_matrix, store.summarize, lambda: MetricStore(3).merge(store)):
        with pytest.raises(LabelOutOfRangeError, match=words):
            read()
    store.reset()
    assert store.confusion_matrix.sum() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_device_results_agree_with_the_cpu(dtype):
    truth = torch.randint(0, 3, (2, 50, 60)).to(dtype)
    truth[0, :10] = 255
    pred = torch.randint(0, 3, (2, 50, 60)).to(dtype)
    here, there = MetricStore(3), MetricStore(3)
    here.store_results(truth, pred)
    there.store_results(truth, pred.cuda())
    there.store_measures(2, {"loss": torch.ones((), device="cuda")})
    assert torch.equal(here.confusion_matrix, there.confusion_matrix)
    assert there.summarize()["loss"] == 1.0


REDUCING_PROCESS = """
import sys
import numpy as np, torch, torch.distributed as dist
from seg_core.errors import LabelOutOfRangeError
from seg_core.metrics.metric_store import MetricStore

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
store = MetricStore(3)
store.store_results(np.array([0, 1, 255]), np.array([0, rank + 1, 0]))
store.store_measures(1 + rank, {"loss": float(rank)})
if rank:
    store.store_measures(1, {"only here": 5.0})
seen = []
for _ in range(2):
    store.reduce()
    summary = store.summarize()
    seen.append((store.confusion_matrix.tolist(), summary["loss"], summary["only here"]))
if rank == 0:
    store.store_results(np.array([2]), np.array([2]))
store.reduce()
seen.append(store.confusion_matrix.tolist())
# a value out of range on one process only is an error on both, and neither waits for the other
store = MetricStore(3)
if rank:
    store._count_on_device(torch.tensor([8]), torch.tensor([0]))
try:
    store.reduce()
except LabelOutOfRangeError as error:
    seen.append(str(error))
torch.save(seen, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_reduce_two_processes_each_hold_the_total_counted_once(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", REDUCING_PROCESS, str(r), str(tmp_path)]) for r in range(2)]
    try:
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for rank in range(2):
        once, twice, more, error = torch.load(tmp_path / f"{rank}.pt")
        assert once == ([[2, 0, 0], [0, 1, 1], [0, 0, 0]], pytest.approx(2 / 3), 5.0)
        assert twice == once
        assert more == [[2, 0, 0], [0, 1, 1], [0, 0, 1]]
        assert error.startswith("process 1: truths hold 8 (1 pixel")


def test_reduce_without_process_group_changes_nothing():
    store = MetricStore(2)
    store.store_results(np.array([1]), np.array([1]))
    store.reduce()
    assert store.confusion_matrix.tolist() == [[0, 0], [0, 1]]
