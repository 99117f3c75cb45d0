import numpy as np
import pytest
import torch

from seg_core.metrics.joint_histogram import PairTable, as_bytes, count_bytes


def label_maps(num_classes, length, seed=0):
    """Runs of equal ids, as in real masks, with some ignored pixels."""
    rng = np.random.default_rng(seed)
    truth, pred = (rng.integers(0, num_classes, length // 7 + 1).repeat(7)[:length] for _ in range(2))
    truth[rng.random(length) < 0.1] = 255
    return torch.from_numpy(truth), torch.from_numpy(pred)


def brute_force(truth, pred, num_classes):
    matrix = np.zeros((num_classes, num_classes), np.int64)
    valid = (truth != 255).numpy()
    np.add.at(matrix, (truth.numpy()[valid], pred.numpy()[valid]), 1)
    return torch.from_numpy(matrix)


@pytest.mark.parametrize("num_classes", [1, 2, 19, 60, 100, 200, 254])
@pytest.mark.parametrize("length", [1, 7, 32768, 100_003])
def test_count_bytes_equals_brute_force_in_one_strip_and_in_several(num_classes, length):
    truth, pred = label_maps(num_classes, length)
    matrix, ignored = count_bytes(truth.to(torch.uint8), pred.to(torch.uint8), num_classes)
    assert torch.equal(matrix, brute_force(truth, pred, num_classes))
    assert ignored == int((truth == 255).sum())


@pytest.mark.parametrize("num_classes", [1, 19, 254])
def test_count_bytes_wrong_values_are_not_counted(num_classes):
    truth, pred = label_maps(num_classes, 1000)
    matrix, ignored = count_bytes(truth.to(torch.uint8), pred.to(torch.uint8), num_classes)
    wrong_truths = [v for v in (num_classes, num_classes + 1, 254) if num_classes <= v < 255]
    for value in wrong_truths:
        wrong = truth.clone()
        wrong[5] = value
        counted, left_out = count_bytes(wrong.to(torch.uint8), pred.to(torch.uint8), num_classes)
        assert int(counted.sum()) + left_out == 999
    for value in [v for v in (num_classes, num_classes + 1, 255) if v <= 255]:
        for place in (int((truth == 255).nonzero()[0]), int((truth != 255).nonzero()[0])):
            wrong = pred.clone()
            wrong[place] = value
            counted, left_out = count_bytes(truth.to(torch.uint8), wrong.to(torch.uint8), num_classes)
            assert int(counted.sum()) + left_out == 999
    assert int(matrix.sum()) + ignored == 1000


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_as_bytes_keeps_what_fits_and_refuses_all_else(dtype):
    info = torch.iinfo(dtype)
    values = torch.arange(0, min(256, info.max + 1)).repeat(300).to(dtype)  # more than one strip
    assert torch.equal(as_bytes(values), values.to(torch.uint8))
    for wrong in {-1, info.min, info.max, 256, 257} - set(range(256)):
        if info.min <= wrong <= info.max:
            for place in (0, -1):
                changed = values.clone()
                changed[place] = wrong
                assert as_bytes(changed) is None
    small = torch.arange(5, dtype=torch.uint8)
    assert as_bytes(small) is small


@pytest.mark.parametrize("ignore_index", [255, -100, 100_000])
def test_pair_table_equals_brute_force_in_several_strips(ignore_index):
    truth, pred = label_maps(30, 70_000)
    table = PairTable(30, ignore_index)
    counts = table.zeros(torch.device("cpu"))
    given = truth.masked_fill(truth == 255, ignore_index)
    before = given.clone(), pred.clone()
    for part in (slice(0, 1), slice(1, None)):
        table.add_to(counts, given[part], pred[part])
    assert torch.equal(table.matrix(counts), brute_force(truth, pred, 30))
    assert table.wrong_values(counts) == {"truths": {}, "preds": {}}
    assert torch.equal(given, before[0])
    assert torch.equal(pred, before[1])
