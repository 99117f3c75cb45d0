import math

import numpy as np
import pytest
import torch

from seg_train import CrossEntropyLoss
from seg_train.losses import strips
from seg_train.losses.cross_entropy import cross_entropy_by_strips, cross_entropy_by_torch

CASES = [
    {},
    {"weight": [0.5, 2.0, 0.0, 1.5]},
    {"label_smoothing": 0.2},
    {"weight": [0.5, 2.0, 0.1, 1.5], "label_smoothing": 0.3},
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


def brute_force(logits, target, weight=None, label_smoothing=0.0):
    """Returns the loss per pixel and the weight per pixel, in float64, pixel by pixel."""
    num_classes = logits.shape[1]
    weight = np.ones(num_classes) if weight is None else np.asarray(weight, dtype=np.float64)
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        truth = int(target[place])
        if truth == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        smooth = -(weight * log_p).sum() / num_classes
        losses[place] = (1 - label_smoothing) * -weight[truth] * log_p[truth] + label_smoothing * smooth
        weights[place] = weight[truth]
    return losses, weights


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction):
    logits, target = sample()
    losses, weights = brute_force(logits, target, **options)
    expected = {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]
    result = CrossEntropyLoss(**as_tensors(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", CASES)
def test_forward_equals_torch_where_something_is_valid(options):
    logits, target = sample(torch.float32)
    weight = torch.tensor(options["weight"]) if "weight" in options else None
    peer = torch.nn.CrossEntropyLoss(weight, ignore_index=255, label_smoothing=options.get("label_smoothing", 0.0))
    torch.testing.assert_close(CrossEntropyLoss(**options)(logits, target), peer(logits, target))


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 1e-6)])
def test_strips_equal_torch_on_a_larger_batch(options, dtype, rtol, atol):
    generator = torch.Generator().manual_seed(5)
    logits = (4 * torch.randn(3, 4, 30, 41, generator=generator, dtype=dtype)).requires_grad_()
    target = torch.randint(0, 5, (3, 30, 41), generator=generator)  # 4 is ignored
    slopes = torch.rand(3, 30, 41, generator=generator, dtype=dtype)
    weight = torch.tensor(options["weight"], dtype=dtype) if "weight" in options else None
    results, gradients = [], []
    for compute in (cross_entropy_by_strips, cross_entropy_by_torch):
        losses = compute(logits, target, weight, 4, "none", options.get("label_smoothing", 0.0))
        mean = compute(logits, target, weight, 4, "mean", options.get("label_smoothing", 0.0))
        gradients.append(torch.autograd.grad((losses * slopes).sum() + 100 * mean, logits)[0])
        results.append(torch.cat([losses.detach().flatten(), mean.detach()[None]]))
    torch.testing.assert_close(*results, rtol=rtol, atol=atol)
    torch.testing.assert_close(*gradients, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_forward_any_integer_target_gives_the_same(dtype):
    logits, target = sample(target_dtype=dtype)
    reference = CrossEntropyLoss()(logits, target.long())
    assert torch.equal(CrossEntropyLoss()(logits, target), reference)


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_passes_gradcheck(options, reduction):
    logits, target = sample()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    loss = CrossEntropyLoss(**as_tensors(options), reduction=reduction)
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:, :2, :3]), logits)


@pytest.mark.parametrize("options", CASES)
def test_backward_of_the_gradient_passes_gradgradcheck(options):
    logits, target = sample()
    logits = logits[:, :, :2, :2].clone().requires_grad_()
    loss = CrossEntropyLoss(**as_tensors(options))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target[:, :2, :2]), logits)


def test_second_backward_adds_the_same_gradient():
    logits, target = sample()
    logits.requires_grad_()
    loss = CrossEntropyLoss()(logits, target)
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
            CrossEntropyLoss()(seen, target).backward()
            gradients.append(seen.grad)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", CASES)
def test_ignored_pixels_change_neither_value_nor_gradient(options):
    logits, target = sample()
    loss = CrossEntropyLoss(**options)
    first = logits.clone().requires_grad_()
    loss(first, target).backward()
    noise = 1e3 * torch.randn_like(logits)
    noise[:, 0], noise[:, 1] = torch.inf, torch.nan
    second = torch.where((target == 255)[:, None], noise, logits).requires_grad_()
    loss(second, target).backward()
    assert torch.equal(loss(first, target), loss(second, target))
    assert torch.equal(first.grad, second.grad)
    assert first.grad.permute(0, 2, 3, 1)[target == 255].abs().max() == 0
    assert first.grad.abs().max() > 0


@pytest.mark.parametrize("options", CASES)
def test_infinite_and_nan_logits_give_what_torch_gives(options):
    logits, target = sample()
    target[target == 255] = 0
    logits[0, 0, 0, :3], logits[0, 1, 0, 0] = torch.inf, torch.nan
    losses = CrossEntropyLoss(**as_tensors(options), reduction="none")(logits, target)
    weight = as_tensors(options).get("weight")
    peer = torch.nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=options.get("label_smoothing", 0.0))
    expected = peer(logits, target)
    torch.testing.assert_close(losses, expected, equal_nan=True)
    assert not losses.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", CASES)
