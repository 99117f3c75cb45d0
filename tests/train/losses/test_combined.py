import pickle

import numpy as np
import pytest
import torch
from torch import nn

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_train.losses.combined import CombinedLoss
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.dice import DiceLoss
from seg_train.losses.focal import FocalLoss


def sample(dtype=torch.float64, target_dtype=torch.int64):
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < 0.3] = 255
    return logits.to(dtype), target.to(target_dtype)


def brute_force(logits, target, weight=(1.0, 1.0, 1.0, 1.0)):
    """Returns cross entropy and Dice in float64, pixel by pixel."""
    entropy = total = 0.0
    overlap, predicted, true = np.zeros(4), np.zeros(4), np.zeros(4)
    for place in np.ndindex(*target.shape):
        truth = int(target[place])
        if truth == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        p = np.exp(z) / np.exp(z).sum()
        entropy -= weight[truth] * np.log(p[truth])
        total += weight[truth]
        overlap[truth] += p[truth]
        true[truth] += 1
        predicted += p
    dice = np.average(1 - 2 * overlap / (predicted + true), weights=weight)
    return entropy / total, dice


TABLES = [{"name": "CrossEntropyLoss"}, {"name": "DiceLoss", "factor": 0.5}]


def pairs():
    return [(1, CrossEntropyLoss()), (0.5, DiceLoss())]


def test_forward_equals_brute_force():
    logits, target = sample()
    entropy, dice = brute_force(logits, target)
    for losses in (TABLES, pairs(), tuple(pairs()), [TABLES[0], pairs()[1]], [list(pair) for pair in pairs()]):
        result = CombinedLoss(losses)(logits, target)
        assert float(result) == pytest.approx(entropy + 0.5 * dice, rel=1e-10)


def test_backward_passes_gradcheck():
    logits, target = sample()
    logits = logits[:, :, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: CombinedLoss(TABLES)(x, target[:, :2, :3]), logits)


def test_weight_goes_to_each_loss_that_takes_it():
    logits, target = sample()
    weight = torch.tensor([0.5, 2.0, 0.1, 1.5], dtype=torch.float64)
    entropy, dice = brute_force(logits, target, weight.tolist())
    result = CombinedLoss(TABLES, weight=weight)(logits, target)
    assert float(result) == pytest.approx(entropy + 0.5 * dice, rel=1e-10)
    without = CombinedLoss([*TABLES, {"name": "BoundaryLoss"}], weight=weight)
    assert not hasattr(without.losses[2], "weight")


def test_weight_of_params_comes_before_the_common_one():
    combined = CombinedLoss(
        [{"name": "CrossEntropyLoss", "params": {"weight": [3.0, 4.0]}}, {"name": "DiceLoss"}], weight=[1.0, 2.0]
    )
    assert [loss.weight.tolist() for loss in combined.losses] == [[3.0, 4.0], [1.0, 2.0]]


def test_params_and_ignore_index_reach_the_losses():
    combined = CombinedLoss([{"name": "FocalLoss", "params": {"gamma": 1.5}}, {"name": "DiceLoss"}], ignore_index=-1)
    assert isinstance(combined.losses[0], FocalLoss)
    assert combined.losses[0].gamma == 1.5
    assert [loss.ignore_index for loss in combined.losses] == [-1, -1]


def test_combined_losses_can_be_combined():
    logits, target = sample()
    nested = CombinedLoss([{"name": "CombinedLoss", "factor": 2, "params": {"losses": TABLES}}])
    torch.testing.assert_close(nested(logits, target), 2 * CombinedLoss(TABLES)(logits, target))


def test_loss_of_factor_zero_is_not_computed():
    class Fails(nn.Module):
        def forward(self, logits, target):
            raise AssertionError("computed")

    logits, target = sample()
    result = CombinedLoss([(0.0, Fails()), (1.0, CrossEntropyLoss())])(logits, target)
    assert torch.equal(result, CrossEntropyLoss()(logits, target))


def test_ignored_pixels_change_neither_value_nor_gradient():
    logits, target = sample()
    loss = CombinedLoss(TABLES)
    first = logits.clone().requires_grad_()
    loss(first, target).backward()
    second = torch.where((target == 255)[:, None], torch.nan, logits).requires_grad_()
    loss(second, target).backward()
    assert torch.equal(loss(first, target), loss(second, target))
    assert torch.equal(first.grad, second.grad)
    assert first.grad.abs().max() > 0


