"""Compares a network's tensors with its description when a model file is written or read.

The network of the description is built without storage (torch's device `meta`), so the comparison needs no memory,
whatever sizes the description specifies.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, UserError, nearest
from seg_core.model_files.build_limit import limited_build
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.digest import encode, plain
from seg_core.own_code import NotImportedError
from seg_core.registry import MODELS
from seg_core.spec import check_params

__all__ = [
    "advice",
    "build",
    "check_builder",
    "check_description",
    "check_own_tensors",
    "check_tensors",
    "is_compiled",
    "tensors_to_save",
    "unwrap",
]

# arguments that initialize a network rather than define it; a file that named weights would trigger a download
_WEIGHTS_ARGUMENTS = ("weights", "weights_backbone", "class_names")
_NOT_ARGUMENTS = {
    **dict.fromkeys(_WEIGHTS_ARGUMENTS, "a model file holds its own weights"),
    "progress": "it does not describe the network",
    "variant": "a model file has a field for it",
}
_SHOWN = 200  # characters of the arguments in messages


@dataclass(frozen=True)
class _Recipe:
    """Everything that determines the tensors of a network; equal for equal builders and arguments."""

    identity: int
    variant: str
    key: bytes
    builder: Callable[..., nn.Module] = field(compare=False)
    arguments: Mapping[str, Any] = field(compare=False)


def check_builder(spec: BuildSpec) -> None:
    """Checks that the builder of a description is known; nothing is imported.

    Raises:
        UnknownNameError: if it is not; for the user's own code the message says how to import it.
        InvalidArgumentError: if the module that the user has imported has no such builder.
    """
    try:
        MODELS.entry(spec.builder)
    except NotImportedError:
        raise
    except UnknownNameError as error:
        unknown = f"unknown model {spec.builder!r}."
        raise UnknownNameError(
            f"{unknown} If your own code registers {spec.builder!r}, import it before: with --import MODULE on the "
            f"command line, or in Python by import MODULE.{str(error).removeprefix(unknown)}"
        ) from error


def check_description(spec: BuildSpec) -> None:
    """Checks that a description names a variant and arguments that its builder has; nothing is built.

    Raises:
        UnknownNameError: if no package has the builder, or the user has not imported the code that has it.
        InvalidArgumentError: if the builder has no such variant or arguments.
    """
    check_builder(spec)
    entry, builder = MODELS.entry(spec.builder), MODELS.get(spec.builder)
    if isinstance(entry, ModelEntry) and spec.variant not in entry.variants:
        raise InvalidArgumentError(
            f"variant = {spec.variant!r}: model {spec.builder!r} has no such variant."
            f"{nearest(spec.variant, entry.variants)} Known: " + ", ".join(entry.variants)
        )
    arguments = {
        name: value
        for name, value in spec.arguments.items()
        if name != "progress" and not (name in _WEIGHTS_ARGUMENTS and value is None)
    }
    check_params(f"model {spec.builder!r}", builder, arguments, _NOT_ARGUMENTS, key="arguments")


def check_tensors(spec: BuildSpec, state: Mapping[str, Tensor]) -> None:
    """Compares names, shapes and number types with those of the network of a description.

    Floating-point tensors may have any precision. The random state of the process is not changed.

    Raises:
        InvalidArgumentError: if the builder cannot build the network, or it has other tensors; the message names the
            first.
        NotImportedError: if a part of the network is the user's own code, which was not imported.
    """
    builder = MODELS.get(spec.builder)
    recipe = _Recipe(id(builder), spec.variant, encode(plain(spec.arguments)), builder, spec.arguments)
    with limited_build(state):
        expected = _expected_tensors(recipe)
    _compare(expected, state, f"when {spec.builder!r} is built with {_short(dict(spec.arguments))}")


def check_own_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compares names, shapes and number types with those of a network.

    Raises:
        InvalidArgumentError: if they differ; the message names the first.
    """
    _compare(_shapes(network), state, f"as {type(network).__name__}")


def _compare(expected: Mapping[str, tuple[tuple[int, ...], str]], state: Mapping[str, Tensor], built: str) -> None:
    for name, (shape, kind) in expected.items():
        if name not in state:
            raise InvalidArgumentError(f"it has no tensor {name!r} of shape {shape}, which the network has {built}")
        found = state[name]
        if tuple(found.shape) != shape:
            raise InvalidArgumentError(f"the tensor {name!r} has shape {tuple(found.shape)}, but {shape} {built}")
        if _kind(found) != kind:
            raise InvalidArgumentError(f"the tensor {name!r} holds {_kind(found)}, but {kind} {built}")
    for name in state:
        if name not in expected:
            raise InvalidArgumentError(f"it has a tensor {name!r}, which the network does not have {built}")


def build(spec: BuildSpec) -> nn.Module:
    """Builds the network of a description, with fresh parameters.

    Raises:
        InvalidArgumentError: if the builder cannot.
        NotImportedError: as `check_tensors` does.
    """
    return _build(MODELS.get(spec.builder), spec.variant, spec.arguments)


