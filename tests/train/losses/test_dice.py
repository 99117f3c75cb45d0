import math

import numpy as np
import pytest
import torch

from seg_train.losses.cpu import strips
from seg_train.losses.cpu.regions import areas_by_strips
from seg_train.losses.dice import DiceLoss
from seg_train.losses.regions import areas_by_torch
from tests.train.losses.loss_samples import sample, with_float64_weight

CASES = [
    {},
    {"squared": True},
    {"smooth": 0.7},
    {"absent": "count", "smooth": 1.5},
    {"absent": "count", "squared": True},
    {"weight": [0.5, 2.0, 0.0, 1.5, 3.0]},
    {"weight": [0.5, 2.0, 0.1, 1.5, 3.0], "absent": "count", "smooth": 2.0, "squared": True},
]
GENERALIZED = [
    {},
    {"smooth": 0.7},
    {"absent": "count"},
    {"absent": "count", "smooth": 1.5, "squared": True, "weight": [0.5, 2.0, 0.1, 1.5, 3.0]},
]
GENERALIZED = [{"generalized": True, **options} for options in GENERALIZED]


def areas_of(logits, target, squared):
    """Returns overlap, predicted and true area of each class in float64, pixel by pixel."""
    num_classes = logits.shape[1]
    overlap, predicted, true = np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes)
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        p = np.exp(z) / np.exp(z).sum()
        overlap[label] += p[label]
        true[label] += 1
        for index in range(num_classes):
            predicted[index] += p[index] ** 2 if squared else p[index]
    return overlap, predicted, true


def brute_force(logits, target, weight=None, smooth=0.0, absent="skip", squared=False):
    """Returns the loss and the weight of each class that counts, and those of no class as 0."""
    weight = [1.0] * logits.shape[1] if weight is None else weight
    losses, weights = np.zeros(len(weight)), np.zeros(len(weight))
    for index, (overlap, predicted, true) in enumerate(zip(*areas_of(logits, target, squared), strict=True)):
        if true or absent == "count":
            losses[index] = 1 - (2 * overlap + smooth) / (predicted + true + smooth)
            weights[index] = weight[index]
    return losses, weights


def generalized_brute_force(logits, target, weight=None, smooth=0.0, absent="skip", squared=False, **_):
    weight = [1.0] * logits.shape[1] if weight is None else weight
    areas = list(zip(*areas_of(logits, target, squared), strict=True))
    largest = max(1 / true**2 for _, _, true in areas if true)
    common = total = 0.0
    for factor, (overlap, predicted, true) in zip(weight, areas, strict=True):
        factor *= 1 / true**2 if true else largest if absent == "count" else 0
        common += factor * (2 * overlap + smooth)
        total += factor * (predicted + true + smooth)
    return 1 - common / total


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction, backend):
    logits, target = sample()
    losses, weights = brute_force(logits, target, **options)
    weighted = losses * weights
    expected = {"mean": weighted.sum() / weights.sum(), "sum": weighted.sum(), "none": weighted}[reduction]
    result = DiceLoss(**with_float64_weight(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", GENERALIZED)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_forward_generalized_equals_brute_force(options, reduction, backend):
    logits, target = sample()
    result = DiceLoss(**with_float64_weight(options), reduction=reduction)(logits, target)
    assert float(result) == pytest.approx(generalized_brute_force(logits, target, **options), rel=1e-10)


@pytest.mark.parametrize("options", CASES + GENERALIZED)
def test_backward_passes_gradcheck(options, backend):
    logits, target = sample()
    logits, target = logits[:, :, :2, :3].clone().requires_grad_(), target[:, :2, :3]
    loss = DiceLoss(**with_float64_weight(options), reduction="mean" if "generalized" in options else "none")
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("options", [{}, {"squared": True}, {"generalized": True}])
def test_second_derivative_passes_gradgradcheck(options, backend):
    logits, target = sample()
    logits, target = logits[:, :, :2, :2].clone().requires_grad_(), target[:, :2, :2]
    assert torch.autograd.gradgradcheck(lambda x: DiceLoss(**options)(x, target), logits)


@pytest.mark.parametrize("squared", [False, True])
def test_strips_equal_torch_on_a_larger_batch(squared, small_strips):
    generator = torch.Generator().manual_seed(5)
    logits = (4 * torch.randn(3, 7, 30, 41, generator=generator)).requires_grad_()
    target = torch.randint(0, 8, (3, 30, 41), generator=generator)  # 7 is ignored
    factors = torch.rand(2, 7, generator=generator)
    results, gradients = [], []
    for areas in (
        areas_by_strips(logits, target, 7, squared, areas_by_torch),
        areas_by_torch(logits, target, 7, squared),
    ):
        overlap, predicted, true = areas
        gradients.append(torch.autograd.grad((factors[0] * overlap + factors[1] * predicted).sum(), logits)[0])
        results.append(torch.stack([overlap, predicted, true]).detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_perfect_prediction_gives_zero_and_a_wrong_one_gives_one(backend):
    target = torch.tensor([[[0, 0, 1, 2]]])
    perfect = 200 * torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    assert float(DiceLoss()(perfect, target)) == pytest.approx(0, abs=1e-6)
    assert float(DiceLoss()(perfect.roll(1, dims=1), target)) == pytest.approx(1, abs=1e-6)


def test_absent_class_is_left_out_or_counts_as_one_without_smooth(backend):
    logits, target = sample()
    skipped = DiceLoss(reduction="none")(logits, target)
    counted = DiceLoss(reduction="none", absent="count")(logits, target)
    assert skipped[4] == 0
    assert counted[4] == 1
    assert torch.equal(skipped[:4], counted[:4])
    assert float(DiceLoss()(logits, target)) == pytest.approx(float(skipped[:4].mean()))
    assert float(DiceLoss(absent="count")(logits, target)) == pytest.approx(float(counted.mean()))


def test_absent_class_that_counts_with_smooth_is_pushed_down(backend):
    logits, target = sample()
    logits.requires_grad_()
    DiceLoss(absent="count", smooth=1.0)(logits, target).backward()
    valid = logits.grad[:, 4][target != 255]
    assert (valid > 0).all()


@pytest.mark.parametrize("generalized", [False, True])
def test_only_classes_of_weight_zero_give_zero(generalized, backend):
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = DiceLoss(weight=[0.0, 1.0], generalized=generalized)(logits, torch.zeros(1, 2, 2, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_sums_of_many_pixels_keep_their_digits(backend, monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", 65536)
    logits = torch.zeros(1, 2, 1200, 1200)
    logits[:, 0] = 8.0
    target = torch.zeros(1, 1200, 1200, dtype=torch.uint8)
    p = 1 / (1 + math.exp(-8.0))
    assert float(DiceLoss()(logits, target)) == pytest.approx(1 - 2 * p / (p + 1), abs=2e-7)


def test_repr_shows_the_arguments():
    shown = repr(DiceLoss([1.0, 2.0], smooth=0.5))
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean', smooth=0.5, absent='skip'" in shown
    assert "squared=False, generalized=False" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"smooth": -1.0}, "smooth must be a finite number of at least 0, got -1.0"),
        ({"smooth": math.nan}, "smooth must be a finite number of at least 0, got nan"),
        ({"absent": "zero"}, "absent must be one of skip, count, got 'zero'"),
        ({"generalized": True, "reduction": "none"}, "reduction must be mean or sum with generalized=True"),
    ],
)
def test_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        DiceLoss(**options)
    assert words in str(caught.value)
