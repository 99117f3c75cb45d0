import math

import numpy as np
import pytest
import torch

from seg_train.losses.boundary import BoundaryAwareLoss, BoundaryLoss, DetailLoss
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.dice import DiceLoss
from seg_train.losses.ohem import OhemCrossEntropyLoss

LOSSES = [(BoundaryLoss, 1), (DetailLoss, 1), (DetailLoss, 2)]


def sample(channels=1, dtype=torch.float64, target_dtype=torch.int64):
    """Logits, and masks of three regions with a few pixels ignored."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, channels, 9, 11, generator=generator, dtype=torch.float64)
    target = torch.zeros(2, 9, 11, dtype=torch.int64)
    target[0, :, 6:], target[0, 5:, :3], target[1, 2:4, 2:9] = 2, 5, 1
    target[torch.rand(2, 9, 11, generator=generator) < 0.2] = 255
    return logits.to(dtype), target.to(target_dtype)


def boundaries_by_hand(target, width):
    """Returns where pixels of another class are within half the width, among the valid pixels."""
    found = np.zeros(target.shape, dtype=bool)
    reach = width // 2
    for image, row, column in np.ndindex(*target.shape):
        own = int(target[image, row, column])
        nearby = target[image, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        found[image, row, column] = own != 255 and len({own, *nearby.flatten().tolist()} - {255}) > 1
    return found


def details_by_hand(target):
    """Returns where the class id exceeds the mean of the valid pixels around it: STDC's strides 1, 2 and 4."""
    found = np.zeros(target.shape, dtype=bool)
    votes = np.zeros(target.shape)
    height, width = target.shape[1:]
    for image, row, column in np.ndindex(*target.shape):
        if target[image, row, column] == 255:
            continue
        for stride, weight in ((1, 0.6), (2, 0.3), (4, 0.1)):
            y, x = row // stride * stride, column // stride * stride
            around = [
                int(target[image, j, i])
                for j in range(y - 1, y + 2)
                for i in range(x - 1, x + 2)
                if (j, i) != (y, x) and 0 <= j < height and 0 <= i < width and target[image, j, i] != 255
            ]
            center = int(target[image, y, x])
            if center != 255 and around and len(around) * center > sum(around):
                votes[image, row, column] += weight
        found[image, row, column] = votes[image, row, column] > 0.1 + 1e-9
    return found


def probabilities_by_hand(logits):
    z = logits.double().numpy()
    if z.shape[1] == 2:
        return np.exp(z[:, 1]) / (np.exp(z[:, 0]) + np.exp(z[:, 1]))
    return 1 / (1 + np.exp(-z[:, 0]))


def boundary_by_hand(logits, target, width):
    """Returns the loss of each pixel, 0 for ignored ones."""
    p, found, valid = probabilities_by_hand(logits), boundaries_by_hand(target, width), target.numpy() != 255
    num_found, num_valid = found.sum(), valid.sum()
    losses = np.zeros(target.shape)
    for place in zip(*np.nonzero(valid), strict=True):
        if found[place]:
            losses[place] = -(num_valid - num_found) / num_valid * math.log(p[place])
        else:
            losses[place] = -num_found / num_valid * math.log(1 - p[place])
    return losses


def detail_by_hand(logits, target):
    p, found, valid = probabilities_by_hand(logits), details_by_hand(target), target.numpy() != 255
    entropies = [-math.log(p[at] if found[at] else 1 - p[at]) for at in zip(*np.nonzero(valid), strict=True)]
    dices = [
        1 - (2 * (p[i] * found[i])[valid[i]].sum() + 1) / ((p[i][valid[i]] ** 2).sum() + found[i].sum() + 1)
        for i in range(len(p))
        if valid[i].any()
    ]
    return np.mean(entropies) + np.mean(dices)


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_boundary_forward_equals_brute_force(width, reduction):
    logits, target = sample()
    losses = boundary_by_hand(logits, target, width)
    valid = int((target != 255).sum())
    expected = {"mean": losses.sum() / valid, "sum": losses.sum(), "none": losses}[reduction]
    result = BoundaryLoss(width=width, reduction=reduction)(logits, target)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2])
def test_detail_forward_equals_brute_force(channels):
    logits, target = sample(channels)
    assert float(DetailLoss()(logits, target)) == pytest.approx(detail_by_hand(logits, target), rel=1e-10)