@functools.lru_cache(maxsize=8)  # a run saves the same network many times
def _expected_tensors(recipe: _Recipe) -> dict[str, tuple[tuple[int, ...], str]]:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                network = _build(recipe.builder, recipe.variant, recipe.arguments)
        except InvalidArgumentError as error:
            if isinstance(error.__cause__, UserError):  # of the builder, or of the limit
                raise
            # a builder that reads the values of its tensors needs real ones
            network = _build(recipe.builder, recipe.variant, recipe.arguments)
    return _shapes(network)


def _shapes(network: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns name -> shape and number type of the tensors of a network."""
    return {
        name: (tuple(value.shape), _kind(value))
        for name, value in network.state_dict().items()
        if isinstance(value, Tensor)
    }


def _build(builder: Callable[..., nn.Module], variant: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return builder(variant=variant or None, **arguments)
    except NotImportedError:  # a part of the network, such as its backbone, is the user's own code
        raise
    except UserError as error:
        raise InvalidArgumentError(f"the installed packages cannot build it: {error}") from error
    except Exception as error:  # any error that a builder raises for unexpected values
        raise InvalidArgumentError(
            f"the installed packages cannot build it with {_short(dict(arguments))}: {type(error).__name__}: {error}"
        ) from error


# ----------------------------------------------------------------------------------------------------------- networks


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the network inside of wrappers that compile, average or distribute it."""
    inner = _inner(model)
    while inner is not None:
        model = getattr(model, inner)
        inner = _inner(model)
    return model


def tensors_to_save(network: nn.Module) -> dict[str, Tensor]:
    """Returns the state of a network as dense tensors on the CPU, under the names of its builder.

    The prefixes of submodules that are compiled or distributed separately are removed.

    Raises:
        InvalidArgumentError: if an entry of the state is not a plain tensor with values.
    """
    prefixes = {
        f"{name}.{inner}." if name else f"{inner}.": f"{name}." if name else ""
        for name, module in network.named_modules(remove_duplicate=False)
        if (inner := _inner(module)) is not None
    }
    state: dict[str, Tensor] = {}
    for full_name, value in network.state_dict().items():
        name = full_name
        for prefix in sorted(prefixes, key=len, reverse=True):  # the innermost wrapper first
            if name.startswith(prefix):
                name = prefixes[prefix] + name.removeprefix(prefix)
        state[name] = _dense(name, value)
    return state


def advice(names: Mapping[str, Tensor]) -> str:
    """Returns advice for a network with other tensors than its builder creates."""
    for name in names:
        if name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in names:
            return "it is pruned: make this permanent with torch.nn.utils.prune.remove(module, name) before saving"
        if ".parametrizations." in f".{name}":
            return (
                "it has parametrizations: make them permanent with "
                "torch.nn.utils.parametrize.remove_parametrizations(module, name) before saving"
            )
        if name.endswith("_g") and f"{name.removesuffix('_g')}_v" in names:
            return "it has weight norm: make it permanent with torch.nn.utils.remove_weight_norm(module) before saving"
        if "lora_" in name:
            return "it has adapters: merge them into its weights before saving (peft: model.merge_and_unload())"
    return (
        "it was changed after it was built: build it with matching arguments (num_classes= for another "
        "classifier), or register your own builder (seg_core.registry.MODELS.register) and set model.build_spec"
    )


def is_compiled(module: nn.Module) -> bool:
    """Returns whether a call of a module runs a compiled function, by torch.compile or its method `compile`."""
    return _is_optimized(module) or getattr(module, "_compiled_call_impl", None) is not None


def _is_optimized(module: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo.eval_frame")  # torch's compiler takes a second to import
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def _inner(module: nn.Module) -> str | None:
    """Returns the attribute that holds the network if a module is only a wrapper, else None."""
    if _is_optimized(module):
        return "_orig_mod"
    return "module" if isinstance(module, DistributedDataParallel | DataParallel | AveragedModel) else None


def _dense(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.is_quantized:
        raise InvalidArgumentError(
            f"{name!r} of the network's state is not a plain tensor ({type(value).__name__}), as in quantized "
            "networks; save the network before it is quantized"
        )
    if type(value) not in (Tensor, nn.Parameter, nn.Buffer):
        what = f"the tensor {name!r} is a {type(value).__name__}"
        if type(value).__name__ == "DTensor":
            raise InvalidArgumentError(
                f"{what}, of which each process holds a part; gather it on all processes (value.full_tensor()), load "
                "that into a separate network, and save that network"
            )
        raise InvalidArgumentError(f"{what}, which other installations may not have; save a network of plain tensors")
    if value.is_meta or value.layout != torch.strided:
        lacks = "has no values (device meta)" if value.is_meta else f"has layout {value.layout}"
        raise InvalidArgumentError(f"the tensor {name!r} {lacks}; save a network of dense tensors with values")
    dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # the file would hold all of a view's storage
    return dense.clone() if dense.untyped_storage().nbytes() != dense.nbytes else dense


def _kind(value: Tensor) -> str:
    return "floats" if value.is_floating_point() else str(value.dtype)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
