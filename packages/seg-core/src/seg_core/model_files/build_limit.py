"""A limit on what building a network creates, so that a description cannot ask for more than its tensors are."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seg_core.errors import InvalidArgumentError

__all__ = ["limited_build"]

# tensors by their size, which are the only ones of unlimited size
_FACTORIES = frozenset(
    {
        torch.empty,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.arange,
        torch.linspace,
        torch.logspace,
        torch.eye,
        torch.empty_strided,
        torch.tril_indices,
        torch.triu_indices,
        *(function for name, function in vars(torch).items() if name.endswith("_window")),
    }
)
_MORE = 20  # times what the stored tensors hold: buffers that are not saved, and values while initializing
_SLACK = 2**26  # numbers that any build may create
_CALLS = 100  # of torch for each stored tensor
_CALL_SLACK = 20_000


class _Limit(TorchFunctionMode):
    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._room = _SLACK + _MORE * sum(tensor.numel() for tensor in stored.values())
        self._calls = _CALL_SLACK + _CALLS * len(stored)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        self._calls -= 1
        if self._calls < 0:
            raise TooLargeError("the network needs far more steps to be built than the tensors of its file explain")
        if func in _FACTORIES:
            # on the device without storage: before the memory is taken
            sized = {name: value for name, value in options.items() if name not in ("out", "generator", "pin_memory")}
            created = func(*args, **{**sized, "device": "meta"})
            self._room -= created.numel()
            if self._room < 0:
                raise TooLargeError(
                    f"the network creates a tensor of shape {tuple(created.shape)}, far larger than those of its file"
                )
        return func(*args, **options)


class TooLargeError(InvalidArgumentError):
    """A network is too large for the tensors of its file."""


@contextlib.contextmanager
def limited_build(stored: Mapping[str, Tensor]) -> Iterator[None]:
    """Limits what a network that is built inside of the block creates, by the tensors that it is built for.

    Args:
        stored: the tensors of the file, by name.

    Raises:
        InvalidArgumentError: by the call of torch that would create far more numbers than these tensors hold, or is
            one of far too many; before it takes memory.
    """
    with _Limit(stored):
        yield
