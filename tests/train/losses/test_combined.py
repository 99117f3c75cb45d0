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
from tests.train.losses.loss_samples import sample as shared_sample


def sample():
    return shared_sample(num_classes=4)


def brute_force(logits, target, weight=(1.0, 1.0, 1.0, 1.0)):
    """Returns cross entropy and Dice in float64, pixel by pixel."""
    entropy = total = 0.0
    overlap, predicted, true = np.zeros(4), np.zeros(4), np.zeros(4)
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label == 255:
            continue
        z = logits[(place[0], slice(None), *place[1:])].double().numpy()
        p = np.exp(z) / np.exp(z).sum()
        entropy -= weight[label] * np.log(p[label])
        total += weight[label]
        overlap[label] += p[label]
        true[label] += 1
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


def test_weight_is_passed_to_each_loss_that_takes_it():
    logits, target = sample()
    weight = torch.tensor([0.5, 2.0, 0.1, 1.5], dtype=torch.float64)
    entropy, dice = brute_force(logits, target, weight.tolist())
    result = CombinedLoss(TABLES, weight=weight)(logits, target)
    assert float(result) == pytest.approx(entropy + 0.5 * dice, rel=1e-10)
    without = CombinedLoss([*TABLES, {"name": "BoundaryLoss"}], weight=weight)
    assert not hasattr(without.losses[2], "weight")


def test_weight_in_params_overrides_the_common_one():
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


def test_loss_with_factor_zero_is_not_computed():
    class Fails(nn.Module):
        def forward(self, logits, target):
            raise AssertionError("computed")

    logits, target = sample()
    result = CombinedLoss([(0.0, Fails()), (1.0, CrossEntropyLoss())])(logits, target)
    assert torch.equal(result, CrossEntropyLoss()(logits, target))


def test_tables_are_not_modified():
    tables = [{"name": "CrossEntropyLoss", "params": {"label_smoothing": 0.1}}, {"name": "DiceLoss", "factor": 0.5}]
    CombinedLoss(tables, weight=[1.0, 2.0, 3.0, 4.0])(*sample())
    assert tables == [
        {"name": "CrossEntropyLoss", "params": {"label_smoothing": 0.1}},
        {"name": "DiceLoss", "factor": 0.5},
    ]


def test_module_moves_and_saves_its_losses():
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
            "losses[1].params.gama = 1.0: FocalLoss has no such parameter. Did you mean 'gamma'? Allowed: ",
        ),
        ([{"name": "FocalLoss", "params": {"gamma": -1.0}}], "losses[0].params: gamma must be a finite number"),
        ([{"name": "CombinedLoss"}], "losses[0].params.losses is missing: CombinedLoss"),
        (
            [{"name": "CombinedLoss", "params": {"losses": [{"name": "Dice"}]}}],
            "losses[0].params: losses[0].name: unknown loss 'Dice'",
        ),
        (
            [{"name": "DiceLoss", "params": {"reduction": "none"}}],
            'losses[0] must return a scalar, got reduction "none"',
        ),
        (
            [TABLES[0], (1.0, CrossEntropyLoss(ignore_index=0))],
            "losses[1] ignores 0, but ignore_index is 255; all losses must ignore the same value",
        ),
        ([(0.0, CrossEntropyLoss()), (0, DiceLoss())], "losses must have at least one factor above 0"),
    ],
)
def test_invalid_losses_name_the_place(losses, words):
    with pytest.raises(InvalidArgumentError) as caught:
        CombinedLoss(losses)
    assert words in str(caught.value)


def test_unknown_name_names_the_place_and_the_nearest_name():
    with pytest.raises(UnknownNameError) as caught:
        CombinedLoss([TABLES[0], {"name": "DiceLos"}])
    assert str(caught.value).startswith("losses[1].name: unknown loss 'DiceLos'. Did you mean 'DiceLoss'")


@pytest.mark.parametrize("losses", [pairs(), [{"name": "BoundaryLoss"}]])
def test_weight_that_no_loss_takes_is_an_error(losses):
    with pytest.raises(InvalidArgumentError, match="none of the losses given by name takes class weights"):
        CombinedLoss(losses, weight=[1.0, 2.0])


def test_forward_loss_that_is_not_a_scalar_is_an_error():
    class PerPixel(nn.Module):
        def forward(self, logits, target):
            return logits[:, 0]

    logits, target = sample()
    with pytest.raises(InvalidArgumentError) as caught:
        CombinedLoss([(1.0, CrossEntropyLoss()), (1.0, PerPixel())])(logits, target)
    assert "losses[1] must return a scalar, got a tensor (2, 5, 6)" in str(caught.value)
