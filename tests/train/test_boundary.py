"""Losses of boundary outputs, beside float64 brute force pixel by pixel."""

import math

import pytest
import torch

from seg_core.errors import InvalidArgumentError
from seg_train import BoundaryAwareLoss, BoundaryLoss, CrossEntropyLoss, DetailLoss, boundary_targets, detail_targets

SIZE = (12, 14)


def sample(channels=1, dtype=torch.float64):
    """Logits, and two label maps with a corner that is ignored."""
    generator = torch.Generator().manual_seed(1)
    target = torch.zeros(2, *SIZE, dtype=torch.int64)
    target[0, 4:, 6:], target[1, :, 9:], target[1, 8:] = 1, 2, 3
    target[:, :3, :4] = 255
    logits = 2 * torch.randn(2, channels, *SIZE, generator=generator, dtype=torch.float64)
    return logits.to(dtype), target


def entropy(z, truth):
    p = 1 / (1 + math.exp(-z))
    return -math.log(p if truth else 1 - p)


def boundary_brute_force(logits, target):
    """Returns the loss of each pixel, in float64, 0 for ignored ones."""
    edges = boundary_targets(target)
    positive, negative = int((edges == 1).sum()), int((edges == 0).sum())
    losses = torch.zeros(target.shape, dtype=torch.float64)
    for n, y, x in (edges != 255).nonzero().tolist():
        truth = bool(edges[n, y, x])
        weight = (negative if truth else positive) / (positive + negative)
        losses[n, y, x] = weight * entropy(float(logits[n, 0, y, x]), truth)
    return losses


def detail_brute_force(logits, target):
    details = detail_targets(target)
    entropies, overlaps = [], []
    for n in range(len(target)):
        for channel in range(logits.shape[1]):
            common = squares = 0.0
            for y, x in (details[n] != 255).nonzero().tolist():
                truth = float(details[n, y, x])
                truth = 1 - truth if logits.shape[1] == 2 and channel == 0 else truth
                z = float(logits[n, channel, y, x])
                p = 1 / (1 + math.exp(-z))
                entropies.append(entropy(z, truth))
                common += p * truth
                squares += p**2 + truth**2
            overlaps.append(1 - (2 * common + 1) / (squares + 1))
    return sum(entropies) / len(entropies) + sum(overlaps) / len(overlaps)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_boundary_loss_equals_brute_force(reduction):
    logits, target = sample()
    losses = boundary_brute_force(logits, target)
    expected = {"mean": losses.sum() / (target != 255).sum(), "sum": losses.sum(), "none": losses}[reduction]
    torch.testing.assert_close(BoundaryLoss(reduction=reduction)(logits, target), expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_detail_loss_equals_brute_force(channels):
    logits, target = sample(channels)
    assert detail_targets(target).eq(1).any()
    assert float(DetailLoss()(logits, target)) == pytest.approx(detail_brute_force(logits, target), rel=1e-12)


LOSSES = [(BoundaryLoss(), 1), (DetailLoss(), 1), (DetailLoss(smooth=0), 2)]


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_gradient_passes_gradcheck(loss, channels):
    logits, target = sample(channels)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


@pytest.mark.parametrize("there", [70.0, math.inf, math.nan])
@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_ignored_pixels_change_neither_value_nor_gradient(loss, channels, there):
    logits, target = sample(channels)
    results = []
    for value in (logits, logits.where((target != 255)[:, None], there)):
        value.requires_grad_()
        result = loss(value, target)
        results.append((result.detach(), torch.autograd.grad(result, value)[0]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    assert not results[0][1][(target == 255)[:, None].expand_as(logits)].any()


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_nothing_valid_gives_0_with_a_graph(loss, channels):
    logits, target = sample(channels)
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, 255))
    assert float(value.detach()) == 0
    assert not torch.autograd.grad(value, logits)[0].any()


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_half_precision_targets_and_arguments(loss, channels):
    logits, target = sample(channels, torch.bfloat16)
    before = logits.clone(), target.clone()
    expected = loss(logits.float(), target)
    for other in (target.to(torch.uint8), target.to(torch.int16)):
        value = loss(logits, other)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(logits.float(), target), expected)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


def test_without_any_boundary_the_boundary_loss_is_0_with_a_graph():
    logits, target = sample()
    logits.requires_grad_()
    value = BoundaryLoss()(logits, torch.zeros_like(target))
    assert float(value.detach()) == 0
    assert not torch.autograd.grad(value, logits)[0].any()


def test_boundary_aware_loss_counts_only_where_a_boundary_is_seen():
    boundary, target = sample()
    boundary *= 3
    logits = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    near = boundary[:, 0].sigmoid() > 0.8
    expected = CrossEntropyLoss()(logits, target.where(near, 255))
    assert 0 < int((near & (target != 255)).sum()) < near.sum()
    boundary.requires_grad_()
    logits.requires_grad_()
    value = BoundaryAwareLoss(CrossEntropyLoss())(logits, target.to(torch.uint8), boundary)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert boundary.grad is None
    assert not logits.grad[(~near)[:, None].expand_as(logits)].any()


def test_boundary_aware_loss_without_a_boundary_is_0_with_a_graph():
    boundary, target = sample()
    logits = torch.randn(2, 4, *SIZE, requires_grad=True)
    value = BoundaryAwareLoss(CrossEntropyLoss())(logits, target, torch.full_like(boundary, -9))
    assert float(value.detach()) == 0
    value.backward()
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", [BoundaryLoss(), DetailLoss()])
def test_logits_of_classes_are_an_error(loss):
    _, target = sample()
    with pytest.raises(InvalidArgumentError, match=r"must agree, got \(2, 4, 12, 14\)"):
        loss(torch.zeros(2, 4, *SIZE), target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoundaryLoss(reduction="all"), "reduction must be one of"),
        (lambda: BoundaryLoss(width=3)(*sample()), "width must be an even number"),
        (lambda: DetailLoss(smooth=-1), "smooth must be a finite number of at least 0, got -1"),
        (lambda: BoundaryAwareLoss(CrossEntropyLoss(), threshold=2), "threshold must lie in 0 to 1, got 2"),
    ],
)
def test_arguments_out_of_range_are_errors(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
