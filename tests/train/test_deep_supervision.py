"""Several losses of one output, and the losses of several outputs."""

import math

import pytest
import torch

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_train import (
    BoundaryAwareLoss,
    BoundaryLoss,
    CombinedLoss,
    CrossEntropyLoss,
    DeepSupervision,
    DiceLoss,
    OhemCrossEntropyLoss,
)


def sample():
    generator = torch.Generator().manual_seed(0)
    outputs = {
        name: torch.randn(2, channels, 8, 9, generator=generator, requires_grad=True)
        for name, channels in (("out", 3), ("aux", 3), ("aux_16x", 3), ("boundary", 1))
    }
    target = torch.randint(0, 3, (2, 8, 9), generator=generator)
    target[:, 0] = 255
    return outputs, target


def without(outputs, *names):
    return {name: output for name, output in outputs.items() if name not in names}


# ---- outputs ---------------------------------------------------------------------------------------------------------


def test_auxiliary_outputs_have_the_main_loss_and_one_factor():
    outputs, target = sample()
    loss = CrossEntropyLoss()
    expected = loss(outputs["out"], target) + 0.4 * (loss(outputs["aux"], target) + loss(outputs["aux_16x"], target))
    result = DeepSupervision(loss)(without(outputs, "boundary"), target)
    torch.testing.assert_close(result, expected)


def test_losses_of_pidnet_are_those_of_the_paper():
    outputs, target = sample()
    outputs["boundary"] = (outputs["boundary"] * 4).detach().requires_grad_()
    main, plain, boundary = OhemCrossEntropyLoss(threshold=0.9, min_kept=20), CrossEntropyLoss(), BoundaryLoss()
    criterion = DeepSupervision(
        main, outputs={"aux": (0.4, plain), "boundary": (20.0, boundary)}, boundary_aware_weight=1.0
    )
    expected = (
        0.4 * plain(outputs["aux"], target)
        + main(outputs["out"], target)
        + 20 * boundary(outputs["boundary"], target)
        + BoundaryAwareLoss(main)(outputs["out"], target, outputs["boundary"])
    )
    torch.testing.assert_close(criterion(without(outputs, "aux_16x"), target), expected)


def test_an_output_may_have_a_factor_alone():
    outputs, target = sample()
    loss = CrossEntropyLoss()
    criterion = DeepSupervision(loss, outputs={"out": (2.0, None), "aux": (0.1, None), "aux_16x": (0.0, None)})
    expected = 2 * loss(outputs["out"], target) + 0.1 * loss(outputs["aux"], target)
    torch.testing.assert_close(criterion(without(outputs, "boundary"), target), expected)


def test_an_output_of_factor_0_gets_gradients_of_0_whatever_it_holds():
    outputs, target = sample()
    with torch.no_grad():
        outputs["aux"][0, 0, 3, 3] = math.nan
    result = DeepSupervision(CrossEntropyLoss(), aux_weight=0, outputs={"boundary": (0, None)})(outputs, target)
    result.backward()
    torch.testing.assert_close(result, CrossEntropyLoss()(outputs["out"], target))
    assert outputs["out"].grad.any()
    assert not any(outputs[name].grad.any() for name in ("aux", "aux_16x", "boundary"))


def test_output_that_nothing_is_said_of_is_an_error():
    outputs, target = sample()
    with pytest.raises(InvalidArgumentError, match=r"what output 'boundary' learns; set criterion.outputs.boundary"):
        DeepSupervision(CrossEntropyLoss())(outputs, target)


