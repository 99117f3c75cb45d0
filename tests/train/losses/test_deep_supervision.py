import copy

import pytest
import torch
from torch import nn

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_models import pidnet_s, stdc1
from seg_train.losses.boundary import BoundaryAwareLoss, BoundaryLoss, DetailLoss
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.losses.dice import DiceLoss
from seg_train.losses.ohem import OhemCrossEntropyLoss

NAMES = ["out", "aux", "aux_16x", "boundary"]


def sample(*names, dtype=torch.float64):
    """Outputs of a network, and masks with some pixels ignored."""
    generator = torch.Generator().manual_seed(3)
    outputs = {
        name: 2 * torch.randn(2, 1 if name == "boundary" else 4, 9, 11, generator=generator, dtype=torch.float64)
        for name in NAMES
    }
    target = torch.zeros(2, 9, 11, dtype=torch.int64)
    target[0, :, 6:], target[0, 5:, :3], target[1, 2:4, 2:9] = 2, 3, 1
    target[torch.rand(2, 9, 11, generator=generator) < 0.2] = 255
    return {name: outputs[name].to(dtype) for name in names}, target


def with_gradients(outputs):
    return {name: logits.clone().requires_grad_() for name, logits in outputs.items()}


def cross_entropy_by_hand(logits, target):
    log_p = logits.double() - logits.double().exp().sum(1, keepdim=True).log()
    places = [(n, int(target[n, y, x]), y, x) for n, y, x in (target != 255).nonzero().tolist()]
    return -sum(float(log_p[place]) for place in places) / len(places)


def test_forward_adds_the_losses_of_auxiliary_outputs_times_aux_weight():
    outputs, target = sample("out", "aux", "aux_16x")
    out, aux, aux_16x = (cross_entropy_by_hand(logits, target) for logits in outputs.values())
    result = DeepSupervision(CrossEntropyLoss())(outputs, target)
    assert float(result) == pytest.approx(out + 0.4 * (aux + aux_16x), rel=1e-10)
    result = DeepSupervision(CrossEntropyLoss(), aux_weight=1.5)(outputs, target)
    assert float(result) == pytest.approx(out + 1.5 * (aux + aux_16x), rel=1e-10)


def test_forward_out_alone_is_the_loss_itself():
    outputs, target = sample("out")
    result = DeepSupervision(CrossEntropyLoss())(outputs, target)
    assert torch.equal(result, CrossEntropyLoss()(outputs["out"], target))


def test_forward_uses_the_factor_and_loss_of_each_entry():
    outputs, target = sample(*NAMES)
    entries = {
        "out": (3.0, None),
        "aux": (2, DiceLoss()),
        "aux_16x": (0.1, None),
        "boundary": (20.0, BoundaryLoss(width=2)),
    }
    expected = (
        3.0 * cross_entropy_by_hand(outputs["out"], target)
        + 2 * float(DiceLoss()(outputs["aux"], target))
        + 0.1 * cross_entropy_by_hand(outputs["aux_16x"], target)
        + 20.0 * float(BoundaryLoss(width=2)(outputs["boundary"], target))
    )
    result = DeepSupervision(CrossEntropyLoss(), outputs=entries)(outputs, target)
    assert float(result) == pytest.approx(expected, rel=1e-10)


def test_forward_pidnet_has_the_four_losses_of_its_paper():
    outputs, target = sample("out", "aux", "boundary")
    main = OhemCrossEntropyLoss(threshold=0.9, min_kept=30)
    criterion = DeepSupervision(
        main,
        outputs={"aux": (0.4, CrossEntropyLoss()), "boundary": (20.0, BoundaryLoss())},
        boundary_aware_weight=0.7,
    )
    near = torch.where(outputs["boundary"][:, 0].sigmoid() > 0.8, target, 255)
    expected = (
        0.4 * CrossEntropyLoss()(outputs["aux"], target)
        + 20 * BoundaryLoss()(outputs["boundary"], target)
        + main(outputs["out"], target)
        + 0.7 * main(outputs["out"], near)
    )
    torch.testing.assert_close(criterion(outputs, target), expected, rtol=1e-10, atol=0)
    assert main(outputs["out"], near) > 0


def test_gradient_reaches_each_output_times_its_factor():
    outputs, target = sample(*NAMES)
    entries = {"aux_16x": (0.0, None), "boundary": (20.0, BoundaryLoss())}
    seen, alone = with_gradients(outputs), with_gradients(outputs)
    DeepSupervision(CrossEntropyLoss(), outputs=entries)(seen, target).backward()
    for name, factor, loss in (
        ("out", 1.0, CrossEntropyLoss()),
        ("aux", 0.4, CrossEntropyLoss()),
        ("boundary", 20.0, BoundaryLoss()),
    ):
        (factor * loss(alone[name], target)).backward()
        torch.testing.assert_close(seen[name].grad, alone[name].grad, rtol=1e-9, atol=1e-12)


