"""Losses and gradients of micro-batches add up to those of the whole batch."""

import pytest
import torch
from torch import nn

from seg_train import (
    BoundaryLoss,
    CombinedLoss,
    CrossEntropyLoss,
    DeepSupervision,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    OhemCrossEntropyLoss,
)
from seg_train.losses.micro_batches import denominators, micro_batch_loss, share_of

WEIGHT = [1.0, 5.0, 0.5]


def batch(empty=()):
    """Returns four samples that differ much in their number of valid pixels; those in `empty` have none."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, 12, 10, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 3, (4, 12, 10), generator=generator)
    for sample, rows in enumerate((0, 3, 11, 7)):
        target[sample, :rows] = 255
    target[list(empty)] = 255
    return logits, target


def whole(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


def in_micro_batches(loss, logits, target, sizes):
    logits = logits.clone().requires_grad_()
    pieces = list(zip(logits.split(sizes), target.split(sizes), strict=True))
    own = torch.stack([denominators(loss, piece) for _, piece in pieces])
    shares = share_of(own, own.sum(0))
    values = [micro_batch_loss(loss, share, *piece) for share, piece in zip(shares, pieces, strict=True)]
    sum(values).backward()
    return sum(values).detach(), logits.grad


MEANS = {
    "cross entropy": lambda: CrossEntropyLoss(),
    "weighted": lambda: CrossEntropyLoss(WEIGHT),
    "smoothed": lambda: CrossEntropyLoss(WEIGHT, label_smoothing=0.2),
    "focal": lambda: FocalLoss(WEIGHT, gamma=1.5),
    "combined": lambda: CombinedLoss([(1.0, CrossEntropyLoss(WEIGHT)), (0.3, FocalLoss())]),
    "nested": lambda: CombinedLoss(
        [(2.0, CombinedLoss([(1.0, FocalLoss(WEIGHT)), (0.5, CrossEntropyLoss())])), (0.3, CrossEntropyLoss(WEIGHT))]
    ),
    "of sums": lambda: CombinedLoss([(1.0, CrossEntropyLoss(WEIGHT, reduction="sum")), (0.3, CrossEntropyLoss())]),
    "sum": lambda: CrossEntropyLoss(WEIGHT, reduction="sum"),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [1, 3]])
@pytest.mark.parametrize("empty", [(), (1,), (0, 1, 2, 3)])
def test_micro_batches_add_up_to_the_mean_over_all_pixels(name, sizes, empty):
    loss = MEANS[name]()
    expected = whole(loss, *batch(empty))
    found = in_micro_batches(loss, *batch(empty), sizes)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_mean_of_means_is_not_the_mean_over_all_pixels():
    """Shows why shares are needed."""
    logits, target = batch()
    loss = CrossEntropyLoss(WEIGHT)
    means = torch.stack([loss(a, b) for a, b in zip(logits.split(1), target.split(1), strict=True)])
    assert abs(means.mean() - loss(logits, target)) > 1e-3


@pytest.mark.parametrize("loss", [DiceLoss(), JaccardLoss(), OhemCrossEntropyLoss(min_kept=5)], ids=repr)
def test_other_losses_are_averaged_over_micro_batches(loss):
    logits, target = batch()
    value, _ = in_micro_batches(loss, logits, target, [2, 2])
    assert value == pytest.approx(float((loss(logits[:2], target[:2]) + loss(logits[2:], target[2:])) / 2))


def test_loss_of_a_user_is_averaged():
    class Own(nn.Module):
        def forward(self, logits, target):
            return logits.mean()

    logits, target = batch()
    value, _ = in_micro_batches(Own(), logits, target, [2, 2])
    assert value == pytest.approx(float(logits.mean()))


def outputs_of(logits):
    return {"out": logits, "aux": logits.flip(1) * 0.5, "aux_16x": logits * 0.2, "boundary": logits[:, :1] * 3}


def test_each_output_of_a_network_has_its_own_shares():
    """Tests four losses with different denominators; that of boundaries is averaged, as documented."""
    boundary = BoundaryLoss()
    criterion = DeepSupervision(
        CrossEntropyLoss(WEIGHT),
        aux_weight=0.4,
        outputs={"aux_16x": (0.3, FocalLoss()), "boundary": (2.0, boundary)},
        boundary_aware_weight=0.7,
    )
    logits, target = batch()
    pieces = [slice(0, 1), slice(1, 4)]
    own = torch.stack([criterion.denominators(target[piece]) for piece in pieces])
    shares = share_of(own, own.sum(0))
    outputs = outputs_of(logits)
    found = sum(
        criterion({k: v[piece] for k, v in outputs.items()}, target[piece], share)
        for piece, share in zip(pieces, shares, strict=True)
    )
    pixels = (
        CrossEntropyLoss(WEIGHT)(outputs["out"], target)
        + 0.4 * CrossEntropyLoss(WEIGHT)(outputs["aux"], target)
        + 0.3 * FocalLoss()(outputs["aux_16x"], target)
    )
    averaged = sum(
        2.0 * boundary(outputs["boundary"][piece], target[piece])
        + 0.7 * criterion.boundary_aware(outputs["out"][piece], target[piece], outputs["boundary"][piece])
        for piece in pieces
    )
    torch.testing.assert_close(found, pixels + averaged / 2, rtol=1e-10, atol=1e-12)


def test_whole_batch_without_shares_gives_the_plain_loss():
    criterion = DeepSupervision(CrossEntropyLoss(WEIGHT), outputs={"boundary": (1.0, BoundaryLoss())})
    logits, target = batch()
    assert torch.equal(criterion(outputs_of(logits), target), criterion(outputs_of(logits), target, None))
