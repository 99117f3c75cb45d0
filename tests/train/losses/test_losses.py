"""The contract of every loss of class logits, and each loss against its paper's formula in float64."""

import math

import pytest
import torch

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_train import (
    CombinedLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    JaccardLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    TverskyLoss,
)
from seg_train.losses.cpu import strips
from tests.train.losses.loss_samples import sample, value_and_gradient

K = 4
WEIGHT = torch.tensor([0.5, 2.0, 0.25, 1.5, 3.0], dtype=torch.float64)


# ---- formulas of the papers: probabilities (M, K) and labels (M,) of the valid pixels -> mean loss -------------------


def nll(p, y):
    return -p[torch.arange(len(y)), y].log()


def cross_entropy(p, y, w):
    return (w[y] * nll(p, y)).sum() / w[y].sum()


def smoothed_cross_entropy(p, y, w):
    spread = -(w * p.log()).mean(1)  # over the classes, as torch spreads the target
    return (0.8 * w[y] * nll(p, y) + 0.2 * spread).sum() / w[y].sum()


def focal(p, y, w, gamma=2.0):
    true = p[torch.arange(len(y)), y]
    return (w[y] * -((1 - true) ** gamma) * true.log()).sum() / w[y].sum()


def ohem(p, y, w, threshold, min_kept):
    true = p[torch.arange(len(y)), y]
    order = true.argsort()
    kept = [i for rank, i in enumerate(order.tolist()) if rank < min_kept or true[i] < threshold]
    return (w[y] * nll(p, y))[kept].sum() / len(kept)


def mean_of_classes(losses, y, w):
    present = [k for k in range(len(losses)) if (y == k).any()]
    return sum(w[k] * losses[k] for k in present) / sum(w[k] for k in present)


def dice(p, y, w):
    g = torch.nn.functional.one_hot(y, p.shape[1]).double()
    return mean_of_classes(1 - 2 * (p * g).sum(0) / (p + g).sum(0), y, w)


def generalized_dice(p, y, w):
    g = torch.nn.functional.one_hot(y, p.shape[1]).double()
    v = torch.stack([w[k] / g[:, k].sum() ** 2 if g[:, k].any() else 0 * w[k] for k in range(p.shape[1])])
    return 1 - 2 * (v * (p * g).sum(0)).sum() / (v * (p + g).sum(0)).sum()


def jaccard(p, y, w):
    g = torch.nn.functional.one_hot(y, p.shape[1]).double()
    return mean_of_classes(1 - (p * g).sum(0) / (p + g - p * g).sum(0), y, w)


def tversky_of(p, y, alpha, beta):
    g = torch.nn.functional.one_hot(y, p.shape[1]).double()
    hit, false_alarm, miss = (p * g).sum(0), (p * (1 - g)).sum(0), ((1 - p) * g).sum(0)
    return 1 - hit / (hit + alpha * false_alarm + beta * miss)


def tversky(p, y, w):
    return mean_of_classes(tversky_of(p, y, 0.3, 0.7), y, w)


def focal_tversky(p, y, w):
    return mean_of_classes(tversky_of(p, y, 0.3, 0.7) ** 0.75, y, w)


def lovasz(p, y, w):
    losses = []
    for k in range(p.shape[1]):
        g = (y == k).double()
        errors, order = (g - p[:, k]).abs().sort(descending=True)
        target = g[order]
        overlap, union = g.sum() - target.cumsum(0), g.sum() + (1 - target).cumsum(0)
        curve = 1 - overlap / union
        losses.append((errors * torch.cat([curve[:1], curve[1:] - curve[:-1]])).sum())
    return mean_of_classes(losses, y, w)


