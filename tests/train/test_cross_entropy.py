import numpy as np
import pytest
import torch

from seg_train import CrossEntropyLoss

CASES = [
    {},
    {"weight": [0.5, 2.0, 0.0, 1.5]},
    {"label_smoothing": 0.2},
    {"weight": [0.5, 2.0, 0.1, 1.5], "label_smoothing": 0.3},
]


def sample(dtype=torch.float64, target_dtype=torch.int64):
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < 0.3] = 255
    return logits.to(dtype), target.to(target_dtype)


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
    result = CrossEntropyLoss(**options, reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("options", CASES)
def test_forward_equals_torch_where_something_is_valid(options):
    logits, target = sample(torch.float32)
    weight = torch.tensor(options["weight"]) if "weight" in options else None
    expected = torch.nn.CrossEntropyLoss(weight, ignore_index=255, label_smoothing=options.get("label_smoothing", 0.0))(
        logits.float(), target.clamp(max=255)
    )
    torch.testing.assert_close(CrossEntropyLoss(**options)(logits, target), expected)


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
    options = {k: torch.tensor(v, dtype=torch.float64) if k == "weight" else v for k, v in options.items()}
    loss = CrossEntropyLoss(**options, reduction=reduction)
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:, :2, :3]), logits)


def test_ignored_pixels_change_neither_value_nor_gradient():
    logits, target = sample()
    loss = CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0], label_smoothing=0.1)
    first = logits.clone().requires_grad_()
    loss(first, target).backward()
    second = torch.where((target == 255)[:, None], 1e3 * torch.randn_like(logits), logits).requires_grad_()
    loss(second, target).backward()
    assert torch.equal(loss(first, target), loss(second, target))
    assert torch.equal(first.grad, second.grad)
    assert first.grad.permute(0, 2, 3, 1)[target == 255].abs().max() == 0


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


def test_half_precision_logits_are_computed_in_float32():
    logits, target = sample(torch.bfloat16)
    result = CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0])(logits, target)
    assert result.dtype == torch.float32
    losses, weights = brute_force(logits, target, weight=[1.0, 2.0, 3.0, 4.0])
    assert float(result) == pytest.approx(losses.sum() / weights.sum(), rel=1e-5)


def test_under_autocast_gradient_is_finite():
    head = torch.nn.Conv2d(3, 4, 1)
    target = torch.randint(0, 4, (2, 5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        loss = CrossEntropyLoss()(head(100 * torch.randn(2, 3, 5, 5)), target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert head.weight.grad.isfinite().all()


def test_arguments_stay_as_they_are():
    logits, target = sample()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    copies = logits.clone(), target.clone(), weight.clone()
    loss = CrossEntropyLoss(weight)
    before = loss(logits, target)
    assert all(torch.equal(a, b) for a, b in zip(copies, (logits, target, weight), strict=True))
    weight.fill_(9.0)
    assert torch.equal(loss(logits, target), before)


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