@pytest.mark.parametrize("options", [{"outputs": {"boundary": (1.0, BoundaryLoss())}}, {"boundary_aware_weight": 1.0}])
def test_output_that_the_network_does_not_give_is_an_error(options):
    outputs, target = sample()
    with pytest.raises(InvalidArgumentError, match=r"gives no output 'boundary' but out, aux, aux_16x.*aux_loss=True"):
        DeepSupervision(CrossEntropyLoss(), **options)(without(outputs, "boundary"), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aux_weight": -1}, "aux_weight must be a finite number of at least 0, got -1"),
        ({"boundary_aware_weight": math.inf}, "boundary_aware_weight must be a finite number"),
        ({"outputs": {"aux": (math.nan, None)}}, r"factor of outputs\['aux'\] must be a finite number"),
    ],
)
def test_factors_out_of_range_are_errors(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        DeepSupervision(CrossEntropyLoss(), **options)


def test_ignored_value_of_the_main_loss_is_that_of_the_boundary_aware_one():
    outputs, target = sample()
    outputs["boundary"] = outputs["boundary"].detach() - 99
    criterion = DeepSupervision(
        CrossEntropyLoss(ignore_index=2), outputs={"boundary": (0, None)}, boundary_aware_weight=1.0, aux_weight=0
    )
    target = target.where(target != 255, 2)
    torch.testing.assert_close(criterion(outputs, target), CrossEntropyLoss(ignore_index=2)(outputs["out"], target))


# ---- one output ------------------------------------------------------------------------------------------------------


def test_combined_loss_takes_tables_and_pairs_alike():
    outputs, target = sample()
    weight = [1.0, 2.0, 0.5]
    tables = [{"name": "CrossEntropyLoss", "params": {"label_smoothing": 0.1}}, {"name": "DiceLoss", "factor": 0.5}]
    pairs = [(1, CrossEntropyLoss(weight, label_smoothing=0.1)), (0.5, DiceLoss(weight))]
    result = CombinedLoss(tables, weight)(outputs["out"], target)
    torch.testing.assert_close(result, CombinedLoss(pairs)(outputs["out"], target))
    expected = pairs[0][1](outputs["out"], target) + 0.5 * pairs[1][1](outputs["out"], target)
    torch.testing.assert_close(result, expected)


def test_combined_loss_hands_the_ignored_value_on():
    outputs, target = sample()
    expected = CrossEntropyLoss(ignore_index=2)(outputs["out"], target.where(target != 255, 2))
    found = CombinedLoss([{"name": "CrossEntropyLoss"}], ignore_index=2)(outputs["out"], target.where(target != 255, 2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("losses", "error", "message"),
    [
        ([], InvalidArgumentError, r"losses must be a list such as \[\{name"),
        ("DiceLoss", InvalidArgumentError, "losses must be a list"),
        ([{"name": "DiceLos"}], UnknownNameError, r"losses\[0\]: .*Did you mean 'DiceLoss'"),
        ([{"name": "DiceLoss", "weigth": 1}], InvalidArgumentError, r"losses\[0\] must hold a name"),
        ([{"factor": 1}], InvalidArgumentError, r"losses\[0\] must hold a name"),
        (
            [{"name": "DiceLoss"}, {"name": "FocalLoss", "params": {"gama": 1}}],
            InvalidArgumentError,
            r"losses\[1\], FocalLoss: .*gama",
        ),
        (
            [{"name": "FocalLoss", "params": {"gamma": -1}}],
            InvalidArgumentError,
            r"losses\[0\]: gamma must be",
        ),
        ([{"name": "DiceLoss", "factor": -1}], InvalidArgumentError, r"losses\[0\]: factor must be .* got -1"),
        ([{"name": "DiceLoss", "factor": True}], InvalidArgumentError, r"losses\[0\]: factor must be .* got True"),
        ([(1, DiceLoss(reduction="none"))], InvalidArgumentError, r"losses\[0\]: reduction must be mean or sum"),
        ([DiceLoss()], InvalidArgumentError, r"losses\[0\] must be a pair \(factor, loss\)"),
    ],
)
def test_combined_loss_says_which_entry_is_wrong(losses, error, message):
    with pytest.raises(error, match=message):
        CombinedLoss(losses)
