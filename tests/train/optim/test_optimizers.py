import inspect

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.registry import OPTIMIZERS
from seg_train import Padam, parameter_groups
from seg_train.optim.optimizers import REFUSED, build_optimizer, needs_closure

OF_TORCH = sorted(
    name
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4))
        self.classifier = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.classifier(self.backbone(images))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


def train(model, optimizer, steps=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 8, 8, generator=generator)
    masks = (images[:, 0] > 0.5).long()
    losses = []

    def compute_gradients():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), masks)
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(steps):
        if needs_closure(optimizer):
            optimizer.step(compute_gradients)
        else:
            compute_gradients()
            optimizer.step()
    return losses


@pytest.mark.smoke
@pytest.mark.parametrize("name", [*OF_TORCH, "Padam"])
def test_every_optimizer_of_torch_trains_or_is_rejected_with_the_reason(name, model):
    if name in REFUSED:
        with pytest.raises(InvalidArgumentError, match=f"{name} cannot train these networks: it takes only"):
            build_optimizer(model, name)
        return
    optimizer = build_optimizer(model, name)
    before = [p.detach().clone() for p in model.parameters()]
    losses = train(model, optimizer)
    assert all(loss == loss for loss in losses)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_names_are_those_of_torch_and_padam():
    assert {*OPTIMIZERS.names()} >= {*OF_TORCH, "Padam"} - REFUSED.keys()
    assert isinstance(build_optimizer(Net(), "Padam", {"partial": 0.25}), Padam)


def test_only_lbfgs_needs_a_closure(model):
    names = [name for name in OF_TORCH if name not in REFUSED and needs_closure(build_optimizer(model, name))]
    assert names == ["LBFGS"]


def test_lbfgs_lowers_the_loss(model):
    losses = train(model, build_optimizer(model, "LBFGS", {"lr": 0.5, "max_iter": 5}))
    assert losses[-1] < 0.8 * losses[0]


def test_unknown_name_suggests_the_nearest(model):
    with pytest.raises(UnknownNameError, match="Did you mean 'AdamW'"):
        build_optimizer(model, "AdamWW")


def test_default_is_one_fused_group(model):
    (group,) = build_optimizer(model, "AdamW").param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    assert group["fused"]


def test_fused_is_not_set_if_params_choose_an_implementation(model):
    (group,) = build_optimizer(model, "AdamW", {"foreach": False}).param_groups
    assert not group["fused"]


def test_groups_have_their_own_rate_and_decay(model):
    keys = {"backbone_lr_factor": 0.1, "decay_norms_and_biases": False}
    optimizer = build_optimizer(model, "SGD", {"lr": 0.5, "weight_decay": 0.01}, **keys)
    conv, norm, slope = model.backbone
    expected = {
        "head": ([model.classifier.weight], 0.5, 0.01),
        "head without decay": ([model.classifier.bias], 0.5, 0.0),
        "backbone": ([conv.weight], 0.05, 0.01),
        "backbone without decay": ([conv.bias, norm.weight, norm.bias, slope.weight], 0.05, 0.0),
    }
    assert [group["name"] for group in optimizer.param_groups] == list(expected)
    for group in optimizer.param_groups:
        params, lr, decay = expected[group["name"]]
        assert {id(p) for p in group["params"]} == {id(p) for p in params}
        assert group["lr"] == pytest.approx(lr)
        assert group["weight_decay"] == decay
    again = build_optimizer(Net(), "SGD", {"lr": 0.1}, **keys)
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.param_groups] == [group["lr"] for group in optimizer.param_groups]


def test_backbone_rate_is_a_factor_of_the_optimizers_default(model):
    groups = build_optimizer(model, "AdamW", backbone_lr_factor=0.1).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("head", 1e-3), ("backbone", pytest.approx(1e-4))]


def test_each_parameter_is_in_one_group_and_frozen_ones_in_none(model):
    model.classifier.weight = nn.Parameter(model.backbone[0].weight[:2, :, :1, :1].detach().clone())
    model.shared = model.backbone[0]  # the same parameters under two names
    model.backbone[1].requires_grad_(False)
    groups = parameter_groups(model, lr=1.0, backbone_lr_factor=2, decay_norms_and_biases=False)
    found = [id(p) for group in groups for p in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in model.parameters() if p.requires_grad}
    assert model.backbone[0].weight.shape in [p.shape for g in groups if g["name"] == "backbone" for p in g["params"]]


def test_norm_over_several_axes_has_no_weight_decay():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.LayerNorm([4, 2, 2]))
    plain, rest = parameter_groups(model, decay_norms_and_biases=False)
    assert [id(p) for p in plain["params"]] == [id(model[0].weight)]
    assert {id(p) for p in rest["params"]} == {id(p) for p in (model[0].bias, model[1].weight, model[1].bias)}


@pytest.mark.parametrize("keys", [{"backbone_lr_factor": 0.1}, {"decay_norms_and_biases": False}])
def test_groups_for_lbfgs_are_an_error(keys, model):
    with pytest.raises(InvalidArgumentError, match="LBFGS takes all parameters in one group; leave backbone_lr_factor"):
        build_optimizer(model, "LBFGS", **keys)


@pytest.mark.parametrize("name", ["Padam", "LBFGS"])
def test_optimizer_prepared_by_accelerate_trains_with_a_scheduler(name, model):
    accelerator = Accelerator(cpu=True)
    optimizer = build_optimizer(model, name)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    lr = optimizer.param_groups[0]["lr"]
    prepared = accelerator.prepare_optimizer(optimizer)
    assert needs_closure(prepared) == (name == "LBFGS")
    losses = train(model, prepared, steps=4)
    scheduler.step()
    assert losses[-1] < losses[0]
    assert prepared.param_groups[0]["lr"] == pytest.approx(0.5 * lr)


def test_defaults_give_one_group_of_all(model):
    (group,) = parameter_groups(model)
    assert group["name"] == "head"
    assert group.keys() == {"name", "params"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_lr_factor": 0}, "backbone_lr_factor must be a finite number above 0, got 0"),
        ({"backbone_lr_factor": float("nan")}, "backbone_lr_factor must be a finite number above 0"),
        ({"backbone_lr_factor": 0.1}, "lr is required"),
    ],
)
def test_options_out_of_range_are_errors(options, message, model):
    with pytest.raises(InvalidArgumentError, match=message):
        parameter_groups(model, **options)


def test_factor_for_a_model_without_backbone_is_an_error():
    with pytest.raises(InvalidArgumentError, match="backbone_lr_factor = 0.1, but Conv2d has no backbone"):
        parameter_groups(nn.Conv2d(1, 1, 1), lr=1, backbone_lr_factor=0.1)
