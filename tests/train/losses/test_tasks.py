"""The losses of the tasks binary and multilabel: each against its formula in float64, and their contract."""

import copy
import math

import pytest
import torch

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_train import (
    BinaryCrossEntropyLoss,
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
from tests.train.losses.loss_samples import value_and_gradient

TASKS = ("binary", "multilabel")
K = 4  # of the multilabel sample; its last class is absent
WEIGHT = {"binary": [2.5], "multilabel": [0.5, 2.0, 0.25, 1.5]}


def sample(task, dtype=torch.float64, scale=2.0):
    """Returns logits and a target (N, H, W) or (N, K, H, W), of which about a third is ignored, per element."""
    generator = torch.Generator().manual_seed(7)
    shape = (2, 1 if task == "binary" else K, 5, 6)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = (torch.rand(shape, generator=generator) < 0.4).long()
    if task == "multilabel":
        target[:, 3] = 0
    target[torch.rand(shape, generator=generator) < 0.3] = 255
    return logits.to(dtype), target[:, 0] if task == "binary" else target


# ---- formulas: logits and truth of each class's valid pixels, [(x (m,), y (m,)), ...] and weights -> mean loss -------


def per_element(term):
    """Returns the formula of a mean over all valid elements."""

    def mean(classes, w):
        total = sum(w[k] * term(x.sigmoid(), y).sum() for k, (x, y) in enumerate(classes))
        return total / sum(w[k] * len(x) for k, (x, _) in enumerate(classes))

    return mean


def per_class(score, absent="skip"):
    """Returns the formula of a mean over the classes."""

    def mean(classes, w):
        counted = [k for k, (_, y) in enumerate(classes) if absent == "count" or y.sum() > 0]
        return sum(w[k] * score(*classes[k]) for k in counted) / sum(w[k] for k in counted)

    return mean


def bce(p, y):
    return -(y * p.log() + (1 - y) * (1 - p).log())


def smoothed_bce(p, y):
    soft = 0.9 * y + 0.1 * (1 - y)
    return -(3 * soft * p.log() + (1 - soft) * (1 - p).log())


def focal(p, y, gamma=2.0, positive=1.0, negative=1.0):
    return -(positive * y * (1 - p) ** gamma * p.log() + negative * (1 - y) * p**gamma * (1 - p).log())


def ohem(threshold, min_kept):
    def mean(classes, w):
        elements = [(w[k], *pair) for k, (x, y) in enumerate(classes) for pair in zip(x.sigmoid(), y, strict=True)]
        elements.sort(key=lambda e: float((e[1] if e[2] else 1 - e[1]).detach()))
        kept = [e for i, e in enumerate(elements) if i < min_kept or (e[1] if e[2] else 1 - e[1]) < threshold]
        return sum(w * bce(p, y) for w, p, y in kept) / len(kept)

    return mean


def tversky(x, y, alpha, beta, smooth=0.0):
    p = x.sigmoid()
    hit, false_alarm, miss = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    return 1 - (hit + smooth) / (hit + alpha * false_alarm + beta * miss + smooth)


def squared_dice(x, y):
    p = x.sigmoid()
    return 1 - 2 * (p * y).sum() / ((p * p).sum() + y.sum())


def generalized_dice(classes, w):
    above, below = 0, 0
    for k, (x, y) in enumerate(classes):
        if y.sum() > 0:
            v = w[k] / y.sum() ** 2
            above, below = above + 2 * v * (x.sigmoid() * y).sum(), below + v * (x.sigmoid() + y).sum()
    return 1 - above / below


def hinge(x, y):
    """The Lovasz hinge, as the increase of the Jaccard loss of the set of wrong pixels."""
    errors = (1 - x * (2 * y - 1)).clamp(min=0)
    order = errors.detach().argsort(descending=True)
    total, before = 0, 0
    for count in range(1, len(x) + 1):
        wrong = torch.zeros(len(x), dtype=torch.bool)
        wrong[order[:count]] = True
        found = torch.where(wrong, 1 - y, y)
        union = (found.bool() | y.bool()).sum().double()
        jaccard = 1 - (found.bool() & y.bool()).sum() / union if union else 0
        total, before = total + errors[order[count - 1]] * (jaccard - before), jaccard
    return total


CASES = {
    "BCE": (BinaryCrossEntropyLoss, {}, per_element(bce)),
    "smoothed, positives": (
        BinaryCrossEntropyLoss,
        {"label_smoothing": 0.2, "pos_weight": 3.0},
        per_element(smoothed_bce),
    ),
    "focal": (FocalLoss, {}, per_element(focal)),
    "focal, alpha": (
        FocalLoss,
        {"gamma": 0.5, "alpha": 0.25},
        per_element(lambda p, y: focal(p, y, 0.5, 0.25, 0.75)),
    ),
    "OHEM by threshold": (OhemCrossEntropyLoss, {"threshold": 0.4, "min_kept": 2}, ohem(0.4, 2)),
    "OHEM by number": (OhemCrossEntropyLoss, {"threshold": 0.0, "min_kept": 9}, ohem(0.0, 9)),
    "Dice": (DiceLoss, {}, per_class(lambda x, y: tversky(x, y, 0.5, 0.5))),
    "Dice, all classes": (
        DiceLoss,
        {"absent": "count", "smooth": 2.0},
        per_class(lambda x, y: tversky(x, y, 0.5, 0.5, 1.0), "count"),
    ),
    "squared Dice": (DiceLoss, {"squared": True}, per_class(squared_dice)),
    "generalized Dice": (DiceLoss, {"generalized": True}, generalized_dice),
    "Jaccard": (JaccardLoss, {"smooth": 1.0}, per_class(lambda x, y: tversky(x, y, 1.0, 1.0, 1.0))),
    "Tversky": (TverskyLoss, {}, per_class(lambda x, y: tversky(x, y, 0.3, 0.7))),
    "focal Tversky": (FocalTverskyLoss, {}, per_class(lambda x, y: tversky(x, y, 0.3, 0.7) ** 0.75)),
    "Lovasz": (LovaszLoss, {}, per_class(hinge, "count")),
    "Lovasz, present": (LovaszLoss, {"classes": "present"}, per_class(hinge)),
    "combined": (
        CombinedLoss,
        {"losses": [{"name": "BinaryCrossEntropyLoss", "factor": 0.5}, {"name": "DiceLoss", "factor": 2}]},
        lambda classes, w: (
            0.5 * per_element(bce)(classes, w) + 2 * per_class(lambda x, y: tversky(x, y, 0.5, 0.5))(classes, w)
        ),
    ),
}
PIXEL_LOSSES = [n for n, (factory, _, _) in CASES.items() if "CrossEntropy" in factory.__name__ or factory is FocalLoss]
SCALAR_LOSSES = ("generalized Dice", "combined")  # without reduction "none"

every = pytest.mark.parametrize("name", CASES)
both = pytest.mark.parametrize("task", TASKS)


def make(name, task, **options):
    factory, own, _ = CASES[name]
    return factory(**own, **options, task=task)


@pytest.mark.smoke
@both
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@every
def test_value_and_gradient_equal_the_formula(name, weighted, task):
    logits, target = sample(task)
    logits.requires_grad_()
    weight = WEIGHT[task] if weighted else [1.0] * logits.shape[1]
    planes = target[:, None] if task == "binary" else target
    classes = [
        (logits[:, k][planes[:, k] != 255], planes[:, k][planes[:, k] != 255].double()) for k in range(len(weight))
    ]
    expected = CASES[name][2](classes, weight)
    (slope,) = torch.autograd.grad(expected, logits)
    loss = make(name, task, **({"weight": torch.tensor(weight, dtype=torch.float64)} if weighted else {}))
    value, gradient = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-11)


