"""Tasks of losses that stand together: sums, outputs of a network, micro-batches, boundaries; and wrong arguments."""

import itertools

import pytest
import torch
from torch import nn

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_core.registry import LOSSES
from seg_train import (
    BinaryCrossEntropyLoss,
    BoundaryAwareLoss,
    BoundaryLoss,
    CombinedLoss,
    CrossEntropyLoss,
    DeepSupervision,
    DetailLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
)
from seg_train.losses.micro_batches import denominators, micro_batch_loss, share_of
from tests.train.losses.loss_samples import value_and_gradient


def batch(task, num_classes=3):
    """Returns four samples that differ much in their number of valid elements; one of them has none."""
    generator = torch.Generator().manual_seed(11)
    shape = (4, 1 if task == "binary" else num_classes, 12, 10)
    logits = torch.randn(shape, dtype=torch.float64, generator=generator)
    target = (torch.rand(shape, generator=generator) < 0.4).to(torch.uint8)
    for sample, rows in enumerate((0, 3, 12, 7)):
        target[sample, :, :rows] = 255
    target[3, -1] = 255  # one class only
    return logits, target[:, 0] if task == "binary" else target


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(LOSSES.names()) - {"CombinedLoss"}))
def test_every_loss_knows_the_tasks_or_names_the_loss_that_does(name):
    factory = LOSSES.get(name)
    with pytest.raises(
        InvalidArgumentError, match="task must be one of 'multiclass', 'binary', 'multilabel', got 'bin'"
    ):
        factory(task="bin")
    known = []
    for task in ("multiclass", "binary", "multilabel"):
        try:
            known.append(factory(task=task).task)
        except InvalidArgumentError as error:
            other = "BinaryCrossEntropyLoss" if name == "CrossEntropyLoss" else "CrossEntropyLoss"
            assert f"got {task!r}; use {other}(task={task!r})" in str(error)
            assert LOSSES.get(other)(task=task).task == task
    assert known == {"CrossEntropyLoss": ["multiclass"], "BinaryCrossEntropyLoss": ["binary", "multilabel"]}.get(
        name, ["multiclass", "binary", "multilabel"]
    )


@pytest.mark.parametrize(
    "number", [0, -1.0, float("inf"), float("nan"), True, "2", [1.0, 0.0], [-1.0], [[1.0]], torch.tensor(0.0)]
)
def test_factor_of_positives_is_above_0(number):
    with pytest.raises(InvalidArgumentError, match="pos_weight must"):
        BinaryCrossEntropyLoss(pos_weight=number)


def test_factor_of_positives_may_be_any_number_and_is_copied():
    logits, target = batch("multilabel")
    factors = torch.tensor([2.0, 3.0, 4.0])
    loss = BinaryCrossEntropyLoss(pos_weight=factors, task="multilabel")
    expected = loss(logits, target)
    factors.fill_(9)
    assert torch.equal(loss(logits, target), expected)
    for number in (2, 2.0, torch.tensor(2), torch.tensor(2.0)):
        same = BinaryCrossEntropyLoss(pos_weight=number, task="multilabel")(logits, target)
        torch.testing.assert_close(
            same, BinaryCrossEntropyLoss(pos_weight=[2.0] * 3, task="multilabel")(logits, target)
        )
    assert not loss.state_dict()
    assert all(buffer.is_meta for buffer in loss.to("meta").buffers())


def test_alpha_of_focal_loss_belongs_to_sigmoids():
    with pytest.raises(InvalidArgumentError, match="no alpha with task='multiclass', got alpha=0.25: use weight="):
        FocalLoss(alpha=0.25)
    with pytest.raises(InvalidArgumentError, match="alpha must be between 0 and 1, got 1.5"):
        FocalLoss(alpha=1.5, task="binary")


def test_multiclass_names_the_task_of_one_logit_or_of_planes():
    logits = torch.zeros(2, 1, 4, 4)
    with pytest.raises(InvalidArgumentError, match='use task="binary", which takes one logit'):
        DiceLoss()(logits, torch.zeros(2, 4, 4, dtype=torch.long))
    for channels, task in ((1, "binary"), (3, "multilabel")):
        planes = torch.zeros(2, channels, 4, 4)
        with pytest.raises(InvalidArgumentError, match=f'one plane per class needs task="{task}"'):
            JaccardLoss()(planes, planes.long())
        assert JaccardLoss(task=task)(planes, planes.long()) == 0


