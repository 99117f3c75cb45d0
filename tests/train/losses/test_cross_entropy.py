import numpy as np
import pytest
import torch

from seg_train import CrossEntropyLoss
from seg_train.losses.cross_entropy import cross_entropy_by_strips, cross_entropy_by_torch
from tests.train.losses.loss_samples import larger_batch, with_float64_weight
from tests.train.losses.loss_samples import sample as shared_sample

CASES = [
    {},
    {"weight": [0.5, 2.0, 0.0, 1.5]},
    {"label_smoothing": 0.2},
    {"weight": [0.5, 2.0, 0.1, 1.5], "label_smoothing": 0.3},
]


def sample(dtype=torch.float64):
    return shared_sample(dtype, num_classes=4, scale=4.0)


def brute_force(logits, target, weight=None, label_smoothing=0.0):
    """Returns the loss per pixel and the weight per pixel, in float64, pixel by pixel."""
    num_classes = logits.shape[1]
    weight = np.ones(num_classes) if weight is None else np.asarray(weight, dtype=np.float64)
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        smooth = -(weight * log_p).sum() / num_classes
        losses[place] = (1 - label_smoothing) * -weight[label] * log_p[label] + label_smoothing * smooth
        weights[place] = weight[label]
    return losses, weights


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction, backend):
    logits, target = sample()
    losses, weights = brute_force(logits, target, **options)
    expected = {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]
    result = CrossEntropyLoss(**with_float64_weight(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", CASES)
def test_forward_equals_torch(options, backend):
    logits, target = sample(torch.float32)
    weight = torch.tensor(options["weight"]) if "weight" in options else None
    peer = torch.nn.CrossEntropyLoss(weight, ignore_index=255, label_smoothing=options.get("label_smoothing", 0.0))
    torch.testing.assert_close(CrossEntropyLoss(**options)(logits, target), peer(logits, target))


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 1e-6)])
def test_strips_equal_torch_on_a_larger_batch(options, dtype, rtol, atol, small_strips):
    logits, target, slopes = larger_batch(dtype)
    weight = torch.tensor(options["weight"], dtype=dtype) if "weight" in options else None
    results, gradients = [], []
    for compute in (cross_entropy_by_strips, cross_entropy_by_torch):
        losses = compute(logits, target, weight, 4, "none", options.get("label_smoothing", 0.0))
        mean = compute(logits, target, weight, 4, "mean", options.get("label_smoothing", 0.0))
        gradients.append(torch.autograd.grad((losses * slopes).sum() + 100 * mean, logits)[0])
        results.append(torch.cat([losses.detach().flatten(), mean.detach()[None]]))
    torch.testing.assert_close(*results, rtol=rtol, atol=atol)
    torch.testing.assert_close(*gradients, rtol=rtol, atol=atol)


@pytest.mark.parametrize("options", CASES)
def test_backward_passes_gradcheck(options, backend):
    logits, target = sample()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    loss = CrossEntropyLoss(**with_float64_weight(options), reduction="none")
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:, :2, :3]), logits)


@pytest.mark.parametrize("options", CASES)
def test_second_derivative_passes_gradgradcheck(options, backend):
    logits, target = sample()
    logits = logits[:, :, :2, :2].clone().requires_grad_()
    loss = CrossEntropyLoss(**with_float64_weight(options))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target[:, :2, :2]), logits)


@pytest.mark.parametrize("options", CASES)
def test_infinite_and_nan_logits_give_what_torch_gives(options, backend):
    logits, target = sample()
    target[target == 255] = 0
    logits[0, 0, 0, :3], logits[0, 1, 0, 0] = torch.inf, torch.nan
    losses = CrossEntropyLoss(**with_float64_weight(options), reduction="none")(logits, target)
    weight = with_float64_weight(options).get("weight")
    peer = torch.nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=options.get("label_smoothing", 0.0))
    expected = peer(logits, target)
    torch.testing.assert_close(losses, expected, equal_nan=True)
    assert not losses.isfinite().all()


def test_repr_shows_the_arguments():
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean'" in repr(CrossEntropyLoss([1.0, 2.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing must be between 0 and 1, got 1.5"),
    ],
)
def test_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        CrossEntropyLoss(**options)
    assert words in str(caught.value)
