"""Mistakes in loggers and predictors of a user's own that their signatures do not show."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.randomness import isolated_randomness
from seg_core.registry import resolve_target
from seg_core.spec import takes_any

__all__ = ["logger_problems", "passed_on_problems"]


class _AnyNetwork(nn.Module):
    """A network of two classes that takes any option."""

    def forward(self, images: Tensor, **options: object) -> dict[str, Tensor]:  # noqa: ARG002 - as a network's own
        return {"out": images[:, :2]}


def logger_problems(name: str, logger: Callable[..., Any]) -> list[str]:
    """Returns what is wrong with a class of a logger: the trainer calls hooks that it must have."""
    base = resolve_target("seg_train.loggers.base:Logger")  # at run time: loggers import configs
    if not isinstance(logger, type) or issubclass(logger, base):
        return []
    return [f"log.{name}: {name} must be a subclass of seg_train.Logger, which has all hooks; write class X(Logger)"]


def passed_on_problems(name: str, predictor: Callable[..., Any], params: Mapping[str, Any]) -> list[str]:
    """Returns the params that a predictor with `**kwargs` passes on to something that does not take them.

    Args:
        name: of the predictor.
        predictor: called on a tiny image with a network of no parameters; errors for another reason are none here.
        params: as in the config.
    """
    if not params or not takes_any(predictor):
        return []
    try:
        with isolated_randomness(0), torch.inference_mode():
            predictor(_AnyNetwork().eval(), torch.zeros(1, 3, 64, 64), **params)
    except TypeError as error:
        return [
            f"evaluation.params.{param} = {value}: {name} passes it on, and it is not taken there ({error})"
            for param, value in params.items()
            if f"unexpected keyword argument '{param}'" in str(error)
        ]
    except Exception:  # it may need more of a network than this one has
        return []
    return []
