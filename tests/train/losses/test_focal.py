import math

import numpy as np
import pytest
import torch

from seg_train.losses.cpu import strips
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.focal import FocalLoss

CASES = [
    {},
    {"gamma": 0.0},
    {"gamma": 0.5},
    {"weight": [0.5, 2.0, 0.0, 1.5]},
    {"weight": [0.5, 2.0, 0.1, 1.5], "gamma": 3.0},
]


@pytest.fixture(params=["strips", "torch"], autouse=True)
def way(request, monkeypatch):
    """Both ways to compute, whatever the size of the logits, and several strips for each thread."""
    monkeypatch.setattr(strips, "_FEWEST", 0 if request.param == "strips" else math.inf)
    monkeypatch.setattr(strips, "_STRIP", 40)
    return request.param


def sample(dtype=torch.float64, target_dtype=torch.int64):
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < 0.3] = 255
    return logits.to(dtype), target.to(target_dtype)


def as_tensors(options):
    """Weights in float64, which lists do not become."""
    return {k: torch.tensor(v, dtype=torch.float64) if k == "weight" else v for k, v in options.items()}


def brute_force(logits, target, weight=None, gamma=2.0):
    """Returns the loss per pixel and the weight per pixel, in float64, pixel by pixel."""
    weight = [1.0] * logits.shape[1] if weight is None else weight
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        truth = int(target[place])
        if truth == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        p = np.exp(z) / np.exp(z).sum()
        losses[place] = -weight[truth] * (1 - p[truth]) ** gamma * np.log(p[truth])
        weights[place] = weight[truth]
    return losses, weights


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction):
    logits, target = sample()
    losses, weights = brute_force(logits, target, **options)
    expected = {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]
    result = FocalLoss(**as_tensors(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("gamma", "p", "expected"), [(2.0, 0.9, 0.01), (2.0, 0.5, 0.25), (1.0, 0.75, 0.25)])
def test_easy_pixels_pay_the_papers_share_of_cross_entropy(gamma, p, expected):
    logits = torch.tensor([[p, 1 - p]], dtype=torch.float64).log()
    target = torch.tensor([0])
    share = FocalLoss(gamma=gamma)(logits, target) / CrossEntropyLoss()(logits, target)
    assert float(share) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_where_the_probability_is_zero_or_one(gamma, dtype):
    logits = torch.zeros(1, 2, 1, 4, dtype=dtype)
    logits[0, 0] = torch.tensor([1e4, -1e4, 40.0, -40.0], dtype=dtype)
    logits.requires_grad_()
    losses = FocalLoss(gamma=gamma, reduction="none")(logits, torch.zeros(1, 1, 4, dtype=torch.uint8))
    losses.sum().backward()
    torch.testing.assert_close(losses.detach()[0, 0, 1:4:2], torch.tensor([1e4, 40.0], dtype=dtype))
    assert losses[0, 0, 0] == 0
    assert logits.grad.isfinite().all()
    # where the others have all, it is cross entropy
    torch.testing.assert_close(logits.grad[0, 0, 0, 1:4:2], torch.tensor([-1.0, -1.0], dtype=dtype))


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 1e-6)])
def test_strips_equal_torch_on_a_larger_batch(options, dtype, rtol, atol, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    logits = (4 * torch.randn(3, 4, 30, 41, generator=generator, dtype=dtype)).requires_grad_()
    target = torch.randint(0, 5, (3, 30, 41), generator=generator)  # 4 is ignored
    slopes = torch.rand(3, 30, 41, generator=generator, dtype=dtype)
    results, gradients = [], []
    for fewest in (0, math.inf):
        monkeypatch.setattr(strips, "_FEWEST", fewest)
        losses = FocalLoss(**as_tensors(options), ignore_index=4, reduction="none")(logits, target)
        gradients.append(torch.autograd.grad((losses * slopes).sum(), logits)[0])
        results.append(losses.detach())
    torch.testing.assert_close(*results, rtol=rtol, atol=atol)
    torch.testing.assert_close(*gradients, rtol=rtol, atol=atol)


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_passes_gradcheck(options, reduction):
    logits, target = sample()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    loss = FocalLoss(**as_tensors(options), reduction=reduction)
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:, :2, :3]), logits)


@pytest.mark.parametrize("options", CASES)
def test_backward_of_the_gradient_passes_gradgradcheck(options):
    logits, target = sample()
    logits = logits[:, :, :2, :2].clone().requires_grad_()
    loss = FocalLoss(**as_tensors(options))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target[:, :2, :2]), logits)


def test_second_backward_adds_the_same_gradient():
    logits, target = sample()
    logits.requires_grad_()
    loss = FocalLoss()(logits, target)
    loss.backward(retain_graph=True)
    once = logits.grad.clone()
    loss.backward()
    assert torch.equal(logits.grad, 2 * once)


def test_number_of_threads_changes_nothing():
    logits, target = sample()
    before = torch.get_num_threads()
    try:
        gradients = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            seen = logits.clone().requires_grad_()
            FocalLoss()(seen, target).backward()
            gradients.append(seen.grad)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_only_classes_of_weight_zero_give_zero():
    loss = FocalLoss(weight=[0.0, 1.0])(torch.randn(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    assert loss == 0


def test_negative_ignore_index_is_ignored():
    logits, target = sample()
    as_negative = torch.where(target == 255, -100, target)
    assert torch.equal(FocalLoss(ignore_index=-100)(logits, as_negative), FocalLoss()(logits, target))


def test_ignored_class_is_left_out():
    logits, target = sample()
    without = torch.where(target == 2, 255, target)
    merged = torch.where(target == 255, 2, target)
    assert torch.equal(FocalLoss(ignore_index=2)(logits, merged), FocalLoss()(logits, without))


@pytest.mark.parametrize("shape", [(12, 4), (2, 4, 7), (2, 4, 3, 2, 2)])
@pytest.mark.parametrize("options", CASES)
def test_forward_takes_any_number_of_axes(shape, options):
    logits = torch.randn(shape, dtype=torch.float64)
    target = torch.arange(math.prod(shape) // 4).reshape(shape[0], *shape[2:]) % 4
    losses, weights = brute_force(logits, target, **options)
    result = FocalLoss(**as_tensors(options))(logits, target)
    assert float(result) == pytest.approx(losses.sum() / weights.sum(), rel=1e-10)


def test_logits_changed_before_backward_are_an_error():
    logits, target = sample()
    seen = logits.requires_grad_() * 1
    loss = FocalLoss()(seen, target)
    with torch.no_grad():
        seen.zero_()
    if strips.takes_strips(logits):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:  # torch keeps what it needs
        loss.backward()
        assert logits.grad.isfinite().all()


def test_repr_shows_the_arguments():
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean', gamma=2.0" in repr(FocalLoss([1.0, 2.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "avg"}, "reduction must be one of mean, sum, none, got 'avg'"),
        ({"gamma": -0.5}, "gamma must be a finite number of at least 0, got -0.5"),
        ({"gamma": float("nan")}, "gamma must be a finite number of at least 0, got nan"),
        ({"gamma": float("inf")}, "gamma must be a finite number of at least 0, got inf"),
        ({"weight": [1.0, -1.0]}, "weight must hold one finite number of at least 0 per class, got [1.0, -1.0]"),
        ({"weight": [1.0, float("inf")]}, "weight must hold one finite number"),
        ({"weight": [[1.0]]}, "weight must hold one finite number"),
    ],
)
def test_bad_argument_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        FocalLoss(**options)
    assert words in str(caught.value)
