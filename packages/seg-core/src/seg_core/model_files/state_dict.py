"""Finds the tensors of a network in what training scripts save: a state dict, or one or more inside of other dicts."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from seg_core.errors import CorruptFileError, InvalidArgumentError, nearest
from seg_core.text import short

__all__ = ["is_dense", "networks_in", "tensors_of"]

# names under which training scripts save a network; the first is mmsegmentation's and Lightning's
_NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "ema",
    "model_ema",
    "teacher",
    "net",
    "params",
    "ema_model",
    "ema_state_dict",
    "model_ema_state_dict",
    "model_state",
    "module",
    "net_state_dict",
    "network",
    "network_state_dict",
    "params_ema",
    "state_dict_ema",
    "student",
    "weights",
)
_NOT_NETWORKS = ("optim", "sched", "scaler")  # parts of the names of what training keeps beside the network
_EXTRA_STATE = "_extra_state"  # what nn.Module.get_extra_state gives: any object
_DEPTH = 3
_OTHERS_SHOWN = 3


def tensors_of(
    content: object, source: str, nest: str | None = None, preferred: str | None = None
) -> dict[str, Tensor]:
    """Returns the tensors of a network by name.

    They are the content itself, or in a dict inside of it, such as `"state_dict"` or `"ema"`.

    Args:
        content: what the file holds.
        source: the file, for messages.
        nest: the dict to take, as keys joined by dots: `"ema"`, `"ema.module"`; or a prefix of the names, without which
            the tensors are returned: `"teacher"` for `teacher.conv.weight`. None takes the only one.
        preferred: the dict to take if there are several and `nest` is None.

    Raises:
        CorruptFileError: if there are no tensors by name, or other values among them.
        InvalidArgumentError: if there are several such dicts and none is chosen, or there is no `nest`.
    """
    if nest is not None:
        return _dense(_chosen(_all_states(content), nest, source), source)
    found = networks_in(content, source)
    if preferred is not None and preferred in found:
        found = {preferred: found[preferred]}
    if len(found) > 1:
        counts = " and ".join(f"{place!r} ({len(state)} tensors)" for place, state in found.items())
        first = next(iter(found))
        raise InvalidArgumentError(
            f"{source} holds several networks: {counts}; choose one by its name after a #, as in {source}#{first}"
        )
    return _dense(next(iter(found.values())), source)


def networks_in(content: object, source: str) -> dict[str, dict[str, Tensor]]:
    """Returns the networks in a file: place, as keys joined by dots, or "" for the content itself -> tensors by name.

    Args:
        content: what the file holds.
        source: the file, for messages.

    Raises:
        CorruptFileError: if there are no tensors by name, or other values among them.
    """
    states = _all_states(content)
    if not states:
        raise _no_tensors(content, source)
    sizes = [len(state) for place, state in states.items() if set(place.split(".")) & set(_NESTS)]
    # beside a usual name, another one of similar size may be a network too, and a small one is of a loss or the like
    least = max(sizes, default=0) / 2
    return {
        place: _plain(state)
        for place, state in states.items()
        if len(state) >= least or set(place.split(".")) & set(_NESTS)
    }


def _all_states(content: object) -> dict[str, Mapping[str, Any]]:
    return dict(_states({"": content} if _is_state(content) else content))


def _chosen(states: Mapping[str, Any], nest: str, source: str) -> dict[str, Tensor]:
    if nest in states:
        return _plain(states[nest])
    within = [place for place in states if place.startswith(f"{nest}.")]
    if len(within) == 1:
        return _plain(states[within[0]])
    prefixed = [
        part
        for state in states.values()
        if (part := {name[len(nest) + 1 :]: value for name, value in state.items() if name.startswith(f"{nest}.")})
    ]
    if len(prefixed) == 1:
        return _plain(prefixed[0])
    if within:
        raise InvalidArgumentError(f"{source} holds several networks under {nest!r}; choose one: {', '.join(within)}")
    known = [place for place in states if place] or list(
        dict.fromkeys(name.partition(".")[0] for name in states.get("", {}))
    )
    raise InvalidArgumentError(
        f"{source} holds nothing under {nest!r}.{nearest(nest, known)} It holds: {', '.join(known) or 'no tensors'}; "
        f"write one of them after the #, or remove #{nest}"
    )


def _states(content: object, place: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields place and content of the dicts of tensors by name inside of others."""
    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        if isinstance(key, str) and not any(part in key.lower() for part in _NOT_NETWORKS):
            if _is_state(value):
                yield place + key, value
            else:
                yield from _states(value, f"{place}{key}.", depth - 1)


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def is_dense(tensor: Tensor) -> bool:
    """Returns whether a tensor has a value for each item: it is not sparse, quantized or without storage."""
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def _dense(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    for name, tensor in state.items():
        if not is_dense(tensor):
            kind = "quantized" if tensor.is_quantized else "sparse" if tensor.layout != torch.strided else "empty"
            raise CorruptFileError(
                f"{source} holds {short(name)} as a {kind} tensor, which no network here has; write the file from a "
                "network of dense tensors with values"
            )
    return state


def _is_state(content: object) -> TypeGuard[Mapping[str, Any]]:
    return (
        isinstance(content, Mapping)
        and any(isinstance(value, Tensor) for value in content.values())
        and all(_is_entry(name, value) for name, value in content.items())
    )


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and (isinstance(value, Tensor) or name.rpartition(".")[2] == _EXTRA_STATE)


def _no_tensors(content: object, source: str) -> CorruptFileError:
    found, place = content, ""
    if isinstance(content, Mapping):
        for key in _NESTS:
            if isinstance(content.get(key), Mapping):
                found, place = content[key], f" under {key!r}"
                break
    if not isinstance(found, Mapping):
        holds = f"an object of type {type(found).__name__}"
    elif not found:
        holds = f"an empty dict{place}"
    else:
        others = [f"{name!r} ({type(value).__name__})" for name, value in found.items() if not _is_entry(name, value)]
        more = f" and {len(others) - _OTHERS_SHOWN} more" if len(others) > _OTHERS_SHOWN else ""
        holds = f"a dict{place} with {', '.join(others[:_OTHERS_SHOWN])}{more}"
    keys = ", ".join(map(repr, _NESTS[:8]))
    return CorruptFileError(
        f"{source} holds {holds}, not tensors by name, as a plain dict or under one of {keys}; write the file with "
        "torch.save(model.state_dict(), path)"
    )
