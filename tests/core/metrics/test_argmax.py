import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import argmax_labels


def assert_as_argmax(logits):
    before = logits.clone()
    labels = argmax_labels(logits)
    assert labels.dtype == (torch.uint8 if logits.shape[-3] <= 256 else torch.uint16)
    assert torch.equal(labels.int(), logits.argmax(-3).int())
    assert torch.equal(logits, before)


@given(
    st.integers(0, 3), st.integers(1, 30), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**31), st.booleans()
)
def test_argmax_labels_any_shape_equals_torch_argmax(n, c, h, w, seed, channels_last):
    generator = torch.Generator().manual_seed(seed)
    # few different values, so that ties are common
    logits = torch.randint(-3, 3, (n, c, h, w), generator=generator).float()
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    assert_as_argmax(logits)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_argmax_labels_float_types_and_strips_equal_torch_argmax(dtype, memory_format):
    # 300 x 200 pixels need two strips
    logits = torch.randn(2, 7, 300, 200).to(dtype).contiguous(memory_format=memory_format)
    assert_as_argmax(logits)
    assert_as_argmax(logits[1])


def test_argmax_labels_cut_out_and_transposed_logits_equal_torch_argmax():
    logits = torch.randn(2, 5, 40, 60)
    assert_as_argmax(logits[:, 1:4, 3:-5, 7::2])
    assert_as_argmax(logits.transpose(2, 3))
    assert_as_argmax(logits.expand(2, 5, 40, 60)[:1].expand(3, 5, 40, 60))


@pytest.mark.smoke
@pytest.mark.parametrize("num_classes", [1, 256, 257, 1000])
def test_argmax_labels_many_classes_take_a_wider_type(num_classes):
    logits = torch.randn(1, num_classes, 4, 6)
    logits[0, -1, 0, 0] = 99.0
    assert_as_argmax(logits)
    assert int(argmax_labels(logits)[0, 0, 0].int()) == num_classes - 1


def test_argmax_labels_infinite_logits_and_all_equal_take_the_first():
    logits = torch.full((3, 2, 2), -torch.inf)
    assert argmax_labels(logits).tolist() == [[0, 0], [0, 0]]
    logits[1:] = torch.inf
    assert argmax_labels(logits).tolist() == [[1, 1], [1, 1]]


def test_argmax_labels_logits_with_graph_give_labels_without():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True) * 2
    assert not argmax_labels(logits).requires_grad


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), r"floating point tensor .* got torch.int64 \(1, 3, 4, 4\)"),
        (torch.zeros(4, 4), r"\(N, C, H, W\) or \(C, H, W\), got torch.float32 \(4, 4\)"),
        (np.zeros((3, 4, 4)), "got ndarray"),
        (torch.zeros(1, 0, 4, 4), "1 to 65536 classes, got 0"),
    ],
)
def test_argmax_labels_wrong_input_is_named(logits, words):
    with pytest.raises(InvalidArgumentError, match=words):
        argmax_labels(logits)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_argmax_labels_on_a_device_equals_the_cpu():
    logits = torch.randn(2, 19, 33, 65)
    labels = argmax_labels(logits.cuda())
    assert labels.is_cuda
    assert torch.equal(labels.cpu(), argmax_labels(logits))