def test_sample_has_boundaries_and_details():
    _, target = sample()
    for found in (boundaries_by_hand(target, 2), boundaries_by_hand(target, 4), details_by_hand(target)):
        assert 0.05 < found.mean() < 0.8


def test_boundary_loss_weights_boundary_and_other_pixels_equally():
    logits = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    target = torch.zeros(1, 9, 9, dtype=torch.uint8)
    target[..., 7:] = 1
    found = torch.from_numpy(boundaries_by_hand(target, 2))
    losses = BoundaryLoss(width=2, reduction="none")(logits, target)
    assert float(losses[found].sum()) == pytest.approx(float(losses[~found].sum()), rel=1e-9)
    assert found.sum() < (~found).sum()


def test_boundary_loss_without_a_boundary_is_zero_with_a_graph():
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = BoundaryLoss()(logits, torch.ones(1, 4, 4, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_detail_two_channels_equal_one_with_their_difference():
    logits, target = sample(2)
    difference = (logits[:, 1] - logits[:, 0])[:, None]
    torch.testing.assert_close(DetailLoss()(logits, target), DetailLoss()(difference, target))


def test_detail_image_without_valid_pixels_is_left_out():
    logits, target = sample()
    more = torch.cat([target, torch.full((1, 9, 11), 255)])
    result = DetailLoss()(torch.cat([logits, logits[:1]]), more)
    assert float(result) == pytest.approx(float(DetailLoss()(logits, target)), rel=1e-12)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_backward_passes_gradcheck(loss, channels):
    logits, target = sample(channels)
    logits, target = logits[:, :, :4, 4:8].clone().requires_grad_(), target[:, :4, 4:8]
    for options in [{"reduction": "mean"}, {"reduction": "none"}] if loss is BoundaryLoss else [{}]:
        assert torch.autograd.gradcheck(lambda x, options=options: loss(**options)(x, target), logits)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_ignored_pixels_change_neither_value_nor_gradient(loss, channels):
    logits, target = sample(channels)
    first = logits.clone().requires_grad_()
    loss()(first, target).backward()
    for noise in (1e3, torch.inf, torch.nan):
        second = torch.where((target == 255)[:, None], noise, logits).requires_grad_()
        loss()(second, target).backward()
        assert torch.equal(loss()(first, target), loss()(second, target))
        assert torch.equal(first.grad, second.grad)
    assert first.grad.movedim(1, -1)[target == 255].abs().max() == 0
    assert first.grad.abs().max() > 0


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_no_valid_pixel_gives_zero_with_a_graph(loss, channels):
    for options in [{"reduction": r} for r in ("mean", "sum", "none")] if loss is BoundaryLoss else [{}]:
        logits = torch.randn(2, channels, 3, 3, requires_grad=True)
        result = loss(**options)(logits, torch.full((2, 3, 3), 255))
        assert result.abs().sum() == 0
        result.sum().backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_forward_any_integer_target_gives_the_same(dtype, loss, channels):
    logits, target = sample(channels, target_dtype=dtype)
    assert torch.equal(loss()(logits, target), loss()(logits, target.long()))


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
@pytest.mark.parametrize("ignore_index", [-100, 1, 0])
def test_any_ignore_index_is_ignored(loss, channels, ignore_index):
    logits, target = sample(channels)
    target[target != 255] += 3  # so that 0 and 1, which are values of the boundary targets too, are free
    other = torch.where(target == 255, ignore_index, target)
    assert torch.equal(loss(ignore_index=ignore_index)(logits, other), loss()(logits, target))


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_channels_last_and_strided_logits_give_the_same(loss, channels):
    logits, target = sample(channels)
    reference = logits.clone().requires_grad_()
    loss()(reference, target).backward()
    wide = torch.zeros(2, channels, 9, 22, dtype=torch.float64)
    wide[..., ::2] = logits
    for other in (logits.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        seen = other.detach().requires_grad_()
        result = loss()(seen, target.mT.contiguous().mT)
        result.backward()
        torch.testing.assert_close(result, loss()(reference, target), rtol=1e-12, atol=0)
        torch.testing.assert_close(seen.grad, reference.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype, loss, channels):
    logits, target = sample(channels, dtype)
    result = loss()(logits.requires_grad_(), target)
    result.backward()
    assert result.dtype == torch.float32
    assert logits.grad.dtype == dtype
    expected = loss()(logits.detach().double(), target)
    assert float(result.detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_under_autocast_value_and_gradient_are_those_of_float32(loss, channels):
    logits, target = sample(channels, torch.float32)
    target[target != 255] += 140  # bfloat16 could not distinguish 8 * 145 from 1159
    reference = logits.clone().requires_grad_()
    expected = loss()(reference, target)
    expected.backward()
    logits.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = loss()(logits, target)
        result.backward()
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    assert torch.equal(logits.grad, reference.grad)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_arguments_are_not_modified(loss, channels):
    logits, target = sample(channels)
    copies = logits.clone(), target.clone()
    loss()(logits.requires_grad_(), target).backward()
    assert torch.equal(logits, copies[0])
    assert torch.equal(target, copies[1])


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_compiled_gives_the_same(loss, channels):
    logits, target = sample(channels)
    compiled = torch.compile(loss(), backend="aot_eager", fullgraph=True)
    seen = logits.clone().requires_grad_()
    result = compiled(seen, target)
    result.backward()
    logits.requires_grad_()
    expected = loss()(logits, target)
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(seen.grad, logits.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "channels"), LOSSES)
def test_forward_negative_id_names_the_value(loss, channels):
    logits, target = sample(channels)
    target[0, 0, :2] = -1
    with pytest.raises(ValueError) as caught:
        loss()(logits, target)
    assert "target contains -1 (2 pixels); allowed are class ids >= 0 and ignore_index 255" in str(caught.value)


@pytest.mark.parametrize(("loss", "allowed"), [(BoundaryLoss(), "(N, 1, H, W)"), (DetailLoss(), "(N, 1 or 2, H, W)")])
def test_invalid_input_says_what_is_wrong(loss, allowed):
    target = torch.zeros(2, 5, 6, dtype=torch.int64)
    with pytest.raises(ValueError) as caught:
        loss(torch.zeros(2, 19, 5, 6), target)
    assert f"logits must be {allowed} for a target (N, H, W), got (2, 19, 5, 6) and (2, 5, 6)" in str(caught.value)
    with pytest.raises(ValueError, match="must agree, got"):
        loss(torch.zeros(2, 1, 5, 5), target)
    with pytest.raises(ValueError, match="must hold class ids of an integer type"):
        loss(torch.zeros(2, 1, 5, 6), target.float())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "avg"}, "reduction must be one of mean, sum, none, got 'avg'"),
        ({"width": 3}, "width must be an even number of pixels, at least 2, got 3"),
    ],
)
def test_boundary_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        BoundaryLoss(**options)
    assert words in str(caught.value)


