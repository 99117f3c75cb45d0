"""The train and eval mode of a network, for a while."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["eval_mode", "set_eval"]


@contextlib.contextmanager
def eval_mode(model: "nn.Module") -> Iterator[None]:
    """Puts a network in eval mode meanwhile; afterwards each module has its previous mode.

    `model.train()` alone would also set modules to train mode that were in eval mode, such as frozen batch norms.
    """
    modes = [(module, module.training) for module in model.modules()]
    set_eval(model)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def set_eval(model: "nn.Module") -> None:
    """Puts a network in eval mode. An exported program keeps the mode that it was exported in, and refuses the call."""
    if not any(module.training for module in model.modules()):
        return
    try:
        model.eval()
    except NotImplementedError:
        for module in model.modules():
            module.training = False
