"""Writes the signature and the documentation of builders, from their options.

A builder is a short function that takes `**arguments`. This module writes what `help()`, `inspect.signature` and,
through the package's stub file, type checkers show: `CommonOptions`, then the options of the network with the defaults
of its variant "paper".
"""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar

from seg_models.builders.options import PAPER, WITHOUT_OPTIONS, CommonOptions, Options, Variants, find_variant
from seg_models.other_names import explain_options, refuse_positional

__all__ = ["builder", "on_backbone"]

P = ParamSpec("P")
T = TypeVar("T")

_BACKBONE = "name of the backbone, see `list_backbones`, or `timm:` and a timm name."
_RAISES = """\
Raises:
    TypeError: if there is no such option.
    UnknownNameError: if the weights, the backbone or the variant do not exist.
    InvalidArgumentError: if an option has a value that is not allowed, or contradicts another one.
    CorruptFileError: if the checkpoint is damaged or of another network.
    WriteError: if weights cannot be fetched.
"""


def builder(variants: Variants = WITHOUT_OPTIONS) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Returns a decorator that completes a builder, which takes `**arguments`: writes its signature and documentation.

    Args:
        variants: as in `build_network`.
    """

    def complete(function: Callable[P, T]) -> Callable[P, T]:
        positional = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        return _complete(function, function, positional, variants, backbone=None)

    return complete


def on_backbone(function: Callable[..., T], backbone: str) -> Callable[..., T]:
    """Returns the builder `<network>_<backbone>` of a builder that takes the backbone's name first."""
    name = f"{function.__name__}_{backbone}"

    def build(**arguments: Any) -> T:
        return function(backbone, **arguments)

    build.__name__ = build.__qualname__ = name
    build.__module__ = function.__module__
    build.__doc__ = (function.__doc__ or "").replace("the named backbone", f"`{backbone}`", 1)
    return _complete(build, function, [], function.variants, backbone)  # type: ignore[attr-defined]  # see _complete


def _complete(
    call: Callable[P, T],
    source: Callable[..., object],
    positional: list[inspect.Parameter],
    variants: Variants,
    backbone: str | None,
) -> Callable[P, T]:
    """Returns `call` with the signature of a builder, its documentation, and `variants` as an attribute."""
    options = find_variant(variants, PAPER, backbone)
    assert isinstance(options, Options)
    keywords = [_parameter(CommonOptions(), field.name, field.type) for field in fields(CommonOptions)]
    own = [_parameter(options, field.name, field.type) for field in fields(options)]
    # the network's options come before those that are passed on to the backbone
    own.sort(key=lambda parameter: parameter.name == "backbone_options")
    parameters = [*positional, *keywords, *own]
    signature = inspect.Signature(parameters, return_annotation=inspect.signature(source).return_annotation)

    name = call.__name__

    @functools.wraps(call)
    def build(*args: P.args, **kwargs: P.kwargs) -> T:
        chosen: Any = backbone or next(iter(args), None) or kwargs.get("backbone")
        if message := explain_options(kwargs, signature.parameters, model=name, backbone=chosen):
            raise TypeError(f"{name}(): {message}")
        refuse_positional(name, len(positional), args, signature.parameters, model=name)
        signature.bind(*args, **kwargs)  # an unknown option is a TypeError, as with any function
        return call(*args, **kwargs)

    described = {"backbone": _BACKBONE, **_described(CommonOptions), **_described(type(options))}
    listed = "\n".join(f"    {parameter.name}: {described[parameter.name]}" for parameter in parameters)
    summary = (inspect.getdoc(call) or "").partition("\n\nArgs:\n")[0]
    build.__doc__ = f"{summary}\n\nArgs:\n{listed}\n\n{_RAISES}"
    build.__signature__ = signature  # type: ignore[attr-defined]  # inspect reads it
    build.variants = variants  # type: ignore[attr-defined]  # on_backbone reads it
    return build


def _parameter(options: object, name: str, annotation: Any) -> inspect.Parameter:
    default = getattr(options, name)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _described(options: type) -> dict[str, str]:
    """Option -> its description, from the `Attributes:` sections of the class and of those it derives from."""
    found: dict[str, str] = {}
    for base in reversed(options.__mro__[:-1]):
        section = (inspect.cleandoc(base.__doc__ or "")).partition("Attributes:\n")[2].partition("\n\n")[0]
        for paragraph in re.split(r"\n    (?=\w)", f"\n{section}")[1:]:  # four spaces start an attribute
            name, _, text = paragraph.partition(": ")
            found[name] = text
    return found