def test_backward_passes_gradcheck():
    outputs, target = sample("out", "boundary")
    out, boundary = (logits[..., :3, 5:8].clone().requires_grad_() for logits in outputs.values())
    criterion = DeepSupervision(
        CrossEntropyLoss(), outputs={"boundary": (20.0, BoundaryLoss(2))}, boundary_aware_weight=1.0
    )
    assert torch.autograd.gradcheck(
        lambda x, y: criterion({"out": x, "boundary": y}, target[:, :3, 5:8]), (out, boundary)
    )


def test_output_with_factor_zero_is_not_computed():
    class Fails(nn.Module):
        def forward(self, logits, target):
            raise AssertionError("computed")

    outputs, target = sample("out", "aux", "boundary")
    criterion = DeepSupervision(CrossEntropyLoss(), aux_weight=0.0, outputs={"boundary": (0.0, Fails())})
    assert torch.equal(criterion(outputs, target), CrossEntropyLoss()(outputs["out"], target))
    without_loss = DeepSupervision(CrossEntropyLoss(), aux_weight=0.0, outputs={"boundary": (0, None)})
    assert torch.equal(without_loss(outputs, target), CrossEntropyLoss()(outputs["out"], target))


def test_output_with_factor_zero_has_zero_gradients_whatever_it_holds():
    outputs, target = sample(*NAMES)
    outputs["aux"][0, 0, 3], outputs["boundary"][0, 0, 3] = torch.nan, torch.inf
    seen = with_gradients(outputs)
    result = DeepSupervision(CrossEntropyLoss(), aux_weight=0, outputs={"boundary": (0, None)})(seen, target)
    result.backward()
    assert torch.equal(result, CrossEntropyLoss()(outputs["out"], target))
    assert seen["out"].grad.abs().max() > 0
    assert all(torch.equal(seen[name].grad, torch.zeros_like(seen[name])) for name in NAMES[1:])


def test_ignored_pixels_change_neither_value_nor_gradient():
    outputs, target = sample(*NAMES)
    criterion = DeepSupervision(
        CrossEntropyLoss(), outputs={"boundary": (20.0, BoundaryLoss())}, boundary_aware_weight=1.0
    )
    first = with_gradients(outputs)
    criterion(first, target).backward()
    ignored = (target == 255)[:, None]
    second = with_gradients({name: torch.where(ignored, torch.nan, logits) for name, logits in outputs.items()})
    criterion(second, target).backward()
    assert torch.equal(criterion(first, target), criterion(second, target))
    for name in NAMES:
        assert torch.equal(first[name].grad, second[name].grad)
        assert first[name].grad.abs().max() > 0


def test_no_valid_pixel_gives_zero_with_a_graph():
    outputs, target = sample(*NAMES, dtype=torch.float32)
    criterion = DeepSupervision(
        OhemCrossEntropyLoss(), outputs={"boundary": (20.0, BoundaryLoss())}, boundary_aware_weight=1.0
    )
    seen = with_gradients(outputs)
    loss = criterion(seen, torch.full_like(target, 255))
    loss.backward()
    assert loss == 0
    assert all(torch.equal(logits.grad, torch.zeros_like(logits)) for logits in seen.values())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_forward_any_integer_target_gives_the_same(dtype):
    outputs, target = sample(*NAMES)
    criterion = DeepSupervision(
        CrossEntropyLoss(), outputs={"boundary": (1.0, DetailLoss())}, boundary_aware_weight=1.0
    )
    assert torch.equal(criterion(outputs, target.to(dtype)), criterion(outputs, target))


def test_half_precision_and_autocast_give_float32():
    outputs, target = sample(*NAMES, dtype=torch.bfloat16)
    criterion = DeepSupervision(
        CrossEntropyLoss(), outputs={"boundary": (1.0, DetailLoss())}, boundary_aware_weight=1.0
    )
    expected = criterion({name: logits.float() for name, logits in outputs.items()}, target)
    assert expected.dtype == torch.float32
    assert torch.equal(criterion(outputs, target), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(criterion(outputs, target), expected)


def test_arguments_are_not_modified():
    outputs, target = sample(*NAMES)
    entries = {"boundary": (20.0, BoundaryLoss())}
    copies, kept = {name: logits.clone() for name, logits in outputs.items()}, target.clone()
    DeepSupervision(CrossEntropyLoss(), outputs=entries, boundary_aware_weight=1.0)(outputs, target)
    assert list(outputs) == NAMES
    assert all(torch.equal(outputs[name], copies[name]) for name in NAMES)
    assert torch.equal(target, kept)
    assert list(entries) == ["boundary"]


def test_module_moves_with_its_losses_and_copies():
    criterion = DeepSupervision(
        CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0]), outputs={"forward": (1.0, DiceLoss(weight=[1.0, 2.0]))}
    )
    assert criterion.state_dict() == {}
    moved = copy.deepcopy(criterion).to("meta")
    assert moved.criterion.weight.is_meta
    assert moved.losses[0].weight.is_meta
    assert not criterion.criterion.weight.is_meta


