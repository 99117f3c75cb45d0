"""A tiny network on which optimizers and schedulers show what they accept, and how much they store."""

import warnings

import torch
from torch import nn

from seg_core.metrics.names import ALL_SCORE_NAMES
from seg_train.optim.optimizers import needs_closure
from seg_train.optim.warmup import Scheduler

__all__ = ["TrialNetwork", "advance", "stored_per_weight", "trial_step"]


class TrialNetwork(nn.Module):
    """A tiny network with a backbone and a head.

    Args:
        width: channels of both.
    """

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(width, width, 1)
        self.head = nn.Conv2d(width, width, 1)


def trial_step(optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    """Takes one step with made-up gradients; some optimizers raise errors only then."""
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    if needs_closure(optimizer):
        # torch annotates the closure as one that returns a float, its optimizers take a tensor
        optimizer.step(lambda: torch.zeros(()))  # type: ignore[arg-type, return-value]
    else:
        optimizer.step()


def stored_per_weight(optimizer: torch.optim.Optimizer, network: nn.Module) -> float:
    """Returns the bytes of state per byte of weights that an optimizer keeps after a step, 2 for Adam.

    Args:
        optimizer: of `network`, which has taken a step.
        network: with enough weights that numbers which are kept once do not matter.
    """
    kept = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    return kept / sum(parameter.nbytes for parameter in network.parameters())


def advance(scheduler: Scheduler) -> None:
    """Advances the scheduler by a few steps and an epoch."""
    with warnings.catch_warnings():
        # the scheduler may have another optimizer than the one that took the step
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for _ in range(scheduler.warmup_steps + 2):
            scheduler.step()
        plain = dict.fromkeys(("loss", "val_loss", *ALL_SCORE_NAMES), 0.5)
        scheduler.end_epoch(plain | {f"ema_{name}": 0.5 for name in plain})