CASES = {
    "cross entropy": (CrossEntropyLoss, {}, cross_entropy),
    "smoothed cross entropy": (CrossEntropyLoss, {"label_smoothing": 0.2}, smoothed_cross_entropy),
    "focal": (FocalLoss, {}, focal),
    "focal, gamma 0.5": (FocalLoss, {"gamma": 0.5}, lambda p, y, w: focal(p, y, w, 0.5)),
    "OHEM by threshold": (
        OhemCrossEntropyLoss,
        {"threshold": 0.3, "min_kept": 2},
        lambda p, y, w: ohem(p, y, w, 0.3, 2),
    ),
    "OHEM by number": (
        OhemCrossEntropyLoss,
        {"threshold": 0.0, "min_kept": 9},
        lambda p, y, w: ohem(p, y, w, 0.0, 9),
    ),
    "Dice": (DiceLoss, {}, dice),
    "generalized Dice": (DiceLoss, {"generalized": True}, generalized_dice),
    "Jaccard": (JaccardLoss, {}, jaccard),
    "Tversky": (TverskyLoss, {}, tversky),
    "focal Tversky": (FocalTverskyLoss, {}, focal_tversky),
    "Lovasz": (LovaszLoss, {}, lovasz),
    "combined": (
        CombinedLoss,
        {"losses": [{"name": "CrossEntropyLoss", "factor": 0.5}, {"name": "DiceLoss", "factor": 2}]},
        lambda p, y, w: 0.5 * cross_entropy(p, y, w) + 2 * dice(p, y, w),
    ),
}
PIXEL_LOSSES = (
    "cross entropy",
    "smoothed cross entropy",
    "focal",
    "focal, gamma 0.5",
    "OHEM by threshold",
    "OHEM by number",
)
SCALAR_LOSSES = ("generalized Dice", "combined")  # without reduction "none"


def make(name, **options):
    factory, own, _ = CASES[name]
    return factory(**own, **options)


@pytest.mark.smoke
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_the_formula(name, weighted, backend):
    logits, target = sample()
    logits.requires_grad_()
    valid = target != 255
    p, y = logits.movedim(1, -1)[valid].softmax(-1), target[valid]
    expected = CASES[name][2](p, y, WEIGHT if weighted else torch.ones_like(WEIGHT))
    (slope,) = torch.autograd.grad(expected, logits)
    value, gradient = value_and_gradient(make(name, **({"weight": WEIGHT} if weighted else {})), logits, target)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-11)


def test_class_weights_change_the_loss():
    logits, target = sample()
    for name in CASES:
        plain, weighted = make(name)(logits, target), make(name, weight=WEIGHT)(logits, target)
        assert abs(float(plain - weighted)) > 1e-3, name


@pytest.mark.parametrize("name", CASES)
def test_gradient_passes_gradcheck(name, backend):
    logits, target = sample()
    logits, target = logits[:, :, :3, :4].clone().requires_grad_(), target[:, :3, :4]
    loss = make(name, weight=WEIGHT)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("name", CASES)
def test_ignored_pixels_change_neither_value_nor_gradient(name, backend):
    for logit in [0.0, 50.0, math.inf, math.nan]:
        logits, target = sample()
        ignored = (target == 255)[:, None].expand_as(logits)
        value, gradient = value_and_gradient(make(name), logits, target)
        other = logits.clone()
        other[:, 1:3] = other[:, 1:3].where(~ignored[:, 1:3], logit)
        other_value, other_gradient = value_and_gradient(make(name), other, target)
        torch.testing.assert_close(other_value, value, rtol=0, atol=0)
        torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=0)
        assert not gradient[ignored].any()


@pytest.mark.parametrize("name", CASES)
def test_nan_or_infinite_logit_shows_in_the_value(name, backend):
    for logit in [math.nan, math.inf]:
        logits, target = sample()
        place = (target != 255).nonzero()[3]
        logits[place[0], 2, place[1], place[2]] = logit
        assert make(name)(logits, target).isnan()


@pytest.mark.parametrize("name", CASES)
def test_number_of_pixel_axes_does_not_matter(name, backend):
    for shape in [(2, 30), (2, 5, 3, 2)]:
        logits, target = sample()
        reshaped = logits.reshape(shape[0], K + 1, *shape[1:]), target.reshape(shape)
        value, gradient = value_and_gradient(make(name), *reshaped)
        expected, slope = value_and_gradient(make(name), logits, target)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope.reshape(reshaped[0].shape))


