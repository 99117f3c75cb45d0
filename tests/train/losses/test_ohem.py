import math

import numpy as np
import pytest
import torch

from seg_train.losses.cpu import strips
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.ohem import OhemCrossEntropyLoss
from tests.train.losses.loss_samples import larger_batch, with_float64_weight
from tests.train.losses.loss_samples import sample as shared_sample

CASES = [
    {"min_kept": 0},  # the threshold decides
    {"min_kept": 10, "threshold": 0.3},
    {"min_kept": 25, "threshold": 0.01},  # the number decides
    {"min_kept": 0.4, "threshold": 0.0},
    {"min_kept": 1000},  # more than there are: all valid pixels
    {"min_kept": 25, "threshold": 0.01, "weight": [0.5, 2.0, 0.0, 1.5]},
    {"min_kept": 0, "threshold": 0.5, "weight": [0.5, 2.0, 0.1, 1.5]},
]


def sample(dtype=torch.float64):
    return shared_sample(dtype, num_classes=4, scale=2.0)


def brute_force(logits, target, weight=None, threshold=0.7, min_kept=100_000):
    """Returns the loss per pixel and which pixels are kept, in float64, from a sorted list of the valid pixels."""
    weight = [1.0] * logits.shape[1] if weight is None else weight
    losses, kept = np.zeros(target.shape), np.zeros(target.shape, dtype=bool)
    valid = []
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label != 255:
            z = logits[(place[0], slice(None), *place[1:])].double().numpy()
            p = float(np.exp(z[label]) / np.exp(z).sum())
            losses[place] = -weight[label] * math.log(p)
            valid.append((p, place))
    valid.sort()
    count = math.ceil(min_kept * len(valid)) if isinstance(min_kept, float) else min_kept
    for rank, (p, place) in enumerate(valid):
        kept[place] = p < threshold or rank < count
    return losses * kept, kept


def test_cases_keep_different_pixels():
    logits, target = sample()
    numbers = [int(brute_force(logits, target, **options)[1].sum()) for options in CASES]
    total = int((target != 255).sum())
    assert numbers[2] == 25
    assert numbers[3] == math.ceil(0.4 * total)
    assert numbers[4] == total
    assert 10 < numbers[1] < numbers[0] < total


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_equals_brute_force(options, reduction, backend):
    logits, target = sample()
    losses, kept = brute_force(logits, target, **options)
    expected = {"mean": losses.sum() / kept.sum(), "sum": losses.sum(), "none": losses}[reduction]
    result = OhemCrossEntropyLoss(**with_float64_weight(options), reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_all_pixels_kept_is_cross_entropy(backend):
    logits, target = sample()
    for options in ({"min_kept": 10**9, "threshold": 0.0}, {"min_kept": 0, "threshold": 1.0}):
        first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        kept, all_pixels = OhemCrossEntropyLoss(**options)(first, target), CrossEntropyLoss()(second, target)
        torch.testing.assert_close(kept, all_pixels)
        kept.backward()
        all_pixels.backward()
        torch.testing.assert_close(first.grad, second.grad)


def test_no_pixel_below_the_threshold_gives_zero_with_a_graph(backend):
    logits, target = sample()
    logits.requires_grad_()
    loss = OhemCrossEntropyLoss(threshold=0.0, min_kept=0)(logits, target)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_equally_probable_pixels_are_kept_together(backend):
    logits = torch.zeros(1, 2, 1, 4, dtype=torch.float64)
    logits[0, 0, 0] = torch.tensor([3.0, 1.0, 1.0, 5.0])
    losses = OhemCrossEntropyLoss(threshold=0.0, min_kept=1, reduction="none")(logits, torch.zeros(1, 1, 4).long())
    assert (losses[0, 0] > 0).tolist() == [False, True, True, False]


def test_kept_pixels_have_the_gradient_of_cross_entropy_and_others_none(backend):
    logits, target = sample()
    options = {"min_kept": 25, "threshold": 0.01}
    _, kept = brute_force(logits, target, **options)
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    OhemCrossEntropyLoss(**options, reduction="sum")(first, target).backward()
    CrossEntropyLoss(reduction="sum")(second, target).backward()
    gradient, expected = first.grad.movedim(1, -1), second.grad.movedim(1, -1)
    assert gradient[~torch.from_numpy(kept)].abs().max() == 0
    torch.testing.assert_close(gradient[torch.from_numpy(kept)], expected[torch.from_numpy(kept)])


def test_weight_does_not_affect_which_pixels_are_kept():
    logits, target = sample()
    plain = OhemCrossEntropyLoss(min_kept=20, threshold=0.1, reduction="none")(logits, target)
    weighted = OhemCrossEntropyLoss([9.0, 0.1, 4.0, 2.0], min_kept=20, threshold=0.1, reduction="none")(logits, target)
    assert torch.equal(plain > 0, weighted > 0)


@pytest.mark.parametrize("options", CASES)
def test_strips_equal_torch_on_a_larger_batch(options, small_strips, monkeypatch):
    logits, target, slopes = larger_batch()
    results, gradients = [], []
    for min_logits in (0, math.inf):
        monkeypatch.setattr(strips, "_MIN_LOGITS", min_logits)
        losses = OhemCrossEntropyLoss(**with_float64_weight(options), ignore_index=4, reduction="none")(logits, target)
        gradients.append(torch.autograd.grad((losses * slopes).sum(), logits)[0])
        results.append(losses.detach())
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", CASES)
def test_backward_passes_gradcheck(options, backend):
    logits, target = sample()
    logits, target = logits[:, :, :2, :3].clone().requires_grad_(), target[:, :2, :3]
    options = {**options, "min_kept": min(options["min_kept"], 3)}
    loss = OhemCrossEntropyLoss(**with_float64_weight(options), reduction="none")
    assert loss(logits, target).abs().sum() > 0
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_more_ignored_pixels_change_nothing(backend):
    logits, target = sample()
    wider = torch.cat([logits, torch.zeros_like(logits)], dim=-1)
    more = torch.cat([target, torch.full_like(target, 255)], dim=-1)
    for options in CASES:
        loss = OhemCrossEntropyLoss(**options)
        torch.testing.assert_close(loss(wider, more), loss(logits, target), rtol=1e-12, atol=0)


def test_repr_shows_the_arguments():
    shown = repr(OhemCrossEntropyLoss([1.0, 2.0], min_kept=7))
    assert "weight=[1.0, 2.0], ignore_index=255, reduction='mean', threshold=0.7, min_kept=7" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        ({"min_kept": -1}, "min_kept must be a number of pixels, an integer of at least 0, or a fraction"),
        ({"min_kept": 1.5}, "float between 0 and 1, got 1.5"),
        ({"min_kept": True}, "float between 0 and 1, got True"),
    ],
)
def test_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        OhemCrossEntropyLoss(**options)
    assert words in str(caught.value)
