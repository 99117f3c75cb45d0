import math

import numpy as np
import pytest
import torch

from seg_train.losses.cpu import strips
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.focal import FocalLoss
from tests.train.losses.loss_samples import larger_batch, with_float64_weight
from tests.train.losses.loss_samples import sample as shared_sample

CASES = [
    {},
    {"gamma": 0.0},
    {"gamma": 0.5},
    {"weight": [0.5, 2.0, 0.0, 1.5]},
    {"weight": [0.5, 2.0, 0.1, 1.5], "gamma": 3.0},
]


def sample(dtype=torch.float64):
    return shared_sample(dtype, num_classes=4, scale=4.0)


def brute_force(logits, target, weight=None, gamma=2.0):
    """Returns the loss per pixel and the weight per pixel, in float64, pixel by pixel."""
    weight = [1.0] * logits.shape[1] if weight is None else weight
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        p = np.exp(z) / np.exp(z).sum()
        losses[place] = -weight[label] * (1 - p[label]) ** gamma * np.log(p[label])
        weights[place] = weight[label]
    return losses, weights


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction, backend):
    logits, target = sample()
    losses, weights = brute_force(logits, target, **options)
    expected = {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]
    result = FocalLoss(**with_float64_weight(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("gamma", "p", "expected"), [(2.0, 0.9, 0.01), (2.0, 0.5, 0.25), (1.0, 0.75, 0.25)])
def test_easy_pixels_count_the_papers_fraction_of_cross_entropy(gamma, p, expected):
    logits = torch.tensor([[p, 1 - p]], dtype=torch.float64).log()
    target = torch.tensor([0])
    fraction = FocalLoss(gamma=gamma)(logits, target) / CrossEntropyLoss()(logits, target)
    assert float(fraction) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_where_the_probability_is_zero_or_one(gamma, dtype, backend):
    logits = torch.zeros(1, 2, 1, 4, dtype=dtype)
    logits[0, 0] = torch.tensor([1e4, -1e4, 40.0, -40.0], dtype=dtype)
    logits.requires_grad_()
    losses = FocalLoss(gamma=gamma, reduction="none")(logits, torch.zeros(1, 1, 4, dtype=torch.uint8))
    losses.sum().backward()
    torch.testing.assert_close(losses.detach()[0, 0, 1:4:2], torch.tensor([1e4, 40.0], dtype=dtype))
    assert losses[0, 0, 0] == 0
    assert logits.grad.isfinite().all()
    # where the other classes have all the probability, it is that of cross entropy
    torch.testing.assert_close(logits.grad[0, 0, 0, 1:4:2], torch.tensor([-1.0, -1.0], dtype=dtype))


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 1e-6)])
def test_strips_equal_torch_on_a_larger_batch(options, dtype, rtol, atol, small_strips, monkeypatch):
    logits, target, slopes = larger_batch(dtype)
    results, gradients = [], []
    for min_logits in (0, math.inf):
        monkeypatch.setattr(strips, "_MIN_LOGITS", min_logits)
        losses = FocalLoss(**with_float64_weight(options), ignore_index=4, reduction="none")(logits, target)
        gradients.append(torch.autograd.grad((losses * slopes).sum(), logits)[0])
        results.append(losses.detach())
    torch.testing.assert_close(*results, rtol=rtol, atol=atol)
    torch.testing.assert_close(*gradients, rtol=rtol, atol=atol)


@pytest.mark.parametrize("options", CASES)
def test_backward_passes_gradcheck(options, backend):
    logits, target = sample()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    loss = FocalLoss(**with_float64_weight(options), reduction="none")
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:, :2, :3]), logits)


@pytest.mark.parametrize("options", CASES)
def test_second_derivative_passes_gradgradcheck(options, backend):
    logits, target = sample()
    logits = logits[:, :, :2, :2].clone().requires_grad_()
    loss = FocalLoss(**with_float64_weight(options))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target[:, :2, :2]), logits)


def test_repr_shows_the_arguments():
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean', gamma=2.0" in repr(FocalLoss([1.0, 2.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": -0.5}, "gamma must be a finite number of at least 0, got -0.5"),
        ({"gamma": float("nan")}, "gamma must be a finite number of at least 0, got nan"),
        ({"gamma": float("inf")}, "gamma must be a finite number of at least 0, got inf"),
    ],
)
def test_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        FocalLoss(**options)
    assert words in str(caught.value)
