"""Builds an optimizer by name, with parameter groups for a separate backbone learning rate or weight decay."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from seg_core.errors import InvalidArgumentError
from seg_core.registry import OPTIMIZERS
from seg_core.spec import parameters_of

__all__ = ["REFUSED", "WrongResultError", "build_optimizer", "needs_closure", "parameter_groups"]

# Implementation options of optimizers; if params set one of these, no implementation is chosen automatically.
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable", "compile")
# The scales of these norms have as many dimensions as they normalize; those of other norms have one.
_NORMS = (nn.LayerNorm, nn.RMSNorm)
REFUSED = {
    "Muon": "it takes only matrices, but convolutions, norms and biases have other shapes",
    "SparseAdam": "it takes only sparse gradients, which these networks do not have",
}
"""Optimizers of torch that cannot train convolutional networks, and why."""


class WrongResultError(InvalidArgumentError):
    """What a name stands for returns something of another type than its kind has."""


def build_optimizer(
    model: nn.Module,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    backbone_lr_factor: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> torch.optim.Optimizer:
    """Returns the optimizer over the trainable parameters.

    If torch has a fused implementation for their device, it is used unless `params` choose an implementation: one pass
    over memory instead of one per operation, about three times as fast on a CPU.

    Args:
        model: already on its device.
        name: of the optimizer, see `seg_core.registry.OPTIMIZERS`.
        params: arguments of the optimizer.
        backbone_lr_factor: see `parameter_groups`.
        decay_norms_and_biases: see `parameter_groups`.

    Raises:
        UnknownNameError: if there is no optimizer of that name.
        InvalidArgumentError: if the optimizer cannot train these networks, or the groups are not possible.
        WrongResultError: if it is no optimizer.
        ValueError: if the optimizer itself rejects a value.
    """
    if name in REFUSED:
        raise InvalidArgumentError(f"{name} cannot train these networks: {REFUSED[name]}; use AdamW")
    factory = OPTIMIZERS.get(name)
    grouped = backbone_lr_factor != 1 or not decay_norms_and_biases
    if grouped and name == "LBFGS":
        raise InvalidArgumentError(
            "LBFGS takes all parameters in one group; leave backbone_lr_factor at 1 and decay_norms_and_biases at "
            "true, or use AdamW"
        )
    arguments = dict(params or {})
    taken = parameters_of(factory)
    parameters: list[Any] = [p for p in model.parameters() if p.requires_grad]
    trainable = list(parameters)
    if grouped:
        parameters = parameter_groups(
            model,
            lr=arguments.get("lr", _default(taken, "lr")),
            backbone_lr_factor=backbone_lr_factor,
            decay_norms_and_biases=decay_norms_and_biases,
        )
    if "fused" in taken and not any(name in arguments for name in _IMPLEMENTATIONS):
        # older versions of torch have a fused Adagrad only for CPUs, and raise only at the first step
        devices = ("cpu",) if name == "Adagrad" else ("cpu", "cuda")
        # torch has no fused SGD for tensors that are sharded over processes
        sharded = any(hasattr(p, "device_mesh") for p in trainable)
        arguments["fused"] = not sharded and all(p.device.type in devices and p.is_floating_point() for p in trainable)
    optimizer = factory(parameters, **arguments)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise WrongResultError(
            f"{name} must return an optimizer, a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    return optimizer


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | None = None,
    backbone_lr_factor: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> list[dict[str, Any]]:
    """Returns the trainable parameters as groups with their own options, for any optimizer of torch.

    Each parameter is in one group, named `"head"` or `"backbone"`, with the suffix `" without decay"` for norms and
    biases that have no weight decay. Empty groups are left out.

    Args:
        model: network whose attribute `backbone`, if any, is the backbone.
        lr: learning rate of all parameters but the backbone's; required if the factor is not 1.
        backbone_lr_factor: above 0, the backbone's learning rate divided by `lr`.
        decay_norms_and_biases: whether the optimizer's weight decay applies to one-dimensional parameters (biases,
            scales and shifts of norms, slopes of PReLUs) and all parameters of norms.

    Raises:
        InvalidArgumentError: if the factor is not above 0, the model has no backbone, or `lr` is missing.
    """
    if not 0 < backbone_lr_factor < float("inf"):
        raise InvalidArgumentError(f"backbone_lr_factor must be a finite number above 0, got {backbone_lr_factor!r}")
    backbone_options: dict[str, Any] = {}
    if backbone_lr_factor != 1:
        if lr is None:
            raise InvalidArgumentError("lr is required, as backbone_lr_factor is a factor of it")
        backbone_options["lr"] = lr * backbone_lr_factor
    backbone = getattr(model, "backbone", None)
    if backbone_options and not isinstance(backbone, nn.Module):
        raise InvalidArgumentError(
            f"backbone_lr_factor = {backbone_lr_factor}, but {type(model).__name__} has no backbone; leave it at 1"
        )
    in_backbone = set()
    if backbone_options and isinstance(backbone, nn.Module):
        in_backbone = {id(p) for p in backbone.parameters()}
    undecayed = set() if decay_norms_and_biases else _norms_and_biases(model)
    groups: list[dict[str, Any]] = []
    for name, options in (("head", {}), ("backbone", backbone_options)):
        members = [p for p in _trainable(model) if (id(p) in in_backbone) == (name == "backbone")]
        decayed = [p for p in members if id(p) not in undecayed]
        others = [p for p in members if id(p) in undecayed]
        groups.append({"name": name, "params": decayed, **options})
        groups.append({"name": f"{name} without decay", "params": others, "weight_decay": 0.0, **options})
    return [group for group in groups if group["params"]]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether `step` requires a closure that recomputes the loss and the gradients, as LBFGS does.

    Args:
        optimizer: of torch, or prepared by accelerate.
    """
    plain = getattr(optimizer, "optimizer", optimizer)
    closure = parameters_of(type(plain).step).get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _trainable(model: nn.Module) -> Iterable[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)


def _norms_and_biases(model: nn.Module) -> set[int]:
    """Returns the ids of parameters with at most one dimension, and of all parameters of norms."""
    return {
        id(p)
        for module in model.modules()
        for p in module.parameters(recurse=False)
        if p.ndim < 2 or isinstance(module, _NORMS)
    }


def _default(taken: Any, name: str) -> Any:
    parameter = taken.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
