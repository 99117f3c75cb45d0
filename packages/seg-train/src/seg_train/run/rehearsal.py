"""A rehearsal of the first step after a resume: a state that cannot be stepped is found before anything is changed.

Optimizers and learning-rate schedulers accept any value in a state and fail when they use it, some only epochs later.
Copies are stepped here, of one parameter at a time, so that the memory and the time are those of one small step.
"""

import copy
import math
import types
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seg_core.checks import is_integer
from seg_core.errors import UserError
from seg_core.text import short
from seg_train.optim.warmup import Scheduler

__all__ = ["check_scaler", "rehearse_optimizer", "rehearse_scheduler"]

_KNOWN = ("torch.optim.", "seg_train.optim.")  # others may keep state outside of `state`, which a copy would share
_LARGEST_SCALE = 2.0**127


def rehearse_optimizer(optimizer: Any) -> None:
    """Steps a copy of an optimizer with gradients of zero, one parameter after the other.

    An optimizer of another package is checked for its learning rates alone.

    Args:
        optimizer: with the loaded state; also as accelerate wraps it.

    Raises:
        ValueError: if a learning rate is no number >= 0.
        Exception: whatever a step with this state raises.
    """
    whole: Optimizer = getattr(optimizer, "optimizer", optimizer)
    for number, group in enumerate(whole.param_groups):
        if not _is_rate(group.get("lr", 0)):
            raise ValueError(f"the learning rate {short(group['lr'])} of group {number} of the optimizer")
    kind = type(whole)
    if not kind.__module__.startswith(_KNOWN) or kind is torch.optim.LBFGS:  # LBFGS steps with a closure
        return
    for group in whole.param_groups:
        for parameter in group["params"]:
            state = whole.state.get(parameter)
            if not state:
                continue
            _check_shapes(kind, group, parameter, state)
            stand_in = nn.Parameter(parameter.detach().clone())
            stand_in.grad = torch.zeros_like(stand_in)
            rehearsed = object.__new__(kind)
            rehearsed.__dict__.update(whole.__dict__)
            rehearsed.__dict__.pop("step", None)  # a scheduler's wrapper, which is bound to the optimizer itself
            rehearsed._optimizer_step_pre_hooks = OrderedDict()
            rehearsed._optimizer_step_post_hooks = OrderedDict()
            options = _copied(group, but="params")
            if options.get("compile") is True:  # of Padam; it would compile for one step
                options["compile"] = False
            rehearsed.param_groups = [{**options, "params": [stand_in]}]
            rehearsed.state = defaultdict(dict, {stand_in: copy.deepcopy(state)})
            try:
                rehearsed.step()
            except UserError as error:  # about the optimizer's options; the caller names the file that they are from
                raise ValueError(str(error)) from error


def rehearse_scheduler(scheduler: Scheduler, state: Mapping[str, Any]) -> None:
    """Steps a copy of a learning-rate scheduler by a step and an epoch, on a stand-in of its optimizer.

    Args:
        scheduler: with the loaded state.
        state: what it was loaded from.

    Raises:
        ValueError: if its own numbers are none, or it would set a learning rate that is no number >= 0.
        Exception: whatever a step with this state raises.
    """
    for key in ("steps", "advanced"):
        if not is_integer(state[key], 0):
            raise ValueError(f"{key} = {short(state[key])} of the scheduler, which must be an integer >= 0")
    rates, groups = state["rates"], scheduler.optimizer.param_groups
    if not isinstance(rates, list) or len(rates) != len(groups) or not all(map(_is_rate, rates)):
        raise ValueError(f"rates = {short(rates)} of the scheduler, which must be {len(groups)} numbers >= 0")
    if not type(scheduler.scheduler).__module__.startswith(_KNOWN):
        return

    def step() -> None:
        """Stands for the optimizer's step, which has been called."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # as schedulers look for
    stand_in = types.SimpleNamespace(
        param_groups=[{**_copied(group, but="params"), "params": []} for group in groups],
        step=step,
        _opt_called=True,
        defaults=scheduler.optimizer.defaults,
    )
    rehearsed = copy.deepcopy(scheduler, {id(scheduler.optimizer): stand_in})
    rehearsed.step()
    score = scheduler.watched_score
    rehearsed.end_epoch(None if score is None else {score: 0.5})
    for rate in rehearsed.get_last_lr():
        if not _is_rate(rate):
            raise ValueError(f"the state of the scheduler sets the learning rate {short(rate)}")


def check_scaler(state: Mapping[str, Any]) -> None:
    """Checks the state of a gradient scaler, which takes anything and fails at the first step.

    Raises:
        ValueError: if it holds anything else than numbers of the right range.
    """
    for key in ("scale", "growth_factor", "backoff_factor"):
        value = state[key]
        if not _is_rate(value) or not 0 < value < _LARGEST_SCALE:
            raise ValueError(f"{key} = {short(value)} of the gradient scaler, which must be a number > 0")
    for key in ("growth_interval", "_growth_tracker"):
        if not is_integer(state[key], 0):
            raise ValueError(f"{key} = {short(state[key])} of the gradient scaler, which must be an integer >= 0")


def _check_shapes(kind: type, group: Mapping[str, Any], parameter: Tensor, state: Any) -> None:
    """Checks the tensors of a parameter's state: fused optimizers trust them, and would write beyond their ends."""
    if not isinstance(state, Mapping):
        raise ValueError(f"the state {short(state)} of a parameter in the optimizer")
    for key, value in state.items():
        if not isinstance(value, Tensor) or kind is torch.optim.Adafactor:  # which has rows and columns, and is checked
            continue
        if value.dim() and value.shape != parameter.shape:
            raise ValueError(
                f"{key} of shape {tuple(value.shape)} in the optimizer, for a parameter of shape "
                f"{tuple(parameter.shape)}"
            )
        is_step = key == "step"
        fits = value.dtype == torch.float32 if is_step else not parameter.dim()
        if not value.dim() and group.get("fused") and not fits:
            raise ValueError(f"{key} of type {value.dtype} and shape () in the optimizer")


def _copied(group: Mapping[str, Any], but: str) -> dict[str, Any]:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != but}


def _is_rate(value: object) -> bool:
    """Returns whether a value is a finite number >= 0, or a tensor of one."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            return False
        value = value.item()
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]
