"""Objects given by name and params, as in configs: checks the params, builds the object, and lists its options.

All code that reads signatures at run time is in this module.
"""

import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seg_core.checks import is_number
from seg_core.errors import InvalidArgumentError, nearest
from seg_core.registry import Registry

__all__ = [
    "Option",
    "build_named",
    "check_params",
    "documented_options",
    "leading_parameters",
    "param_problems",
    "parameters_of",
    "shown_default",
    "takes",
    "takes_any",
    "takes_any_position",
    "takes_number",
]


_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ?(.*)")


@dataclass(frozen=True)
class Option:
    """A parameter of a function or class, and what its documentation says about it.

    Attributes:
        name: its name.
        default: its default; `inspect.Parameter.empty` if it has none.
        meaning: its description in one line; "" if there is none.
        home: name of the function or class that describes it, which for a class may be a base class.
    """

    name: str
    default: Any
    meaning: str
    home: str

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


def parameters_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a function or class that can be passed by name, without `*args` and `**kwargs`."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(target).parameters.items() if p.kind in by_name}


def takes(target: Callable[..., Any], name: str) -> bool:
    """Returns whether a function or class has a parameter of this name; `**kwargs` do not count."""
    return name in parameters_of(target)


def documented_options(target: Callable[..., Any], without: Collection[str] = ()) -> list[Option]:
    """Returns the parameters of a function or class, in their order, with their descriptions.

    A description is an entry under "Args:" in a docstring of Google's style: of the class, of its `__init__`, or of a
    base class, the nearest first.

    Args:
        target: the function or class.
        without: parameters to leave out, such as those that the caller sets.
    """
    described: dict[str, tuple[str, str]] = {}
    for home, docstring in _docstrings(target):
        for name, meaning in _entries(docstring):
            described.setdefault(name, (meaning, home))
    return [
        Option(name, p.default, *described.get(name, ("", "")))
        for name, p in parameters_of(target).items()
        if name not in without
    ]


def shown_default(option: Option) -> str:
    """Returns the default of an option as a config writes it: `"text"`, `true`, `[1, 2]`; others as in Python.

    >>> shown_default(Option("missing", "error", "", "")), shown_default(Option("scales", (0.5, 1.0), "", ""))
    ('"error"', '[0.5, 1.0]')
    """
    try:
        return "None" if option.default is None else json.dumps(option.default)
    except TypeError:
        return str(getattr(option.default, "__name__", repr(option.default)))


def _docstrings(target: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yields the docstrings that describe the parameters of a target, the nearest first, each with its owner's name."""
    if not isinstance(target, type):
        yield getattr(target, "__name__", ""), target.__doc__ or ""
        return
    for base in target.__mro__:
        yield base.__name__, base.__doc__ or ""
        yield base.__name__, getattr(base.__dict__.get("__init__"), "__doc__", None) or ""


def _entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Yields the names and descriptions under "Args:" in a docstring; the descriptions are one line each."""
    lines = inspect.cleandoc(docstring).splitlines()
    if "Args:" not in lines:
        return
    section: list[str] = []
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        section.append(line)
    names: list[str] = []
    text: list[str] = []
    for line in (*inspect.cleandoc("\n" + "\n".join(section)).splitlines(), "end: "):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            text.append(line.strip())
            continue
        yield from ((name, " ".join(filter(None, text))) for name in names)
        names, text = [name.lstrip("*") for name in entry[1].split(", ")], [entry[2]]


def takes_any(target: Callable[..., Any]) -> bool:
    """Returns whether a function or class has `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def takes_any_position(target: Callable[..., Any]) -> bool:
    """Returns whether a function or class has `*args`."""
    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(target).parameters.values())


def takes_number(target: Callable[..., Any], name: str) -> bool:
    """Returns whether a parameter is a number, or several, by its default or else its annotation."""
    parameter = inspect.signature(target).parameters[name]
    return isinstance(parameter.default, bool) or _takes_numbers(parameter)


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
    elsewhere: Mapping[str, str] | None = None,
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
        elsewhere: parameters that similar targets of other projects have -> what to do instead.
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
            hint = nearest(param, own)
            if elsewhere and (advice := elsewhere.get(param)):
                hint = f" {advice[0].upper()}{advice[1:]}."
            found.append(f"{place}{name} {what}.{hint} Allowed: {', '.join(own) or 'none'}")
        elif param in own and _is_number_as_text(value) and _takes_numbers(own[param]):
            place = f"{key}.{param} = " if key else f"{name}: {param} = "
            found.append(
                f"{place}{json.dumps(value)}: must be a number, without quotes: {json.dumps(_as_number(value))}"
            )
    if complete:
        for param, p in own.items():
            if p.default is p.empty and param not in params and param not in supplied:
                where = f"{key}.{param} is missing" if key else f"{param} is missing"
                found.append(f"{where}: {name} has no default for it")
    return found


def _takes_numbers(parameter: inspect.Parameter) -> bool:
    """Returns whether a parameter is a number, or several, by its default or else its annotation."""
    default = parameter.default
    values = default if isinstance(default, tuple | list) else (default,)
    if values and all(is_number(value) for value in values):
        return True
    if default is not None and default is not parameter.empty:
        return False
    annotation = parameter.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return bool(re.search(r"\b(int|float)\b", text)) and not re.search(r"\bstr\b", text)


def _is_number_as_text(value: object) -> bool:
    """Returns whether a value is a string that is a number, or several numbers of which some are strings."""
    if isinstance(value, list | tuple):
        return any(isinstance(v, str) for v in value) and all(is_number(v) or _is_number_as_text(v) for v in value)
    if not isinstance(value, str):
        return False
    try:
        float(value.replace(",", ".", 1))  # a decimal comma too
    except ValueError:
        return False
    return True


def _as_number(value: Any) -> Any:
    """Returns the number, or the numbers, that a value for which `_is_number_as_text` holds means."""
    if isinstance(value, list | tuple):
        return [_as_number(item) for item in value]
    if not isinstance(value, str):
        return value
    number = float(value.replace(",", ".", 1))
    return int(number) if number.is_integer() and value.strip().lstrip("+-").isdecimal() else number


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
