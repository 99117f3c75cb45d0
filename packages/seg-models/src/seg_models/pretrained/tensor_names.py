"""What training adds to the names of a network's tensors: prefixes of wrappers, and tensors of others."""

import re
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

__all__ = ["groups_of", "is_counter", "is_foreign", "unwrapped"]

# names that torch itself inserts, also within a network: torch.compile, FSDP, activation checkpointing
_INSERTED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# counters of thop, AveragedModel's number of updates, and what losses and metrics keep
_FOREIGN = re.compile(
    r"(^|\.)(total_ops|total_params|n_averaged)$|(^|[._])(loss|losses|criteri\w+|metrics?)([._]|$)|loss(_fn|_func)?\.",
    re.IGNORECASE,
)


def is_foreign(name: str) -> bool:
    """Returns whether a tensor that a network lacks may be left out: that of a FLOP counter, a loss or a metric."""
    return _FOREIGN.search(name) is not None


def is_counter(name: str) -> bool:
    """Returns whether a tensor is a batch norm's number of batches, which torch too sets to 0 if a file lacks it."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Yields the tensors under the names that they may have without wrappers, the names of the file first.

    Dropped are names that torch inserts, then each prefix that all names share, then `module`, as of DataParallel, also
    within names. Tensors that do not belong to a network may lack the prefix.

    Yields:
        What was dropped, "" for nothing, and the tensors.
    """
    yield "", tensors
    inner = _renamed(tensors, lambda name: _without(name, _INSERTED))
    if inner is None:
        return
    if inner.keys() != tensors.keys():
        yield _dropped(tensors, inner), inner
    for depth in range(1, len(_common(inner)) + 1):
        prefix = ".".join(_common(inner)[:depth]) + "."
        shorter = _renamed(inner, lambda name, prefix=prefix: name.removeprefix(prefix))  # type: ignore[misc]
        if shorter is not None:
            yield _dropped(tensors, shorter), shorter
            within = _renamed(shorter, lambda name: _without(name, ("module",)))
            if within is not None and within.keys() != shorter.keys():
                yield _dropped(tensors, within), within
    within = _renamed(inner, lambda name: _without(name, ("module",)))
    if within is not None and within.keys() != inner.keys():
        yield _dropped(tensors, within), within


def groups_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Returns the tensors by the first part of their names, without it: `{"teacher": {"conv.weight": ...}}`."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            groups.setdefault(first, {})[rest] = tensor
    return groups


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor] | None:
    """Returns the tensors under other names; None if two would have the same."""
    renamed = {rename(name): tensor for name, tensor in tensors.items()}
    return renamed if len(renamed) == len(tensors) else None


def _without(name: str, parts: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in parts)


def _common(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the parts with which all names of the network begin."""
    paths = [name.split(".")[:-1] for name in tensors if not is_foreign(name)]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common


def _dropped(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str:
    """Returns what the names have lost: the prefix that all share, or the parts."""
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if not is_foreign(old)]
    prefixes = {old.removesuffix(new) if old.endswith(new) else None for old, new in pairs}
    if len(prefixes) == 1 and (prefix := prefixes.pop()) is not None:
        return f"the prefix {prefix!r}"
    parts = dict.fromkeys(part for old, new in pairs for part in old.split(".") if part not in new.split("."))
    return f"the parts {', '.join(map(repr, parts))}"