def test_repr_shows_the_arguments():
    assert "width=2, ignore_index=255, reduction='mean'" in repr(BoundaryLoss(width=2))
    assert "ignore_index=7" in repr(DetailLoss(ignore_index=7))
    assert "threshold=0.8, ignore_index=255" in repr(BoundaryAwareLoss())


def sample_with_boundary_logits(dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(2, 4, 9, 11, generator=generator, dtype=torch.float64)
    boundary, target = sample()
    target[target != 255] %= 4
    return logits.to(dtype), target, boundary.to(dtype)


def aware_by_hand(logits, target, boundary, threshold):
    """Returns the mean cross entropy of the valid pixels whose boundary is more probable than the threshold."""
    p_boundary, losses = probabilities_by_hand(boundary), []
    for image, row, column in np.ndindex(*target.shape):
        label = int(target[image, row, column])
        if label != 255 and p_boundary[image, row, column] > threshold:
            z = logits[image, :, row, column].double().numpy()
            losses.append(-math.log(np.exp(z[label]) / np.exp(z).sum()))
    return np.mean(losses)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8])
def test_boundary_aware_forward_equals_brute_force(threshold):
    logits, target, boundary = sample_with_boundary_logits()
    result = BoundaryAwareLoss(threshold)(logits, target, boundary)
    assert float(result) == pytest.approx(aware_by_hand(logits, target, boundary, threshold), rel=1e-10)