def test_nothing_valid_gives_zero_with_a_graph(reduction, options):
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = CrossEntropyLoss(**options, reduction=reduction)(logits, torch.full((2, 3, 3), 255))
    assert loss.abs().sum() == 0
    loss.sum().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_only_classes_of_weight_zero_give_zero():
    loss = CrossEntropyLoss(weight=[0.0, 1.0])(torch.randn(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    assert loss == 0


def test_negative_ignore_index_is_ignored():
    logits, target = sample()
    as_negative = torch.where(target == 255, -100, target)
    assert torch.equal(CrossEntropyLoss(ignore_index=-100)(logits, as_negative), CrossEntropyLoss()(logits, target))


def test_ignored_class_is_left_out():
    logits, target = sample()
    without = torch.where(target == 2, 255, target)
    merged = torch.where(target == 255, 2, target)
    assert torch.equal(CrossEntropyLoss(ignore_index=2)(logits, merged), CrossEntropyLoss()(logits, without))


@pytest.mark.parametrize("shape", [(12, 4), (2, 4, 7), (2, 4, 3, 2, 2)])
@pytest.mark.parametrize("options", CASES)
def test_forward_takes_any_number_of_axes(shape, options):
    logits = torch.randn(shape, dtype=torch.float64)
    target = torch.arange(math.prod(shape) // 4).reshape(shape[0], *shape[2:]) % 4
    losses, weights = brute_force(logits, target, **options)
    result = CrossEntropyLoss(**as_tensors(options))(logits, target)
    assert float(result) == pytest.approx(losses.sum() / weights.sum(), rel=1e-10)


@pytest.mark.parametrize("options", CASES)
def test_channels_last_and_strided_logits_give_the_same(options):
    logits, target = sample()
    loss = CrossEntropyLoss(**options)
    reference = logits.clone().requires_grad_()
    loss(reference, target).backward()
    wide = torch.zeros(2, 4, 5, 12, dtype=torch.float64)
    wide[..., ::2] = logits
    for other in (logits.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        seen = other.detach().requires_grad_()
        result = loss(seen, target.mT.contiguous().mT)
        result.backward()
        torch.testing.assert_close(result, loss(reference, target), rtol=1e-12, atol=0)
        torch.testing.assert_close(seen.grad, reference.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, target = sample(dtype)
    result = CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0])(logits.requires_grad_(), target)
    result.backward()
    assert result.dtype == torch.float32
    assert logits.grad.dtype == dtype
    losses, weights = brute_force(logits.detach(), target, weight=[1.0, 2.0, 3.0, 4.0])
    assert float(result.detach()) == pytest.approx(losses.sum() / weights.sum(), rel=1e-5)


@pytest.mark.parametrize("options", CASES)
def test_under_autocast_value_and_gradient_are_those_of_float32(options):
    logits, target = sample(torch.float32)
    loss = CrossEntropyLoss(**options)
    reference = logits.clone().requires_grad_()
    expected = loss(reference, target)
    expected.backward()
    logits.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(logits, target)
        result.backward()
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    assert torch.equal(logits.grad, reference.grad)


def test_arguments_stay_as_they_are():
    logits, target = sample()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    copies = logits.clone(), target.clone(), weight.clone()
    loss = CrossEntropyLoss(weight, label_smoothing=0.1)
    before = loss(logits.requires_grad_(), target)
    before.backward()
    assert all(torch.equal(a, b) for a, b in zip(copies, (logits, target, weight), strict=True))
    weight.fill_(9.0)
    assert torch.equal(loss(logits, target), before)


def test_logits_changed_before_backward_are_an_error():
    logits, target = sample()
    seen = logits.requires_grad_() * 1
    loss = CrossEntropyLoss()(seen, target)
    with torch.no_grad():
        seen.zero_()
    if strips.takes_strips(logits):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:  # torch keeps what it needs
        loss.backward()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("options", CASES)
def test_compiled_gives_the_same(options):
    logits, target = sample()
    loss = CrossEntropyLoss(**options)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    seen = logits.clone().requires_grad_()
    result = compiled(seen, target)
    result.backward()
    logits.requires_grad_()
    expected = loss(logits, target)
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(seen.grad, logits.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (4, "target holds 4 (1 pixel); allowed are the class ids 0 to 3"),
        (-1, "target holds -1 (1 pixel)"),
        (2**40, "target holds 1099511627776 (1 pixel)"),
        (254, "and ignore_index 255: map the ids with a LabelMap"),
    ],
)
def test_forward_target_out_of_range_names_the_value(wrong, words):
    logits, target = sample()
    target[1, 4, 5] = wrong
    with pytest.raises(ValueError) as caught:
        CrossEntropyLoss()(logits, target)
    assert words in str(caught.value)


def test_weight_is_not_in_the_state_dict():
    assert CrossEntropyLoss(weight=[1.0, 2.0]).state_dict() == {}


def test_repr_shows_the_arguments():
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean'" in repr(CrossEntropyLoss([1.0, 2.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "avg"}, "reduction must be one of mean, sum, none, got 'avg'"),
        ({"label_smoothing": 1.5}, "label_smoothing must lie in 0 to 1, got 1.5"),
        ({"weight": [1.0, -1.0]}, "weight must hold one finite number of at least 0 per class, got [1.0, -1.0]"),
        ({"weight": [1.0, float("inf")]}, "weight must hold one finite number"),
        ({"weight": [[1.0]]}, "weight must hold one finite number"),
    ],
)
def test_bad_argument_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        CrossEntropyLoss(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "logits", "target", "words"),
    [
        (None, (2, 4, 5, 6), torch.zeros(2, 5, 5, dtype=torch.int64), "must agree, got (2, 4, 5, 6) and (2, 5, 5)"),
        (None, (2, 4, 5, 6), torch.zeros(2, 5, 6), "must hold class ids of an integer type, got torch.float32"),
        (
            [1.0, 1.0],
            (2, 4, 5, 6),
            torch.zeros(2, 5, 6, dtype=torch.int64),
            "weight has 2 entries but the logits",
        ),
    ],
)
def test_forward_bad_input_says_what_is_wrong(weight, logits, target, words):
    with pytest.raises(ValueError) as caught:
        CrossEntropyLoss(weight)(torch.zeros(logits), target)
    assert words in str(caught.value)