@pytest.mark.parametrize("name", CASES)
def test_points_without_pixel_axes_give_the_same(name, backend):
    logits, target = sample()
    points, ids = logits.movedim(1, -1).reshape(-1, K + 1), target.reshape(-1)
    value, gradient = value_and_gradient(make(name), points, ids)
    expected, slope = value_and_gradient(make(name), logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, slope.movedim(1, -1).reshape(-1, K + 1))


@pytest.mark.parametrize("name", CASES)
def test_no_valid_pixel_gives_0_with_a_graph(name, backend):
    logits, target = sample()
    value, gradient = value_and_gradient(make(name, weight=WEIGHT), logits, torch.full_like(target, 255))
    assert float(value) == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_computed_in_float32(name, backend):
    for dtype in [torch.bfloat16, torch.float16]:
        logits, target = sample(dtype)
        expected, slope = value_and_gradient(make(name), logits.float(), target)
        value, gradient = value_and_gradient(make(name), logits, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient.float(), slope.to(dtype).float(), rtol=1e-2, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            within, _ = value_and_gradient(make(name), logits.float(), target)
        torch.testing.assert_close(within, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_arguments_are_not_modified(name, backend):
    logits, target = sample()
    weight = WEIGHT.clone()
    before = logits.clone(), target.clone()
    loss = make(name, weight=weight)
    expected = loss(logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])
    weight.fill_(7)  # later changes of the argument have no effect
    assert torch.equal(loss(logits, target), expected)


@pytest.mark.parametrize("name", CASES)
def test_targets_of_any_integer_type_give_the_same(name, backend):
    for dtype in [torch.uint8, torch.int16, torch.int32]:
        logits, target = sample()
        value, gradient = value_and_gradient(make(name), logits, target)
        other, slope = value_and_gradient(make(name), logits, target.to(dtype))
        assert torch.equal(other, value)
        assert torch.equal(slope, gradient)


@pytest.mark.parametrize("name", [n for n in CASES if n not in SCALAR_LOSSES])
def test_reduction_sum_is_the_sum_of_reduction_none(name, backend):
    logits, target = sample()
    losses = make(name, weight=WEIGHT, reduction="none")(logits, target)
    assert losses.shape == (target.shape if name in PIXEL_LOSSES else (K + 1,))
    if name in PIXEL_LOSSES:
        assert not losses[target == 255].any()
    torch.testing.assert_close(make(name, weight=WEIGHT, reduction="sum")(logits, target), losses.sum())


@pytest.mark.parametrize("name", CASES)
def test_memory_layout_does_not_matter(name, backend):
    logits, target = sample()
    value, gradient = value_and_gradient(make(name), logits, target)
    last = logits.contiguous(memory_format=torch.channels_last)
    strided = torch.stack([logits, logits], -1)[..., 0]
    for other in (last, strided):
        found, slope = value_and_gradient(make(name), other, target)
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(slope, gradient)


@pytest.mark.parametrize("name", CASES)
def test_target_out_of_range_is_an_error(name, backend):
    logits, target = sample()
    target[0, 0, 0] = 9
    with pytest.raises(LabelOutOfRangeError, match=r"9.*allowed are the class ids 0 to 4"):
        make(name)(logits, target)


@pytest.mark.parametrize("name", CASES)
def test_shapes_and_types_that_do_not_match_are_errors(name, backend):
    logits, target = sample()
    with pytest.raises(InvalidArgumentError, match="must agree"):
        make(name)(logits, target[:, 1:])
    with pytest.raises(InvalidArgumentError, match="integer type"):
        make(name)(logits, target.float())
    with pytest.raises(InvalidArgumentError, match="weight has 2 entries but the logits have 5 classes"):
        make(name, weight=[1.0, 2.0])(logits, target)


@pytest.mark.parametrize("name", CASES)
def test_compiled_loss_gives_the_same(name):
    logits, target = sample(torch.float32)
    value, gradient = value_and_gradient(make(name), logits, target)
    torch._dynamo.reset()
    compiled = torch.compile(make(name), backend="aot_eager", fullgraph=True)
    found, slope = value_and_gradient(compiled, logits, target)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(slope, gradient)
    if name not in (*PIXEL_LOSSES, "combined"):  # compiled code cannot raise: region losses return NaN
        target[0, 0, 0] = K + 1
        assert compiled(logits.requires_grad_(), target).isnan()


@pytest.mark.parametrize("name", CASES)
def test_second_backward_adds_the_same_gradient(name, backend):
    logits, target = sample()
    logits.requires_grad_()
    loss = make(name)(logits, target)
    loss.backward(retain_graph=True)
    once = logits.grad.clone()
    loss.backward()
    assert torch.equal(logits.grad, 2 * once)


@pytest.mark.parametrize("name", CASES)
def test_number_of_threads_changes_nothing(name, backend):
    logits, target = sample()
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(value_and_gradient(make(name), logits, target))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_logits_modified_before_backward_are_an_error(name, monkeypatch):
    monkeypatch.setattr(strips, "_MIN_LOGITS", 0)
    logits, target = sample()
    seen = logits.requires_grad_() * 1
    loss = make(name)(seen, target)
    with torch.no_grad():
        seen.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", CASES)
def test_any_ignore_index_is_ignored(name, backend):
    logits, target = sample()
    with_negative = torch.where(target == 255, -100, target)
    assert torch.equal(make(name, ignore_index=-100)(logits, with_negative), make(name)(logits, target))
    without_class_2 = torch.where(target == 2, 255, target)
    with_class_2 = torch.where(target == 255, 2, target)
    assert torch.equal(make(name, ignore_index=2)(logits, with_class_2), make(name)(logits, without_class_2))


@pytest.mark.parametrize("name", [n for n in CASES if n != "smoothed cross entropy"])  # which spreads the target
def test_target_of_a_class_with_weight_zero_gives_zero(name, backend):
    logits, target = sample()
    loss = make(name, weight=[0.0, 1.0, 1.0, 1.0, 1.0])
    value, gradient = value_and_gradient(loss, logits, torch.zeros_like(target))
    assert float(value) == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", CASES)
def test_weights_are_not_in_the_state_dict_but_move_with_the_module(name):
    loss = make(name, weight=WEIGHT)
    assert not loss.state_dict()
    assert not list(loss.parameters())
    moved = loss.to("meta")
    assert all(buffer.is_meta for buffer in moved.buffers())
    assert list(moved.buffers())


def test_focal_of_gamma_0_is_cross_entropy():
    logits, target = sample()
    for reduction in ("mean", "sum", "none"):
        expected = CrossEntropyLoss(WEIGHT, reduction=reduction)(logits, target)
        torch.testing.assert_close(FocalLoss(WEIGHT, gamma=0.0, reduction=reduction)(logits, target), expected)


def test_tversky_with_halves_is_dice_and_with_ones_jaccard():
    logits, target = sample()
    torch.testing.assert_close(TverskyLoss(alpha=0.5, beta=0.5)(logits, target), DiceLoss()(logits, target))
    torch.testing.assert_close(TverskyLoss(alpha=1, beta=1)(logits, target), JaccardLoss()(logits, target))


def test_focal_tversky_with_gamma_1_is_tversky():
    logits, target = sample()
    torch.testing.assert_close(FocalTverskyLoss(gamma=1)(logits, target), TverskyLoss()(logits, target))


def test_lovasz_per_image_is_the_mean_over_images_with_valid_pixels(backend):
    logits, target = sample()
    each = [LovaszLoss()(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(LovaszLoss(per_image=True)(logits, target), sum(each) / 2)
    target[1] = 255
    torch.testing.assert_close(LovaszLoss(per_image=True)(logits, target), each[0])
    assert LovaszLoss(per_image=True, reduction="none")(logits, target).shape == (2, 5)


def test_lovasz_of_all_classes_counts_an_absent_one_by_its_largest_probability(backend):
    logits, target = sample()
    valid = target != 255
    highest = logits.softmax(1)[:, 4][valid].max()
    losses = LovaszLoss(classes="all", reduction="none")(logits, target)
    torch.testing.assert_close(losses[4], highest)
    torch.testing.assert_close(LovaszLoss(classes="all")(logits, target), losses.mean())


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou(backend):
    _, target = sample()
    guess = torch.randint(0, K, target.shape, generator=torch.Generator().manual_seed(5))
    logits = 200.0 * torch.nn.functional.one_hot(guess, K).movedim(-1, 1).double()
    valid = target != 255
    ious = [
        ((guess == k) & (target == k) & valid).sum() / (((guess == k) | (target == k)) & valid).sum() for k in range(K)
    ]
    torch.testing.assert_close(LovaszLoss()(logits, target), (1 - sum(ious) / K).double())


def test_ohem_takes_a_fraction_of_the_valid_pixels(backend):
    logits, target = sample()
    kept = OhemCrossEntropyLoss(threshold=0.0, min_kept=0.25, reduction="none")(logits, target)
    assert int((kept > 0).sum()) == math.ceil(0.25 * int((target != 255).sum()))
    every = OhemCrossEntropyLoss(threshold=1.0, min_kept=0)(logits, target)
    torch.testing.assert_close(every, CrossEntropyLoss()(logits, target))


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (FocalLoss, {"gamma": -1}, "gamma must be a finite number of at least 0, got -1"),
        (OhemCrossEntropyLoss, {"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        (OhemCrossEntropyLoss, {"min_kept": 1.5}, "min_kept must be a number of pixels"),
        (LovaszLoss, {"classes": "some"}, "classes must be one of present, all, got 'some'"),
        (TverskyLoss, {"alpha": -0.1}, "alpha must be a finite number of at least 0, got -0.1"),
        (TverskyLoss, {"alpha": 0, "beta": 0}, "must not both be 0"),
        (FocalTverskyLoss, {"gamma": 0.75}, "gamma must be between 1 and 3, got 0.75"),
        (DiceLoss, {"generalized": True, "reduction": "none"}, "reduction must be mean or sum"),
        (JaccardLoss, {"smooth": -1}, "smooth must be"),
        (DiceLoss, {"absent": "drop"}, "absent must be"),
    ],
)
def test_arguments_out_of_range_are_errors(factory, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        factory(**options)


@pytest.mark.parametrize("name", CASES)
def test_weight_that_is_not_one_finite_number_per_class_is_an_error(name):
    for weight in ([1.0, -1.0], [1.0, math.inf], [[1.0]]):
        with pytest.raises(InvalidArgumentError) as caught:
            make(name, weight=weight)
        assert f"weight must hold one finite number of at least 0 per class, got {weight}" in str(caught.value)


@pytest.mark.parametrize("name", [n for n in CASES if n != "combined"])
def test_unknown_reduction_lists_those_allowed(name):
    with pytest.raises(InvalidArgumentError, match="reduction must be one of mean, sum, none, got 'avg'"):
        make(name, reduction="avg")


# ---- other devices ---------------------------------------------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_cuda_gives_what_the_cpu_does(name, dtype):
    logits, target = sample(dtype)
    expected, slope = value_and_gradient(make(name, weight=WEIGHT), logits, target)
    loss = make(name, weight=WEIGHT).cuda()
    value, gradient = value_and_gradient(loss, logits.cuda(), target.cuda())
    assert value.dtype == expected.dtype
    exact = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(value.cpu(), expected, **exact)
    tolerance = {"rtol": 2e-2, "atol": 1e-5} if dtype == torch.bfloat16 else exact
    torch.testing.assert_close(gradient.cpu(), slope, **tolerance)


@cuda
@pytest.mark.parametrize("name", CASES)
def test_cuda_with_no_valid_pixel_gives_0_with_a_graph(name):
    logits, target = sample(torch.float32)
    value, gradient = value_and_gradient(make(name), logits.cuda(), torch.full_like(target, 255).cuda())
    assert float(value) == 0
    assert not gradient.any()


@cuda
@pytest.mark.parametrize("name", CASES)
def test_cuda_compiled_gives_the_same(name):
    logits, target = (tensor.cuda() for tensor in sample(torch.float32))
    value, gradient = value_and_gradient(make(name), logits, target)
    torch._dynamo.reset()
    found, slope = value_and_gradient(torch.compile(make(name)), logits, target)
    torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(slope, gradient, rtol=1e-4, atol=1e-6)
