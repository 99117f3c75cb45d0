"""How builders show themselves: the standard keywords, written once, in every signature and documentation."""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypedDict, TypeVar

from seg_core.model_files.weights import WeightsEnum

__all__ = ["Common", "builder", "on_backbone", "variant"]

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class Common(TypedDict, total=False):
    """The keywords that every builder takes."""

    weights: WeightsEnum | str | os.PathLike[str] | None
    progress: bool
    num_classes: int | None
    class_names: Sequence[str] | None
    aux_loss: bool | None
    weights_backbone: object
    in_channels: int
    variant: str | None


# keyword -> default and description
_COMMON = {
    "weights": (
        None,
        'member of the model\'s weights enum, its name, `"DEFAULT"`, a checkpoint file, or None for fresh parameters.',
    ),
    "progress": (True, "whether a download shows a bar."),
    "num_classes": (None, "of the logits; None takes that of the weights, or 21."),
    "class_names": (
        None,
        "names of the classes that are wanted: each takes the classifier's row of the weights' class of that name, or\n"
        "        of one that means the same; rows of other classes are fresh. The number of classes is theirs.",
    ),
    "aux_loss": (None, "whether there are auxiliary outputs, where the network has any; None is False."),
    "weights_backbone": (
        None,
        'ImageNet weights of the backbone: member of torchvision\'s enum, its name, `"DEFAULT"`, or None for fresh\n'
        "        parameters; for a backbone of timm the tag of its weights.",
    ),
    "in_channels": (3, "channels of the images; ImageNet weights are inflated to other than 3."),
    "variant": (None, "name of a variant of the network, see the catalog; None is that of the weights, or the first."),
}

_RAISES = """\
Raises:
    UnknownNameError: if the weights, the backbone or the variant do not exist.
    InvalidArgumentError: if an option has a value outside of what is allowed or contradicts another.
    CorruptFileError: if the checkpoint is damaged or of another network.
    WriteError: if weights cannot be fetched.
"""


def builder(function: Callable[P, T]) -> Callable[P, T]:
    """Completes a builder whose keywords end in `**common: Unpack[Common]`.

    Its signature names the standard keywords, and its documentation describes them and the errors, beside what the
    function itself says of its own.
    """
    signature = inspect.signature(function)
    hints = Common.__annotations__
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    positional = [p for p in own if p.kind is not p.KEYWORD_ONLY]
    standard = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, (default, _) in _COMMON.items()
    ]
    options = [p for p in own if p.kind is p.KEYWORD_ONLY]
    described = {name: f"    {name}: {text}" for name, (_, text) in _COMMON.items()}
    _show(function, function, [*positional, *standard, *options], described)
    return function


def on_backbone(function: Callable[Concatenate[str, P], T], backbone: str) -> Callable[P, T]:
    """Returns the builder `<network>_<backbone>` of a builder that takes the backbone's name first."""
    return variant(function, f"{function.__name__}_{backbone}", backbone, f"`{backbone}`")


def variant(function: Callable[Concatenate[A, P], T], name: str, first: A, title: str) -> Callable[P, T]:
    """Returns the builder `name`, which calls `function` with that first argument.

    Args:
        function: a builder that takes another argument first.
        name: of the result.
        first: that argument.
        title: stands in its documentation for "the named backbone".
    """

    def build(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(first, *args, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__module__ = function.__module__
    _show(build, function, list(inspect.signature(function).parameters.values())[1:], {})
    build.__doc__ = (build.__doc__ or "").replace("the named backbone", title, 1)
    return build


def _show(
    function: Callable[..., object],
    source: Callable[..., object],
    parameters: list[inspect.Parameter],
    described: dict[str, str],
) -> None:
    """Gives `function` these parameters, and the documentation of `source` with these arguments alone."""
    function.__signature__ = inspect.signature(source).replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
    summary, _, arguments = (inspect.getdoc(source) or "").partition("\n\nArgs:\n")
    described = _paragraphs(arguments.partition("\n\n")[0]) | described
    listed = "\n".join(described[parameter.name] for parameter in parameters)
    function.__doc__ = f"{summary}\n\nArgs:\n{listed}\n\n{_RAISES}"


def _paragraphs(arguments: str) -> dict[str, str]:
    """Name -> the lines that describe it, of the inside of an `Args:` section."""
    found: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        if not line.startswith("     "):  # four blanks begin an argument, more continue it
            name = line.strip().partition(":")[0]
            found[name] = line
        else:
            found[name] += f"\n{line}"
    return found