def test_compiled_gives_the_same():
    outputs, target = sample("out", "aux", "boundary")
    criterion = DeepSupervision(
        CrossEntropyLoss(), outputs={"boundary": (20.0, BoundaryLoss())}, boundary_aware_weight=1.0
    )
    compiled = torch.compile(criterion, backend="aot_eager")
    seen, reference = with_gradients(outputs), with_gradients(outputs)
    result, expected = compiled(seen, target), criterion(reference, target)
    result.backward()
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    for name in outputs:
        torch.testing.assert_close(seen[name].grad, reference[name].grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("builder", "options", "loss"),
    [(pidnet_s, {}, BoundaryLoss()), (stdc1, {}, DetailLoss()), (stdc1, {"variant": "mmsegmentation"}, DetailLoss())],
)
def test_network_with_boundaries_learns_from_every_output(builder, options, loss):
    network = builder(num_classes=4, aux_loss=True, **options)
    outputs = network(torch.randn(2, 3, 64, 64))
    target = torch.zeros(2, 64, 64, dtype=torch.uint8)
    target[:, 20:40, 20:] = 3
    DeepSupervision(CrossEntropyLoss(), outputs={"boundary": (1.0, loss)})(outputs, target).backward()
    assert "boundary" in outputs
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_output_without_a_loss_says_what_to_set():
    outputs, target = sample("out", "boundary")
    with pytest.raises(InvalidArgumentError) as caught:
        DeepSupervision(CrossEntropyLoss())(outputs, target)
    assert "the network's output boundary has no loss: set criterion.outputs.boundary to a weight" in str(caught.value)
    assert '{ weight = 1.0, name = "BoundaryLoss" }; weight = 0 ignores it' in str(caught.value)


def test_entry_without_an_output_lists_the_outputs():
    outputs, target = sample("out", "aux")
    with pytest.raises(InvalidArgumentError) as caught:
        DeepSupervision(CrossEntropyLoss(), outputs={"aux_8x": (0.0, None)})(outputs, target)
    assert "criterion.outputs.aux_8x is set, but the network returns out, aux; remove it" in str(caught.value)


def test_boundary_aware_without_a_boundary_lists_the_outputs():
    outputs, target = sample("out", "aux")
    with pytest.raises(InvalidArgumentError) as caught:
        DeepSupervision(CrossEntropyLoss(), boundary_aware_weight=1.0)(outputs, target)
    assert 'boundary_aware_weight = 1.0 needs the output "boundary", but the network returns out, aux' in str(
        caught.value
    )


def test_outputs_without_logits_are_an_error():
    outputs, target = sample("aux")
    with pytest.raises(InvalidArgumentError, match='outputs must have "out", the logits of the network, got aux'):
        DeepSupervision(CrossEntropyLoss())(outputs, target)


def test_no_factor_above_zero_is_an_error():
    outputs, target = sample("out", "aux")
    with pytest.raises(InvalidArgumentError, match="no output has a factor above 0: out, aux"):
        DeepSupervision(CrossEntropyLoss(), aux_weight=0, outputs={"out": (0.0, None)})(outputs, target)


def test_errors_of_a_loss_name_the_output_and_keep_their_type():
    outputs, target = sample("out", "aux", "boundary")
    with pytest.raises(InvalidArgumentError, match="output aux: logits must be"):
        DeepSupervision(CrossEntropyLoss(), outputs={"aux": (1.0, BoundaryLoss()), "boundary": (0.0, None)})(
            outputs, target
        )
    target[0, 0, 0] = 9
    with pytest.raises(LabelOutOfRangeError, match="output out: target contains 9"):
        DeepSupervision(CrossEntropyLoss(), outputs={"boundary": (0.0, None)})(outputs, target)


def test_loss_that_is_not_a_scalar_is_an_error():
    outputs, target = sample("out")
    with pytest.raises(InvalidArgumentError, match=r"output out: the loss must return a scalar, got a tensor \(2, 9"):
        DeepSupervision(CrossEntropyLoss(reduction="none"))(outputs, target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aux_weight": -1.0}, "aux_weight must be a finite number of at least 0, got -1.0"),
        ({"boundary_aware_weight": float("nan")}, "boundary_aware_weight must be a finite number of at least 0"),
        ({"outputs": {"aux": (-0.5, None)}}, "the factor of outputs['aux'] must be a finite number of at least 0"),
    ],
)
def test_argument_out_of_range_says_what_is_allowed(options, words):
    with pytest.raises(ValueError) as caught:
        DeepSupervision(CrossEntropyLoss(), **options)
    assert words in str(caught.value)


def test_boundary_aware_ignores_what_the_main_loss_ignores():
    criterion = DeepSupervision(CrossEntropyLoss(ignore_index=-1), boundary_aware_weight=1.0)
    assert isinstance(criterion.boundary_aware, BoundaryAwareLoss)
    assert criterion.boundary_aware.ignore_index == -1
    assert criterion.boundary_aware.criterion is criterion.criterion


def test_repr_shows_the_arguments():
    shown = repr(DeepSupervision(CrossEntropyLoss(), outputs={"boundary": (20.0, BoundaryLoss())}))
    assert "aux_weight=0.4, outputs={'boundary': 20.0}, boundary_aware_weight=0.0" in shown