# ---- sums and outputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_sum_passes_its_task_to_the_losses_of_tables(task):
    logits, target = batch(task)
    tables = [{"name": "BinaryCrossEntropyLoss", "factor": 0.5, "params": {"pos_weight": 2.0}}, {"name": "LovaszLoss"}]
    expected = 0.5 * BinaryCrossEntropyLoss(pos_weight=2.0, task=task)(logits, target)
    expected += LovaszLoss(task=task)(logits, target)
    torch.testing.assert_close(CombinedLoss(tables, task=task)(logits, target), expected)


def test_losses_of_different_tasks_are_an_error():
    with pytest.raises(
        InvalidArgumentError, match=r"losses\[1\] has the task 'multiclass', but the loss .* has task='binary'"
    ):
        CombinedLoss([(1.0, BinaryCrossEntropyLoss()), (1.0, DiceLoss())], task="binary")
    with pytest.raises(
        InvalidArgumentError, match=r"losses\[0\] has the task 'binary', but the loss .* has task='multiclass'"
    ):
        CombinedLoss([(1.0, BinaryCrossEntropyLoss())])
    with pytest.raises(InvalidArgumentError, match=r"outputs\['boundary'\] has the task 'multiclass'"):
        DeepSupervision(DiceLoss(task="binary"), outputs={"boundary": (1.0, BoundaryLoss())})
    with pytest.raises(InvalidArgumentError, match="criterion has the task 'multilabel'"):
        BoundaryAwareLoss(criterion=DiceLoss(task="multilabel"), task="binary")
    with pytest.raises(InvalidArgumentError, match="multiclass.*use CrossEntropyLoss"):
        CombinedLoss([{"name": "BinaryCrossEntropyLoss"}])


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_outputs_of_a_network(task):
    logits, target = batch(task)
    outputs = {"out": logits, "aux": 0.5 * logits, "aux_16x": -logits, "boundary": 5 * logits[:, :1]}
    criterion = DeepSupervision(
        BinaryCrossEntropyLoss(task=task),
        aux_weight=0.4,
        outputs={"aux_16x": (0.3, DiceLoss(task=task)), "boundary": (2.0, BoundaryLoss(task=task))},
        boundary_aware_weight=0.7,
    )
    planes = target[:, None] if task == "binary" else target
    near = (outputs["boundary"].sigmoid() > 0.8).expand_as(planes)
    expected = (
        BinaryCrossEntropyLoss(task=task)(logits, target)
        + 0.4 * BinaryCrossEntropyLoss(task=task)(0.5 * logits, target)
        + 0.3 * DiceLoss(task=task)(-logits, target)
        + 2 * BoundaryLoss(task=task)(outputs["boundary"], target)
        + 0.7 * BinaryCrossEntropyLoss(task=task)(logits, planes.masked_fill(~near, 255))
    )
    torch.testing.assert_close(criterion(outputs, target), expected)
    assert criterion.task == task


def test_loss_of_a_user_has_any_task():
    class Own(nn.Module):
        def forward(self, logits, target):
            return logits.mean()

    logits, target = batch("binary")
    criterion = DeepSupervision(Own(), outputs={"boundary": (1.0, BoundaryLoss(task="binary"))})
    expected = logits.mean() + BoundaryLoss(task="binary")(logits, target)
    torch.testing.assert_close(criterion({"out": logits, "boundary": logits}, target), expected)
    assert CombinedLoss([(2.0, Own())], task="binary")(logits, target) == 2 * logits.mean()


# ---- micro-batches ---------------------------------------------------------------------------------------------------


def in_micro_batches(loss, logits, target, sizes):
    logits = logits.clone().requires_grad_()
    pieces = list(zip(logits.split(sizes), target.split(sizes), strict=True))
    own = torch.stack([denominators(loss, piece) for _, piece in pieces])
    shares = share_of(own, own.sum(0))
    values = [micro_batch_loss(loss, share, *piece) for share, piece in zip(shares, pieces, strict=True)]
    sum(values).backward()
    return sum(values).detach(), logits.grad