def test_boundary_aware_backward_passes_gradcheck_without_gradient_for_the_boundary():
    logits, target, boundary = sample_with_boundary_logits()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    target, boundary = target[:, :2, :3], boundary[..., :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: BoundaryAwareLoss(0.5)(x, target, boundary.detach()), logits)
    BoundaryAwareLoss(0.5)(logits, target, boundary).backward()
    assert boundary.grad is None
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("criterion", [None, OhemCrossEntropyLoss(), DiceLoss()])
def test_boundary_aware_nothing_above_the_threshold_gives_zero_with_a_graph(criterion):
    logits, target, boundary = sample_with_boundary_logits(torch.float32)
    logits.requires_grad_()
    loss = BoundaryAwareLoss(criterion=criterion)(logits, target, torch.full_like(boundary, -5.0))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_boundary_aware_criterion_sees_only_the_pixels_near_boundaries():
    logits, target, boundary = sample_with_boundary_logits()
    criterion = OhemCrossEntropyLoss(min_kept=12, threshold=0.1)
    near = torch.from_numpy(probabilities_by_hand(boundary)) > 0.8
    expected = criterion(logits, torch.where(near, target, 255))
    result = BoundaryAwareLoss(criterion=criterion)(logits, target, boundary)
    torch.testing.assert_close(result, expected)
    assert not torch.isclose(result, criterion(logits, target))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_boundary_aware_any_integer_target_gives_the_same_and_is_not_modified(dtype):
    logits, target, boundary = sample_with_boundary_logits()
    given = target.to(dtype)
    copies = given.clone(), boundary.clone()
    assert torch.equal(
        BoundaryAwareLoss(0.5)(logits, given, boundary), BoundaryAwareLoss(0.5)(logits, target, boundary)
    )
    assert torch.equal(given, copies[0])
    assert torch.equal(boundary, copies[1])


def test_boundary_aware_negative_ignore_index_with_an_unsigned_target_is_ignored():
    logits, target, boundary = sample_with_boundary_logits()
    target = target.where(target != 255, 0).to(torch.uint8)
    result = BoundaryAwareLoss(0.5, ignore_index=-100)(logits, target, boundary)
    assert torch.equal(result, BoundaryAwareLoss(0.5)(logits, target, boundary))


def test_boundary_aware_half_precision_and_autocast_give_float32():
    logits, target, boundary = sample_with_boundary_logits(torch.bfloat16)
    expected = BoundaryAwareLoss(0.5)(logits.float(), target, boundary.float())
    assert torch.equal(BoundaryAwareLoss(0.5)(logits, target, boundary), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(BoundaryAwareLoss(0.5)(logits, target, boundary), expected)


def test_boundary_aware_compiled_gives_the_same():
    logits, target, boundary = sample_with_boundary_logits()
    compiled = torch.compile(BoundaryAwareLoss(0.5), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target, boundary), BoundaryAwareLoss(0.5)(logits, target, boundary))


def test_boundary_aware_invalid_input_says_what_is_wrong():
    logits, target, boundary = sample_with_boundary_logits()
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got 1.2"):
        BoundaryAwareLoss(1.2)
    with pytest.raises(ValueError, match="ignore_index must be that of criterion, 0, got 255"):
        BoundaryAwareLoss(criterion=CrossEntropyLoss(ignore_index=0))
    with pytest.raises(ValueError, match=r"boundary_logits must be \(N, 1, H, W\)"):
        BoundaryAwareLoss()(logits, target, logits)
    with pytest.raises(ValueError, match="boundary_logits and target must agree"):
        BoundaryAwareLoss()(logits, target, boundary[..., 1:])
    with pytest.raises(ValueError, match="logits .* and target .* must agree"):
        BoundaryAwareLoss()(logits[..., 1:], target, boundary)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("make", "channels"), LOSSES)
def test_cuda_gives_what_the_cpu_does(make, channels):
    logits, target = sample(channels)
    logits.requires_grad_()
    expected = make()(logits, target)
    (slope,) = torch.autograd.grad(expected, logits)
    other = logits.detach().cuda().requires_grad_()
    value = make().cuda()(other, target.cuda())
    (gradient,) = torch.autograd.grad(value, other)
    torch.testing.assert_close(value.cpu(), expected)
    torch.testing.assert_close(gradient.cpu(), slope)