@both
@every
def test_gradient_passes_gradcheck(name, task):
    logits, target = sample(task)
    logits, target = logits[..., :3, :3].clone().requires_grad_(), target[..., :3, :3]
    assert torch.autograd.gradcheck(lambda x: make(name, task)(x, target), logits)


@both
@every
def test_ignored_elements_change_neither_value_nor_gradient(name, task):
    logits, target = sample(task)
    value, gradient = value_and_gradient(make(name, task), logits, target)
    ignored = (target == 255).view(logits.shape)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()
    for number in (math.nan, math.inf, -math.inf, 1e6):
        found, slope = value_and_gradient(make(name, task), logits.masked_fill(ignored, number), target)
        assert torch.equal(found, value)
        assert torch.equal(slope, gradient)


@both
@every
def test_nan_at_a_valid_element_shows(name, task):
    logits, target = sample(task)
    place = tuple((target == 1).view(logits.shape).nonzero()[2])
    logits[place] = math.nan
    assert make(name, task)(logits, target).isnan()


@both
@every
def test_extreme_logits_have_finite_losses_and_gradients(name, task):
    logits, target = sample(task, torch.float32)
    for scale in (1e3, 1e6):
        value, gradient = value_and_gradient(make(name, task), logits * scale, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


@both
@every
def test_nothing_valid_gives_0_with_a_graph(name, task):
    logits, target = sample(task)
    value, gradient = value_and_gradient(
        make(name, task, weight=WEIGHT[task]), logits.fill_(math.nan), torch.full_like(target, 255)
    )
    assert float(value) == 0
    assert not gradient.any()


@every
def test_batch_without_pixels_gives_0_with_a_graph(name):
    for shape in [(0, 1, 8, 8), (2, 1, 0, 8), (0, 1), (0, 1, 8), (0, 1, 2, 3, 4)]:
        for task, channels in (("binary", 1), ("multilabel", 3)):
            logits = torch.zeros(shape[0], channels, *shape[2:], dtype=torch.bfloat16, requires_grad=True)
            target = torch.zeros(shape[:1] + (shape[2:] if task == "binary" else logits.shape[1:]), dtype=torch.uint8)
            value = make(name, task)(logits, target)
            value.backward()
            assert (float(value.detach()), value.dtype, logits.grad.shape) == (0, torch.float32, logits.shape)


@both
@every
def test_half_precision_is_computed_in_float32(name, task):
    for dtype in [torch.bfloat16, torch.float16]:
        logits, target = sample(task, dtype)
        expected, slope = value_and_gradient(make(name, task), logits.float(), target)
        value, gradient = value_and_gradient(make(name, task), logits, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient.float(), slope.to(dtype).float(), rtol=1e-2, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            within, _ = value_and_gradient(make(name, task), logits.float(), target)
        torch.testing.assert_close(within, expected, rtol=1e-5, atol=1e-6)


@both
@every
def test_arguments_are_not_modified_and_layout_does_not_matter(name, task):
    logits, target = sample(task)
    before = logits.clone(), target.clone()
    value, gradient = value_and_gradient(make(name, task), logits, target)
    make(name, task)(logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])
    for other in (logits.contiguous(memory_format=torch.channels_last), torch.stack([logits, logits], -1)[..., 0]):
        found, slope = value_and_gradient(make(name, task), other, target)
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(slope, gradient)


@both
@every
def test_targets_of_any_integer_type_and_any_ignored_value(name, task):
    for dtype in [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32]:
        logits, target = sample(task)
        ignored = 100 if dtype == torch.int8 else 255
        value = make(name, task)(logits, target)
        other = target.masked_fill(target == 255, ignored).to(dtype)
        assert torch.equal(make(name, task, ignore_index=ignored)(logits, other), value)
        # a value outside the type's range is found nowhere
        without = target.masked_fill(target == 255, 0)
        found = make(name, task, ignore_index=-70_000)(logits, without.to(dtype))
        assert torch.equal(found, make(name, task)(logits, without))


@every
def test_ignored_value_may_be_an_answer(name):
    """With ignore_index=0 only the object is seen: it is what remains if all of the background is ignored."""
    logits, target = sample("binary")
    only = target.masked_fill(target == 0, 255)
    expected = make(name, "binary")(logits, only)
    assert torch.equal(make(name, "binary", ignore_index=0)(logits, only.masked_fill(only == 255, 0)), expected)


@every
def test_binary_target_may_have_an_axis_of_classes(name):
    logits, target = sample("binary")
    value, gradient = value_and_gradient(make(name, "binary"), logits, target)
    for other in (make(name, "binary"), make(name, "multilabel")):
        found, slope = value_and_gradient(other, logits, target[:, None])
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(slope, gradient)


@both
@every
def test_number_of_pixel_axes_does_not_matter(name, task):
    logits, target = sample(task)
    value = make(name, task)(logits, target)
    lines = make(name, task)(logits.flatten(2), target.flatten(-2))
    points = logits.movedim(1, -1).flatten(0, 2), (target if task == "binary" else target.movedim(1, -1)).flatten(0, 2)
    torch.testing.assert_close(lines, value)
    torch.testing.assert_close(make(name, task)(*points), value)


@both
@pytest.mark.parametrize("name", [n for n in CASES if n not in SCALAR_LOSSES])
def test_reduction_sum_is_the_sum_of_reduction_none(name, task):
    logits, target = sample(task)
    options = {"weight": WEIGHT[task]}
    losses = make(name, task, **options, reduction="none")(logits, target)
    if name in PIXEL_LOSSES:
        assert losses.shape == target.shape
        assert not losses[target == 255].any()
    else:
        assert losses.shape == logits.shape[1:2]
    torch.testing.assert_close(make(name, task, **options, reduction="sum")(logits, target), losses.sum())


@pytest.mark.parametrize(("name", "task"), [(name, TASKS[i % 2]) for i, name in enumerate(CASES)])
def test_compiled_loss_gives_the_same_and_nan_for_a_value_out_of_range(name, task):
    logits, target = sample(task, torch.float32)
    value, gradient = value_and_gradient(make(name, task), logits, target)
    torch._dynamo.reset()
    compiled = torch.compile(make(name, task), backend="aot_eager", fullgraph=True)
    found, slope = value_and_gradient(compiled, logits, target)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(slope, gradient)
    target[0, 0, 0] = 2
    assert compiled(logits, target).isnan()


@both
@every
def test_target_out_of_range_is_an_error(name, task):
    logits, target = sample(task)
    target[0, 0, :2] = 7
    with pytest.raises(LabelOutOfRangeError, match=r"contains 7.*allowed are 0 \(not there\), 1 \(there\)"):
        make(name, task)(logits, target)


@every
def test_shapes_and_types_that_do_not_match_are_errors(name):
    planes = torch.zeros(2, 3, 4, 4)
    mask = torch.zeros(2, 4, 4, dtype=torch.uint8)
    with pytest.raises(InvalidArgumentError, match=r'must be \(N, 1, ...\) with task="binary", got \(2, 3, 4, 4\)'):
        make(name, "binary")(planes, mask)
    with pytest.raises(InvalidArgumentError, match=r"must agree .*resize the logits"):
        make(name, "binary")(planes[:, :1], mask[:, 1:])
    with pytest.raises(InvalidArgumentError, match=r"one plane of 0 and 1 per class"):
        make(name, "multilabel")(planes, mask)
    with pytest.raises(InvalidArgumentError, match=r"must agree .*resize the logits"):
        make(name, "multilabel")(planes, planes[..., 1:].long())
    with pytest.raises(InvalidArgumentError, match="integer type, got torch.bool"):
        make(name, "binary")(planes[:, :1], mask.bool())
    with pytest.raises(InvalidArgumentError, match="weight has 2 entries but the logits have 3 channels"):
        make(name, "multilabel", weight=[1.0, 2.0])(planes, planes.long())
    with pytest.raises(TypeError, match="got dict; pass outputs"):
        make(name, "binary")({"out": planes}, mask)
    assert make(name, "multilabel", weight=[1.0, 2.0, 3.0])(planes, planes.long()).isfinite()


@every
def test_loss_can_be_copied_and_shows_its_task(name):
    assert "task='binary'" in repr(make(name, "binary"))
    logits, target = sample("multilabel")
    loss = make(name, "multilabel", weight=WEIGHT["multilabel"])
    assert not loss.state_dict()
    assert torch.equal(copy.deepcopy(loss)(logits, target), loss(logits, target))


# ---- one logit is the softmax over two classes with the logits 0 and x -----------------------------------------------


@pytest.mark.parametrize(
    ("binary", "multiclass"),
    [
        (BinaryCrossEntropyLoss(label_smoothing=0.3), CrossEntropyLoss(label_smoothing=0.3)),
        (BinaryCrossEntropyLoss(reduction="none", pos_weight=4), CrossEntropyLoss([1.0, 4.0], reduction="none")),
        (FocalLoss(gamma=1.5, task="binary"), FocalLoss(gamma=1.5)),
        (FocalLoss(alpha=0.2, reduction="sum", task="binary"), FocalLoss([0.8, 0.2], reduction="sum")),
        (OhemCrossEntropyLoss(min_kept=0.3, task="binary"), OhemCrossEntropyLoss(min_kept=0.3)),
        (DiceLoss(reduction="none", task="binary"), lambda x, y: DiceLoss(reduction="none")(x, y)[1:]),
        (JaccardLoss(reduction="sum", task="binary"), JaccardLoss([0.0, 1.0], reduction="sum")),
    ],
    ids=["BCE, smoothed", "BCE, positives", "focal", "focal, alpha", "OHEM", "Dice", "Jaccard"],
)
def test_binary_is_the_softmax_of_two_classes(binary, multiclass):
    logits, target = sample("binary")
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(binary(logits, target), multiclass(pair, target), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", PIXEL_LOSSES[:4])
def test_a_factor_of_each_class(name):
    logits, target = sample("multilabel")
    value = make(name, "multilabel", weight=[0.0, 1.0, 0.0, 0.0])(logits, target)
    torch.testing.assert_close(value, make(name, "binary")(logits[:, 1:2], target[:, 1]))


def test_positives_have_a_factor_per_class():
    logits, target = sample("multilabel")
    each = BinaryCrossEntropyLoss(pos_weight=[1.0, 2.0, 3.0, 4.0], reduction="none", task="multilabel")(logits, target)
    for k in range(K):
        plane = BinaryCrossEntropyLoss(pos_weight=k + 1, reduction="none")(logits[:, k : k + 1], target[:, k])
        torch.testing.assert_close(each[:, k], plane)
    with pytest.raises(InvalidArgumentError, match="pos_weight has 2 entries but the logits have 4 channels"):
        BinaryCrossEntropyLoss(pos_weight=[1.0, 2.0], task="multilabel")(logits, target)


def test_small_losses_are_exact_in_float32():
    """Also those of logits whose exp(-|x|) is lost beside 1, and beside large losses of wrong answers."""
    logits = torch.tensor([-30.0, -20.0, -12.0, -5.0, 5.0, 12.0, 20.0, 60.0, -60.0]).repeat(9).view(1, 1, 9, 9)
    target = (logits[:, 0] > 0).long()
    expected = value_and_gradient(BinaryCrossEntropyLoss(), logits.double(), target)
    value, gradient = value_and_gradient(BinaryCrossEntropyLoss(), logits, target)
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-6, atol=0)
    for x in (-30.0, -60.0, 30.0):
        one = BinaryCrossEntropyLoss()(torch.full((1, 1, 3, 3), x), torch.full((1, 3, 3), int(x > 0)))
        assert float(one) == pytest.approx(math.exp(-abs(x)), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "pos_weight": 3.0}])
