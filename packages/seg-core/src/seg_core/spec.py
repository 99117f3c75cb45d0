"""Objects given by name and params, as in configs: checks the params, and builds the object.

All code that reads signatures at run time is in this module.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from seg_core.errors import InvalidArgumentError, nearest
from seg_core.registry import Registry

__all__ = [
    "build_named",
    "check_params",
    "leading_parameters",
    "param_problems",
    "parameters_of",
    "takes",
    "takes_any",
]


def parameters_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a function or class that can be passed by name, without `*args` and `**kwargs`."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(target).parameters.items() if p.kind in by_name}


def takes(target: Callable[..., Any], name: str) -> bool:
    """Returns whether a function or class has a parameter of this name; `**kwargs` do not count."""
    return name in parameters_of(target)


def takes_any(target: Callable[..., Any]) -> bool:
    """Returns whether a function or class has `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def leading_parameters(target: Callable[..., Any], count: int) -> list[str]:
    """Returns the names of the first `count` parameters that can be passed by position; fewer if it has fewer."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, p in inspect.signature(target).parameters.items() if p.kind in by_position][:count]


def param_problems(
    name: str,
    target: Callable[..., Any],
    params: Mapping[str, Any],
    given: Collection[str] | Mapping[str, str] = (),
    *,
    key: str = "",
    complete: bool = True,
    supplied: Collection[str] = (),
) -> list[str]:
    """Returns what is wrong with the params of a target, one sentence per problem.

    Args:
        name: name of the target, for messages.
        target: the function or class that is called with `params`.
        params: params by name, as set by the user.
        given: parameters that the caller sets itself, so the user must not; as a mapping, with the reason or
            what to set instead.
        key: where the user set the params, such as `"optimizer.params"`; "" for arguments of a function.
        complete: whether a parameter without a default is a problem if it is in none of `params`, `given`, `supplied`.
        supplied: parameters that the caller sets if `params` do not.
    """
    own = {parameter: p for parameter, p in parameters_of(target).items() if parameter not in given}
    found = []
    for param, value in params.items():
        place = f"{key}.{param} = {value}: " if key else ""
        if param in given:
            reason = f"; {given[param]}" if isinstance(given, Mapping) else ""
            found.append(f"{place}not set here{reason}" if key else f"{name}: {param} cannot be given here{reason}")
        elif param not in own and not takes_any(target):
            what = "has no such parameter" if key else f"has no parameter {param!r}"
            found.append(f"{place}{name} {what}.{nearest(param, own)} Allowed: {', '.join(own) or 'none'}")
    if complete:
        for param, p in own.items():
            if p.default is p.empty and param not in params and param not in supplied:
                where = f"{key}.{param} is missing" if key else f"{param} is missing"
                found.append(f"{where}: {name} has no default for it")
    return found


def check_params(
    name: str,
    target: Callable[..., Any],
    params: Mapping[str, Any],
    given: Collection[str] | Mapping[str, str] = (),
    *,
    key: str = "",
    complete: bool = True,
) -> None:
    """Checks the params of a target, see `param_problems`.

    Raises:
        InvalidArgumentError: if something is wrong; the message is the first problem.
    """
    if found := param_problems(name, target, params, given, key=key, complete=complete):
        raise InvalidArgumentError(found[0])


def build_named(registry: Registry, name: str, params: Mapping[str, Any], *args: Any, **given: Any) -> Any:
    """Looks up a name, checks its params, and builds the object.

    Args:
        registry: registry that contains the name.
        name: name of a function or class.
        params: its arguments, as set by the user.
        *args: its first arguments, which the user cannot set.
        **given: more arguments: each is passed only if the target has a parameter of that name and `params` does not
            set it.

    Raises:
        UnknownNameError: if the registry does not know the name.
        InvalidArgumentError: if the target does not have one of the params, or one is missing.
    """
    target = registry.get(name)
    handed = {key: value for key, value in given.items() if takes(target, key)}
    arguments = {**handed, **params}
    check_params(f"{registry.noun} {name!r}", target, arguments, list(parameters_of(target))[: len(args)])
    return target(*args, **arguments)
