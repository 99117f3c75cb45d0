"""Makes the optimizer that a config names, over groups of parameters where it wants different rates or decays."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from seg_core.errors import InvalidArgumentError
from seg_core.registry import OPTIMIZERS

__all__ = ["REFUSED", "build_optimizer", "needs_closure", "parameter_groups"]

# How an optimizer loops over the parameters; one of these in the config is the user's own choice.
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable", "compile")
_NORMS = (nn.LayerNorm, nn.RMSNorm)  # whose scales have as many axes as they norm over; those of the others have one
REFUSED = {
    "Muon": "it takes matrices only, and convolutions, norms and biases are none",
    "SparseAdam": "it takes sparse gradients only, which embeddings have and these networks do not",
}
"""Optimizers of torch that cannot train a network of convolutions by its gradients, and why."""


def build_optimizer(
    model: nn.Module,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    backbone_lr_factor: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> torch.optim.Optimizer:
    """Returns the optimizer over the parameters that learn.

    Where torch has a fused implementation for their device, it is used unless the config chooses one itself: one pass
    over memory instead of one per operation, about three times as fast on a CPU.

    Args:
        model: on the device it stays on.
        name: of the optimizer, see `seg_core.registry.OPTIMIZERS`.
        params: its arguments.
        backbone_lr_factor: see `parameter_groups`.
        decay_norms_and_biases: see `parameter_groups`.

    Raises:
        UnknownNameError: if there is no optimizer of that name.
        InvalidArgumentError: if it cannot train these networks, or the groups cannot be made.
        ValueError: what the optimizer itself raises for a value out of range.
    """
    if name in REFUSED:
        raise InvalidArgumentError(f"{name} cannot train these networks: {REFUSED[name]}; take AdamW")
    factory = OPTIMIZERS.get(name)
    grouped = backbone_lr_factor != 1 or not decay_norms_and_biases
    if grouped and name == "LBFGS":
        raise InvalidArgumentError(
            "LBFGS takes all parameters in one group; leave backbone_lr_factor at 1 and decay_norms_and_biases at "
            "true, or take AdamW"
        )
    arguments = dict(params or {})
    taken = inspect.signature(factory).parameters
    parameters: list[Any] = [p for p in model.parameters() if p.requires_grad]
    learning = list(parameters)
    if grouped:
        parameters = parameter_groups(
            model,
            lr=arguments.get("lr", _default(taken, "lr")),
            backbone_lr_factor=backbone_lr_factor,
            decay_norms_and_biases=decay_norms_and_biases,
        )
    if "fused" in taken and not any(name in arguments for name in _IMPLEMENTATIONS):
        # older versions of torch have that of Adagrad for CPUs alone, and say so only at the first step
        devices = ("cpu",) if name == "Adagrad" else ("cpu", "cuda")
        # torch has the fused SGD for whole tensors alone, and not for those that processes share
        shared = any(hasattr(p, "device_mesh") for p in learning)
        arguments["fused"] = not shared and all(p.device.type in devices and p.is_floating_point() for p in learning)
    optimizer: torch.optim.Optimizer = factory(parameters, **arguments)
    return optimizer


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | None = None,
    backbone_lr_factor: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> list[dict[str, Any]]:
    """Returns the parameters that learn as groups with options of their own, for any optimizer of torch.

    Each parameter is in one group, named `"head"` or `"backbone"`, with `" without decay"` behind it for norms and
    biases that are not decayed. Groups without parameters are left out.

    Args:
        model: network; what its attribute `backbone` holds is the backbone.
        lr: learning rate of everything but the backbone; needed for a factor unlike 1.
        backbone_lr_factor: above 0, the backbone's learning rate divided by `lr`.
        decay_norms_and_biases: whether parameters of one dimension (biases, the scales and shifts of norms, the slopes
            of PReLUs) and all others of norms have the optimizer's weight decay, or none.

    Raises:
        InvalidArgumentError: if the factor is not above 0, the model has no backbone, or `lr` is missing.
    """
    if not 0 < backbone_lr_factor < float("inf"):
        raise InvalidArgumentError(f"backbone_lr_factor must be a finite number above 0, got {backbone_lr_factor!r}")
    own: dict[str, Any] = {}
    if backbone_lr_factor != 1:
        if lr is None:
            raise InvalidArgumentError("lr must be given, so that backbone_lr_factor has something to be a factor of")
        own["lr"] = lr * backbone_lr_factor
    backbone = getattr(model, "backbone", None)
    if own and not isinstance(backbone, nn.Module):
        raise InvalidArgumentError(
            f"backbone_lr_factor = {backbone_lr_factor}, but {type(model).__name__} has no backbone; leave it at 1"
        )
    in_backbone = {id(p) for p in backbone.parameters()} if isinstance(backbone, nn.Module) and own else set()
    undecayed = set() if decay_norms_and_biases else _norms_and_biases(model)
    groups: list[dict[str, Any]] = []
    for part, rate in (("head", {}), ("backbone", own)):
        members = [p for p in _learning(model) if (id(p) in in_backbone) == (part == "backbone")]
        plain = [p for p in members if id(p) not in undecayed]
        rest = [p for p in members if id(p) in undecayed]
        groups.append({"name": part, "params": plain, **rate})
        groups.append({"name": f"{part} without decay", "params": rest, "weight_decay": 0.0, **rate})
    return [group for group in groups if group["params"]]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step needs a function that computes the loss and the gradients anew, as that of LBFGS does.

    Args:
        optimizer: of torch, or one prepared by accelerate.
    """
    plain = getattr(optimizer, "optimizer", optimizer)
    closure = inspect.signature(type(plain).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _learning(model: nn.Module) -> Iterable[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)


def _norms_and_biases(model: nn.Module) -> set[int]:
    """Returns the identities of the parameters of one dimension or none, and of those of norms over several axes."""
    return {
        id(p)
        for module in model.modules()
        for p in module.parameters(recurse=False)
        if p.ndim < 2 or isinstance(module, _NORMS)
    }


def _default(taken: Any, name: str) -> Any:
    parameter = taken.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