def test_gradient_of_the_gradient(options):
    logits, target = sample("binary")
    logits = logits[..., :3, :3].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: BinaryCrossEntropyLoss(**options)(x, target[..., :3, :3]), logits)


def test_lovasz_per_image_is_the_mean_over_images_of_which_a_class_counts():
    logits, target = sample("binary")
    for classes in ("all", "present"):
        loss = LovaszLoss(task="binary", classes=classes, per_image=True)
        each = [LovaszLoss(task="binary", classes=classes)(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(loss(logits, target), sum(each) / 2)
        nothing = target.clone()
        nothing[1] = 255
        torch.testing.assert_close(loss(logits, nothing), each[0])
    assert LovaszLoss(task="binary", per_image=True, reduction="none")(logits, target).shape == (2, 1)


def test_images_without_an_object():
    """Dice and Jaccard loss leave them out unless told otherwise; the Lovasz hinge and BCE learn from them."""
    logits, target = torch.full((2, 1, 3, 3), 2.0), torch.zeros(2, 3, 3, dtype=torch.uint8)
    assert DiceLoss(task="binary")(logits, target) == JaccardLoss(task="binary")(logits, target) == 0
    total = 18 * logits[0, 0, 0, 0].sigmoid()
    torch.testing.assert_close(DiceLoss(task="binary", absent="count", smooth=1.0)(logits, target), total / (total + 1))
    assert LovaszLoss(task="binary")(logits, target) == 3
    assert LovaszLoss(task="binary", classes="present")(logits, target) == 0


# ---- other devices ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
@every
def test_cuda_gives_what_the_cpu_does(name, task):
    logits, target = sample(task, torch.float32)
    loss = make(name, task, weight=WEIGHT[task])
    expected, slope = value_and_gradient(loss, logits, target)
    value, gradient = value_and_gradient(loss.cuda(), logits.cuda(), target.cuda())
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient.cpu(), slope, rtol=1e-4, atol=1e-6)
    target[0, 0, 0] = 7
    try:
        assert loss(logits.cuda(), target.cuda()).isnan()
    except LabelOutOfRangeError:
        assert name not in PIXEL_LOSSES
