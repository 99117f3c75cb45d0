"""An optimizer and the steps of a run, for the tests of schedulers."""

import random

import torch


def make_optimizer():
    groups = [{"params": torch.nn.Parameter(torch.zeros(2)), "lr": 0.1}, {"params": torch.nn.Parameter(torch.zeros(1))}]
    return torch.optim.SGD(groups, lr=0.02, momentum=0.9)


def scores(step):
    return {"miou": random.Random(step).random(), "loss": 1 / (step + 1)}


def advance(optimizer, scheduler, step, steps_per_epoch=1):
    """Makes one step as the trainer does."""
    optimizer.step()
    scheduler.step()
    if (step + 1) % steps_per_epoch == 0:
        scheduler.end_epoch(scores(step))


def curve(optimizer, scheduler, steps, steps_per_epoch=1, start=0):
    """Returns the learning rate of the first group at each step."""
    found = []
    for step in range(start, steps):
        found.append(optimizer.param_groups[0]["lr"])
        advance(optimizer, scheduler, step, steps_per_epoch)
    return found
