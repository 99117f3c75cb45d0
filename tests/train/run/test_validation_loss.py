"""val_loss is computed over the whole split, independent of batches and processes."""

import math

import pytest
import torch
from torch import nn

from seg_train import CombinedLoss, CrossEntropyLoss, DiceLoss, FocalLoss, OhemCrossEntropyLoss
from seg_train.run.validation_loss import SplitLoss

WEIGHT = [0.5, 2.0, 1.0]


@pytest.fixture
def split():
    """Logits and masks of images with different fractions of valid pixels; the last one has none."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 6, 8, generator=generator)
    masks = torch.randint(0, 3, (5, 6, 8), generator=generator, dtype=torch.uint8)
    for index in range(5):
        masks[index, : index + 1] = 255
    masks[4] = 255
    return logits, masks


def added(criterion, split, *batches):
    loss, start = SplitLoss(criterion, 255), 0
    for size in batches:
        loss.add(split[0][start : start + size], split[1][start : start + size])
        start += size
    return loss.value()


MEANS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1),
    FocalLoss(weight=WEIGHT),
]


@pytest.mark.parametrize("criterion", MEANS, ids=repr)
def test_means_over_pixels_are_those_over_all_pixels_of_the_split(criterion, split):
    # the loss of all images as one batch is the sum over pixels divided by the sum of their weights
    assert added(criterion, split, 5) == pytest.approx(float(criterion(*split)), rel=1e-6)


@pytest.mark.parametrize(
    "criterion", [DiceLoss(), OhemCrossEntropyLoss(min_kept=4), nn.CrossEntropyLoss(ignore_index=255)], ids=repr
)
def test_other_losses_are_averaged_over_images_with_a_valid_pixel(criterion, split):
    logits, masks = split
    if isinstance(criterion, nn.CrossEntropyLoss):
        masks = masks.long()
    values = [float(criterion(logits[i : i + 1], masks[i : i + 1])) for i in range(4)]
    assert added(criterion, (logits, masks), 5) == pytest.approx(sum(values) / 4, rel=1e-6)


def test_combined_loss_is_the_sum_of_its_parts_each_by_its_rule(split):
    inner = CombinedLoss([(2.0, CrossEntropyLoss(weight=WEIGHT)), (0.0, DiceLoss())])
    criterion = CombinedLoss([(0.5, inner), (3.0, DiceLoss())])
    expected = 0.5 * 2.0 * added(CrossEntropyLoss(weight=WEIGHT), split, 5) + 3.0 * added(DiceLoss(), split, 5)
    assert added(criterion, split, 5) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "criterion", [*MEANS, DiceLoss(), CombinedLoss([(1.0, CrossEntropyLoss()), (0.3, DiceLoss())])], ids=repr
)
def test_batches_and_their_order_do_not_show(criterion, split):
    value = added(criterion, split, 5)
    assert added(criterion, split, 1, 1, 1, 1, 1) == value
    assert added(criterion, split, 2, 3) == value
    assert added(criterion, tuple(part.flip(0) for part in split), 1, 4) == value


def test_nothing_valid_gives_nan(split):
    loss = SplitLoss(CrossEntropyLoss(), 255)
    assert not loss.is_measured
    loss.add(split[0][4:], split[1][4:])
    assert loss.is_measured
    assert math.isnan(loss.value())


def test_infinite_loss_stays_infinite(split):
    logits, masks = split
    logits = logits.clone()
    logits[0, :, 5] = torch.tensor([0.0, -math.inf, -math.inf])[:, None]
    masks[0, 5] = 1
    assert added(CrossEntropyLoss(), (logits, masks), 5) == math.inf