def test_nothing_valid_gives_zero_with_a_graph():
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = CombinedLoss(TABLES)(logits, torch.full((2, 3, 3), 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_forward_any_integer_target_gives_the_same(dtype):
    logits, target = sample(target_dtype=dtype)
    assert torch.equal(CombinedLoss(TABLES)(logits, target), CombinedLoss(TABLES)(logits, target.long()))


def test_half_precision_and_autocast_give_float32():
    logits, target = sample(torch.bfloat16)
    expected = CombinedLoss(TABLES)(logits.float(), target)
    assert expected.dtype == torch.float32
    assert torch.equal(CombinedLoss(TABLES)(logits, target), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CombinedLoss(TABLES)(logits, target), expected)


def test_arguments_stay_as_they_are():
    logits, target = sample()
    copies = logits.clone(), target.clone()
    tables = [{"name": "CrossEntropyLoss", "params": {"label_smoothing": 0.1}}, {"name": "DiceLoss", "factor": 0.5}]
    loss = CombinedLoss(tables)
    loss(logits.requires_grad_(), target).backward()
    assert tables[0] == {"name": "CrossEntropyLoss", "params": {"label_smoothing": 0.1}}
    assert torch.equal(logits, copies[0])
    assert torch.equal(target, copies[1])


def test_module_moves_and_keeps_the_state_of_its_losses():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, logits, target):
            return self.scale * logits.mean()

    combined = CombinedLoss([(1.0, Scaled()), {"name": "CrossEntropyLoss"}], weight=[1.0, 2.0, 3.0, 4.0])
    assert list(combined.state_dict()) == ["losses.0.scale"]
    other = CombinedLoss([(1.0, Scaled())])
    other.load_state_dict({"losses.0.scale": torch.tensor(5.0)})
    assert other.losses[0].scale == 5
    moved = combined.to("meta")
    assert moved.losses[0].scale.is_meta
    assert moved.losses[1].weight.is_meta


def test_pickled_loss_gives_the_same():
    logits, target = sample()
    loss = CombinedLoss(TABLES, weight=[1.0, 2.0, 3.0, 4.0])
    assert torch.equal(pickle.loads(pickle.dumps(loss))(logits, target), loss(logits, target))


def test_compiled_gives_the_same():
    logits, target = sample()
    loss = CombinedLoss(TABLES)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    seen = logits.clone().requires_grad_()
    result = compiled(seen, target)
    result.backward()
    logits.requires_grad_()
    expected = loss(logits, target)
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(seen.grad, logits.grad, rtol=1e-9, atol=1e-12)


def test_repr_shows_factors_and_losses():
    shown = repr(CombinedLoss(TABLES))
    assert "factors=[1.0, 0.5], ignore_index=255" in shown
    assert "CrossEntropyLoss(ignore_index=255, reduction='mean', label_smoothing=0.0)" in shown


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([], "losses must be a list of at least one loss"),
        ("DiceLoss", "losses must be a list of at least one loss"),
        ({"name": "DiceLoss"}, "losses must be a list of at least one loss"),
        ([TABLES[0], "DiceLoss"], "losses[1] must be a table of name, factor and params, or a pair"),
        ([(1.0, "DiceLoss")], "losses[0] must be a table of name, factor and params, or a pair"),
        ([(CrossEntropyLoss(), 1.0)], "losses[0] must be a table of name, factor and params, or a pair"),
        ([(-1.0, CrossEntropyLoss())], "the factor of losses[0] must be a finite number of at least 0, got -1.0"),
        (
            [TABLES[0], {"name": "DiceLoss", "factr": 2}],
            "losses[1] has the unknown key 'factr'. Did you mean 'factor'? Allowed: name, factor, params",
        ),
        ([{"factor": 1.0}], "losses[0].name must be the name of a loss, got None"),
        ([{"name": "DiceLoss", "factor": "1"}], "losses[0].factor must be a finite number of at least 0, got '1'"),
        ([{"name": "DiceLoss", "factor": True}], "losses[0].factor must be a finite number of at least 0, got True"),
        ([{"name": "DiceLoss", "params": [1]}], "losses[0].params must be a table of arguments of DiceLoss, got [1]"),
        (
            [TABLES[0], {"name": "FocalLoss", "params": {"gama": 1.0}}],
            "losses[1].params: got an unexpected keyword argument 'gama'. Did you mean 'gamma'? FocalLoss takes",
        ),
        ([{"name": "FocalLoss", "params": {"gamma": -1.0}}], "losses[0].params: gamma must be a finite number"),
        ([{"name": "CombinedLoss"}], "losses[0].params: missing a required argument: 'losses'"),
        (
            [{"name": "CombinedLoss", "params": {"losses": [{"name": "Dice"}]}}],
            "losses[0].params: losses[0].name: unknown loss 'Dice'",
        ),
        (
            [{"name": "DiceLoss", "params": {"reduction": "none"}}],
            'losses[0] must give one number, got reduction "none"',
        ),
        (
            [TABLES[0], (1.0, CrossEntropyLoss(ignore_index=0))],
            "losses[1] ignores 0, but ignore_index is 255; all losses must ignore the same value",
        ),
        ([(0.0, CrossEntropyLoss()), (0, DiceLoss())], "losses must have at least one factor above 0"),
    ],
)
def test_bad_losses_name_the_place(losses, words):
    with pytest.raises(InvalidArgumentError) as caught:
        CombinedLoss(losses)
    assert words in str(caught.value)


def test_unknown_name_names_the_place_and_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        CombinedLoss([TABLES[0], {"name": "DiceLos"}])
    assert str(caught.value).startswith("losses[1].name: unknown loss 'DiceLos'. Did you mean 'DiceLoss'")


@pytest.mark.parametrize("losses", [pairs(), [{"name": "BoundaryLoss"}]])
def test_weight_that_nobody_takes_is_an_error(losses):
    with pytest.raises(InvalidArgumentError, match="none of the losses that are named takes class weights"):
        CombinedLoss(losses, weight=[1.0, 2.0])


def test_forward_loss_that_is_not_one_number_is_an_error():
    class PerPixel(nn.Module):
        def forward(self, logits, target):
            return logits[:, 0]

    logits, target = sample()
    with pytest.raises(InvalidArgumentError) as caught:
        CombinedLoss([(1.0, CrossEntropyLoss()), (1.0, PerPixel())])(logits, target)
    assert "losses[1] must give one number, got a tensor (2, 5, 6)" in str(caught.value)


def test_forward_target_out_of_range_names_the_value():
    logits, target = sample()
    target[0, 0, 0] = 7
    with pytest.raises(ValueError, match=r"target holds 7 \(1 pixel\)"):
        CombinedLoss(TABLES)(logits, target)