MEANS = {
    "BCE": lambda task, w: BinaryCrossEntropyLoss(task=task),
    "weighted": lambda task, w: BinaryCrossEntropyLoss(w, pos_weight=3.0, label_smoothing=0.1, task=task),
    "focal": lambda task, w: FocalLoss(w, alpha=0.3, task=task),
    "sum": lambda task, w: BinaryCrossEntropyLoss(w, reduction="sum", task=task),
    "combined": lambda task, w: CombinedLoss(
        [(2.0, BinaryCrossEntropyLoss(w, task=task)), (0.5, FocalLoss(task=task))], task=task
    ),
}


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [1, 3]])
@pytest.mark.parametrize("task", ["binary", "multilabel"])
@pytest.mark.parametrize("name", MEANS)
def test_micro_batches_add_up_to_the_mean_over_all_elements(name, task, sizes):
    logits, target = batch(task)
    loss = MEANS[name](task, [2.0] if task == "binary" else [2.0, 1.0, 0.25])
    value, gradient = value_and_gradient(loss, logits, target)
    for given in (target, target[:, None]) if task == "binary" else (target,):
        found, slope = in_micro_batches(loss, logits, given, sizes)
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_other_losses_are_averaged_over_micro_batches(task):
    logits, target = batch(task)
    for loss in (DiceLoss(task=task), OhemCrossEntropyLoss(min_kept=5, task=task), LovaszLoss(task=task)):
        value, _ = in_micro_batches(loss, logits, target, [2, 2])
        torch.testing.assert_close(value, (loss(logits[:2], target[:2]) + loss(logits[2:], target[2:])) / 2)


# ---- boundaries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [BoundaryLoss, DetailLoss])
def test_boundaries_of_one_object_are_those_of_two_classes(loss):
    logits, target = batch("binary")
    value, gradient = value_and_gradient(loss(), logits, target)
    for given in (target, target[:, None]):
        found, slope = value_and_gradient(loss(task="binary"), logits, given)
        assert torch.equal(found, value)
        assert torch.equal(slope, gradient)


@pytest.mark.parametrize("loss", [BoundaryLoss, DetailLoss])
def test_boundary_of_overlapping_classes_is_that_of_any(loss):
    """Squares at different places: the boundary of their planes is that of a mask in which they are apart."""
    planes = torch.zeros(1, 2, 30, 30, dtype=torch.long)
    planes[0, 0, 4:12, 4:12] = planes[0, 1, 18:26, 16:28] = 1
    logits = torch.randn(1, 1, 30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    value, gradient = value_and_gradient(loss(task="multilabel"), logits, planes)
    expected, slope = value_and_gradient(loss(), logits, planes.sum(1))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, slope)
    # a pixel that is ignored for one class still counts, one that is ignored for all does not
    planes[0, 0, :3] = planes[0, 1, :2] = 255
    logits[0, 0, :2] = torch.nan
    found, slope = value_and_gradient(loss(task="multilabel"), logits, planes)
    assert found.isfinite()
    assert not slope[0, 0, :2].any()
    assert slope[0, 0, 2].all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_boundary_targets_that_do_not_fit_are_errors(task):
    logits, target = torch.zeros(2, 1, 6, 6), torch.zeros(2, 3, 6, 6, dtype=torch.long)
    wrong, right = (target, target[:, 0]) if task == "binary" else (target[:, 0], target)
    for loss in (BoundaryLoss(task=task), DetailLoss(task=task)):
        with pytest.raises(InvalidArgumentError, match=f'target must be .* with task="{task}"'):
            loss(logits, wrong)
        with pytest.raises(InvalidArgumentError, match="integer type"):
            loss(logits, right.float())
        with pytest.raises(LabelOutOfRangeError, match="contains 2"):
            loss(logits, right + 2)
        assert loss(logits, right).isfinite()


def test_loss_at_predicted_boundaries():
    for task, criterion in itertools.product(("binary", "multilabel"), (None, LovaszLoss)):
        logits, target = batch(task)
        near = torch.linspace(-5, 5, 120, dtype=torch.float64).view(1, 1, 12, 10).expand(4, 1, 12, 10)
        given = None if criterion is None else criterion(task=task)
        own = BoundaryAwareLoss(criterion=given, task=task)(logits, target, near)
        planes = (target[:, None] if task == "binary" else target).masked_fill(near.sigmoid() <= 0.8, 255)
        expected = (given or BinaryCrossEntropyLoss(task=task))(logits, planes)
        torch.testing.assert_close(own, expected)
        with pytest.raises(InvalidArgumentError, match="must agree"):
            BoundaryAwareLoss(task=task)(logits[..., 1:], target, near)
    assert isinstance(BoundaryAwareLoss().criterion, CrossEntropyLoss)
