"""Losses of batches without pixels, of a single class, and with class weights that are not allowed."""

import math

import numpy as np
import pytest
import torch

from seg_core import MetricStore, SegmentationAugment, argmax_labels
from seg_core.errors import InvalidArgumentError
from seg_train import BoundaryLoss, CombinedLoss, CrossEntropyLoss, DeepSupervision, DiceLoss, LovaszLoss
from seg_train.losses.boundary import BoundaryAwareLoss, DetailLoss
from seg_train.losses.micro_batches import denominators
from tests.train.losses.test_losses import CASES, PIXEL_LOSSES, SCALAR_LOSSES, WEIGHT, make

EMPTY = [(0, 5, 8, 8), (2, 5, 0, 8), (2, 5, 8, 0), (0, 5), (0, 5, 8), (0, 5, 2, 3, 4)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def empty_batch(shape, dtype=torch.float32, channels=None):
    shape = shape if channels is None else (shape[0], channels, *shape[2:])
    logits = torch.zeros(shape, dtype=dtype, requires_grad=True)
    return logits, torch.zeros((shape[0], *shape[2:]), dtype=torch.uint8)


def assert_zero_with_graph(value, logits):
    assert value.shape == ()
    assert float(value.detach()) == 0
    assert value.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    value.backward()
    assert logits.grad.shape == logits.shape
    assert not logits.grad.any()


@pytest.mark.smoke
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weights"])
@pytest.mark.parametrize("name", CASES)
def test_batch_without_pixels_gives_0_with_a_graph(name, weight, backend):
    for shape in EMPTY:
        for dtype in DTYPES:
            logits, target = empty_batch(shape, dtype)
            loss = make(name, weight=weight)
            assert_zero_with_graph(loss(logits, target), logits)
            assert not denominators(loss, target)[0] or name not in PIXEL_LOSSES[:4]


@pytest.mark.parametrize("name", [n for n in CASES if n not in SCALAR_LOSSES])
def test_batch_without_pixels_gives_0_for_every_reduction(name, backend):
    for shape in EMPTY:
        logits, target = empty_batch(shape)
        assert_zero_with_graph(make(name, weight=WEIGHT, reduction="sum")(logits, target), logits)
        logits, target = empty_batch(shape)
        losses = make(name, weight=WEIGHT, reduction="none")(logits, target)
        assert losses.shape == (target.shape if name in PIXEL_LOSSES else (5,))
        assert not losses.any()
        losses.sum().backward()
        assert logits.grad.shape == logits.shape


@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("shape", EMPTY)
def test_lovasz_per_image_of_a_batch_without_pixels_gives_0(shape, classes):
    logits, target = empty_batch(shape)
    assert_zero_with_graph(LovaszLoss(per_image=True, classes=classes)(logits, target), logits)
    losses = LovaszLoss(per_image=True, classes=classes, reduction="none")(logits, target)
    assert losses.shape == shape[:2]
    assert not losses.any()


@pytest.mark.parametrize("options", [{"absent": "count", "smooth": 1.0}, {"absent": "count", "generalized": True}])
def test_dice_that_counts_absent_classes_gives_0_without_pixels(options):
    for shape in EMPTY:
        logits, target = empty_batch(shape)
        assert_zero_with_graph(DiceLoss(**options)(logits, target), logits)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", EMPTY[:3])
def test_losses_of_boundaries_and_outputs_give_0_without_pixels(shape, layout):
    for loss in (BoundaryLoss(), BoundaryLoss(reduction="sum"), DetailLoss()):
        logits, target = empty_batch(shape, channels=1)
        assert_zero_with_graph(loss(logits.to(memory_format=layout), target), logits)
    logits, target = empty_batch(shape, channels=1)
    assert BoundaryLoss(reduction="none")(logits, target).shape == target.shape
    for criterion in (None, DiceLoss()):
        logits, target = empty_batch(shape)
        near = torch.zeros((shape[0], 1, *shape[2:]))
        assert_zero_with_graph(BoundaryAwareLoss(criterion=criterion)(logits, target, near), logits)
    logits, target = empty_batch(shape)
    outputs = {"out": logits, "aux": 2 * logits, "boundary": logits[:, :1]}
    whole = DeepSupervision(LovaszLoss(), outputs={"boundary": (20.0, BoundaryLoss())}, boundary_aware_weight=1.0)
    assert_zero_with_graph(whole(outputs, target), logits)


@pytest.mark.parametrize("name", ["cross entropy", "Dice", "Lovasz"])
def test_compiled_loss_of_a_batch_without_pixels_gives_0(name):
    torch._dynamo.reset()
    logits, target = empty_batch((0, 5, 8, 8))
    assert_zero_with_graph(torch.compile(make(name), backend="aot_eager", fullgraph=True)(logits, target), logits)


def test_augmentation_labels_and_scores_of_a_batch_without_pixels_are_empty():
    every = SegmentationAugment(
        hflip=0.5,
        rotation_range=(-10, 10),
        perspective=0.2,
        blur=0.5,
        color_jitter=(0.2, 0.2, 0.2),
        auto_contrast=0.9,
        left_right_pairs=[(0, 1)],
    )
    for shape in ((0, 3, 8, 8), (2, 3, 0, 8), (2, 3, 8, 0)):
        images = torch.zeros(shape, dtype=torch.uint8)
        masks = images[:, 0]
        found, ids = every(images, masks, generator=[torch.Generator() for _ in images])
        assert (found.shape, found.dtype) == (shape, torch.float32)
        assert (ids.shape, ids.dtype) == (masks.shape, torch.int64)
        labels = argmax_labels(found)
        assert labels.shape == masks.shape
        store = MetricStore(3)
        store.store_results(masks, labels)
        assert not store.confusion_matrix.any()


# ---- one class -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_logits_of_less_than_two_classes_are_an_error(name, channels):
    """A softmax over one class is always 1: the loss would be 0 and have no gradient."""
    logits = torch.zeros(2, channels, 4, 4)
    with pytest.raises(InvalidArgumentError) as caught:
        make(name)(logits, torch.zeros(2, 4, 4, dtype=torch.uint8))
    assert f"logits must have at least 2 classes, got {channels} in (2, {channels}, 4, 4)" in str(caught.value)
    assert "give the background a class too" in str(caught.value)


# ---- class weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_weights_that_are_all_zero_are_an_error(name):
    for weight in [[0.0, 0.0], [0, 0, 0], torch.zeros(4), np.zeros(3), [1e-60, 0.0]]:
        with pytest.raises(InvalidArgumentError) as caught:
            make(name, weight=weight)
        assert "weight must have at least one number above 0, got [0" in str(caught.value)
        assert "nothing would be learned; omit it for 1 each" in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([-1.0, 2.0], "weight must hold one finite number of at least 0 per class, got [-1.0, 2.0]"),
        (torch.tensor([-1, 2]), "weight must hold one finite number of at least 0 per class, got [-1.0, 2.0]"),
        ([math.nan, 1.0], "finite number of at least 0 per class, got [nan, 1.0]"),
        ([1e39, 1.0], "finite number of at least 0 per class, got [inf, 1.0]"),  # as float32
        (torch.ones(1, 3), "got [[1.0, 1.0, 1.0]]"),
        ([[1.0, 2.0]], "got [[1.0, 2.0]]"),
        (2.0, "finite number of at least 0 per class, got 2.0"),
        ([], "weight must have at least one number above 0, got []"),
        (torch.tensor([True, False]), "weight must hold one number per class, got tensor([ True, False])"),
        ([True, False], "weight must hold one number per class, got [True, False]"),
        ([True, 2.0], "weight must hold one number per class, got [True, 2.0]"),
        ([1j, 2.0], "weight must hold one number per class"),
        ("enet", "weight must hold one number per class, got 'enet'"),
        ([1.0, None], "weight must hold one number per class, got [1.0, None]"),
        ([[1.0], [1.0, 2.0]], "weight must hold one number per class"),
        ({0: 1.0}, "weight must hold one number per class, got {0: 1.0}"),
    ],
)
def test_weights_that_are_not_allowed_are_errors_of_every_loss(weight, message):
    for name in ("cross entropy", "Dice", "Lovasz", "combined"):
        with pytest.raises(InvalidArgumentError) as caught:
            make(name, weight=weight)
        assert message in str(caught.value)
        assert "seg_train.class_weights" in str(caught.value)


