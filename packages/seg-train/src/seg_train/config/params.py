"""Compares the params of a config with the signatures of the targets, and with what the trainer passes itself."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seg_core.errors import UserError
from seg_core.spec import (
    leading_parameters,
    param_problems,
    parameters_of,
    takes,
    takes_any,
    takes_any_position,
    takes_number,
)
from seg_train.config.other_names import DATASET_PARAMS, LOSS_PARAMS, MODEL_PARAMS
from seg_train.config.pixseg_keys import LOGGER_PARAMS

__all__ = [
    "DATASET",
    "LOGGER",
    "LOSS",
    "MODEL",
    "OPTIMIZER",
    "PREDICTOR",
    "SCHEDULER",
    "TRANSFORM",
    "Call",
    "option_problems",
    "reason",
]


_USED = re.compile(r"\buse (\w+) (?:=|for)")


@dataclass(frozen=True)
class Call:
    """How the trainer calls the targets of one kind.

    Attributes:
        owned: arguments that `params` must not set -> why, or what to set instead.
        positional: those of `owned` that are passed first, by position; the target may name them otherwise.
        passed: arguments that are passed by name if the target takes them.
        required: those of `passed` that are always passed, so that the target must take them.
        elsewhere: params of other toolkits -> what to set instead, for those that the target does not take.
    """

    owned: Mapping[str, str]
    positional: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    required: tuple[str, ...] = field(default=())
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def problems(
        self,
        section: str,
        name: str,
        target: Callable[..., Any],
        params: Mapping[str, Any],
        *,
        key: str = "",
        supplied: Collection[str] = (),
    ) -> list[str]:
        """Returns what is wrong with the params of a target, or with the target itself, with full keys.

        Args:
            section: key of the section with the name, such as `"model"`.
            name: name of the target.
            target: the function or class.
            params: as in the config.
            key: key of the params; `section.params` by default.
            supplied: parameters that the trainer fills in if `params` do not set them.
        """
        key = key or f"{section}.params"
        leading = leading_parameters(target, len(self.positional))
        roles = dict(zip(leading, self.positional, strict=False))
        owned = {**self.owned, **{own: self.owned[role] for own, role in roles.items()}}
        # advice to use another parameter is of no help where the target does not have it
        elsewhere = {
            word: advice
            for word, advice in self.elsewhere.items()
            if not (used := _USED.search(advice)) or takes(target, used[1])
        }
        found = param_problems(name, target, params, owned, key=key, supplied=supplied, elsewhere=elsewhere)
        handed = {*leading, *self.passed}
        found.extend(
            f"{section}: {name} has no default for {parameter!r}, which the trainer does not pass; give it one"
            for parameter, p in parameters_of(target).items()
            if parameter in self.owned and parameter not in handed and p.default is p.empty
        )
        if wrong := self._positional_problem(section, name, target, leading):
            return [*found, wrong]
        lacking = [argument for argument in self.required if argument not in parameters_of(target)]
        if lacking and not takes_any(target):
            found.append(
                f"{section}: {name} must take {', '.join(map(repr, lacking))}, which the trainer passes; add "
                f"{'it' if len(lacking) == 1 else 'them'}, or **kwargs"
            )
        return found

    def _positional_problem(
        self, section: str, name: str, target: Callable[..., Any], leading: Sequence[str]
    ) -> str | None:
        """Returns what is wrong with the first parameters, which get arguments by position, or None."""
        if takes_any_position(target):
            return None
        call = f"it is called as {name.rpartition(':')[2]}({', '.join((*self.positional, *self.required))}, ...)"
        if len(leading) < len(self.positional):
            lacking = self.positional[len(leading)]
            return f"{section}: {name} must take {lacking!r} as its parameter number {len(leading) + 1}; {call}"
        for own, role in zip(leading, self.positional, strict=True):
            if own != role and (own in self.owned or takes_number(target, own)):
                told = f"the parameter {own!r} of {name} would get {role!r}; let it take {role} first"
                return f"{section}: {told}: {call}"
        return None


_BUILDER = ("weights", "num_classes", "aux_loss", "weights_backbone", "variant")
MODEL = Call(
    {
        "num_classes": "it comes from the dataset",
        "weights": "set model.weights",
        "weights_backbone": "set model.weights_backbone",
        "aux_loss": "set model.aux_loss",
        "variant": "set model.variant",
        "progress": "the trainer sets it",
    },
    passed=(*_BUILDER, "in_channels"),
    required=_BUILDER,
    elsewhere=MODEL_PARAMS,
)
DATASET = Call(
    {
        "root": "set data.dataset.root",
        "split": "set data.dataset.train_split and data.dataset.val_split",
        "transforms": "set data.transform",
    },
    positional=("root",),
    passed=("split",),
    required=("split",),
    elsewhere=DATASET_PARAMS,
)
LOSS = Call(
    {
        "weight": "set criterion.class_weights",
        "ignore_index": "it comes from the dataset",
        "task": "it comes from the dataset",
        "reduction": "the trainer needs the mean",
    },
    passed=("weight", "ignore_index", "task"),
    elsewhere=LOSS_PARAMS,
)
OPTIMIZER = Call({"params": "they are the network's"}, positional=("params",))
SCHEDULER = Call({"optimizer": "it is the [optimizer]", "last_epoch": "the trainer sets it"}, positional=("optimizer",))
LOGGER = Call({"run_dir": "set paths.output and paths.run"}, positional=("run_dir",), elsewhere=LOGGER_PARAMS)
TRANSFORM = Call({})
PREDICTOR = Call(
    {
        "model": "it is the trained network",
        "images": "they are the val images",
        "size": "it is the size of the masks",
        "task": "it comes from the dataset",
        "thresholds": "they are 0.5; evaluation.tune_threshold = true chooses others",
        "output": "the evaluation sets it; set evaluation.loss = false for labels only",
    },
    positional=("model", "images"),
    passed=("size", "output", "task", "thresholds"),
)


def reason(error: Exception, given: Mapping[str, Any]) -> str:
    """Returns the message of an error; those of torch name no argument, so the given ones follow."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error) if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: {error}"
    values = ", ".join(f"{name} = {json.dumps(value, default=str)}" for name, value in given.items())
    if not values:
        return text
    how = "; lists are written as [30, 60], numbers without quotes" * isinstance(error, TypeError)
    return f"{text}; correct {'one of ' * (len(given) > 1)}{values}{how}"


def option_problems(dataset: Any, root: str | None, params: Mapping[str, Any]) -> list[str]:
    """Returns what a dataset class itself finds wrong with its root and options, one sentence per problem.

    A class may have the classmethod `option_problems(root, params)`, which must be fast: it may look for files, but
    reads no images. It is asked about what a signature does not tell, such as options that need each other.

    Args:
        dataset: the registered class or function.
        root: as in the config.
        params: as in the config; their names are those of parameters.
    """
    ask = getattr(dataset, "option_problems", None)
    if not callable(ask):
        return []
    try:
        return [str(problem) for problem in ask(root, params)]
    except UserError as error:  # such as that of a root that does not exist
        return [str(error)]