@pytest.mark.parametrize("weight", [[1, 0, 2], (1.0, 0.0, 2.0), torch.tensor([1, 0, 2]), np.array([1, 0, 2], np.uint8)])
def test_weights_of_any_number_type_are_taken_and_some_may_be_zero(weight):
    loss = CrossEntropyLoss(weight)
    assert loss.weight.tolist() == [1.0, 0.0, 2.0]
    assert loss.weight.dtype == torch.float32
    logits, target = torch.randn(1, 3, 4), torch.tensor([[0, 2, 2, 0]])
    expected = CrossEntropyLoss(torch.tensor([1.0, 0.0, 2.0]))(logits, target)
    assert torch.equal(loss(logits, target), expected)


def test_weights_of_a_part_of_a_combined_loss_are_checked_and_the_part_is_named():
    parts = [{"name": "CrossEntropyLoss"}, {"name": "DiceLoss", "params": {"weight": [0.0, 0.0]}}]
    with pytest.raises(InvalidArgumentError, match=r"losses\[1\].params: weight must have at least one number above 0"):
        CombinedLoss(parts)


# ---- other devices ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_cuda_batch_without_pixels_gives_0_with_a_graph(name):
    for shape in EMPTY:
        logits, target = (tensor.detach().cuda() for tensor in empty_batch(shape))
        logits.requires_grad_()
        assert_zero_with_graph(make(name, weight=WEIGHT).cuda()(logits, target), logits)


def test_weight_is_an_array_of_any_layout():
    weight = np.array([1.0, 2.0, 3.0])
    for given in (weight[::-1].copy()[::-1], weight.astype(">f8"), np.repeat(weight, 2)[::2]):
        assert CrossEntropyLoss(weight=given).weight.tolist() == weight.tolist()
