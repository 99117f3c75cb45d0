"""Devices: their names, automatic selection, and the error raised when a device runs out of memory."""

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError, NotEnoughMemoryError

if TYPE_CHECKING:
    import torch

__all__ = [
    "DEVICES",
    "check_device",
    "fastest_precision",
    "has_bf16",
    "is_available",
    "names_device",
    "out_of_memory",
    "resolve_device",
    "warn_of_slow_bf16",
]

DEVICES = ("auto", "cuda", "mps", "cpu")
"""Devices that configs and commands name; `"auto"` is the first of the others that is available."""

_NUMBERED = re.compile(r"(?:cuda:)?\d+")
_REASON_SHOWN = 200  # characters of torch's own message


def is_available(device: str) -> bool:
    """Returns whether torch can use a device of this type. Nothing is allocated on it.

    Args:
        device: one of `DEVICES`.
    """
    import torch

    if device == "cuda":
        return torch.cuda.is_available()
    return torch.backends.mps.is_available() if device == "mps" else device in DEVICES


def check_device(device: str, argument: str = "device") -> None:
    """Checks that torch can use a device. Nothing is allocated on it, so every process of a run can call this.

    Args:
        device: one of `DEVICES`.
        argument: name of the option, for the message.

    Raises:
        InvalidArgumentError: if there is no such device.
    """
    if not is_available(device):
        raise _missing(device, argument)


def names_device(value: object) -> bool:
    """Returns whether `value` is one of `DEVICES`, or names a GPU by its number: `"cuda:1"`, `"1"` or 1.

    Whether torch can use it is not checked, so torch is not imported.
    """
    return is_integer(value, 0) or (isinstance(value, str) and (value in DEVICES or bool(_NUMBERED.fullmatch(value))))


def resolve_device(device: "str | int | torch.device", argument: str = "device") -> "torch.device":
    """Returns the device to compute on.

    Args:
        device: `"auto"` (a GPU if available, else the CPU), or any torch device, such as `"cuda:1"`. A number, such as
            1 or `"1"`, is that of a CUDA GPU.
        argument: name of the option, for the message.

    Raises:
        InvalidArgumentError: if torch cannot use this device.
    """
    import torch

    if device == "auto":
        return torch.device(next(name for name in DEVICES if name != "auto" and is_available(name)))
    named = device
    if is_integer(device, 0) or (isinstance(device, str) and device.isdecimal()):
        named = f"cuda:{int(device)}"
    try:
        return torch.empty(0, device=named).device
    # which one depends on torch's build; a TypeError is for True, None, ..., which are no device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise _missing(device, argument, error, named) from error


def has_bf16(device: "torch.device") -> bool | None:
    """Returns whether a processor computes in bf16 itself; None if torch does not tell.

    Without it torch converts each operand, which takes several times as long as fp32.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # private to torch, and not in all of its versions
        checks = [getattr(torch.cpu, n, None) for n in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
        return any(check() for check in checks if check is not None) if any(checks) else None
    return None


def fastest_precision(device: "torch.device") -> str:
    """Returns `"bf16"` if the processor computes in it, else `"fp32"`."""
    return "bf16" if has_bf16(device) else "fp32"


def warn_of_slow_bf16(device: "torch.device", remedy: str) -> None:
    """Warns if a processor does not compute in bf16.

    Args:
        device: where bf16 was asked for.
        remedy: what to choose, completing "use ...".
    """
    if has_bf16(device) is False:
        warnings.warn(
            f"this processor ({device.type}) does not compute in bf16, which takes several times as long as fp32 "
            f"on it; use {remedy}",
            stacklevel=3,
        )


def out_of_memory(doing: str, remedies: Sequence[str], cause: BaseException | str) -> NotEnoughMemoryError:
    """Returns the error to raise when memory runs out; its message lists what the user can change.

    Args:
        doing: what needed the memory, such as `"training"`.
        remedies: what to change, the most effective first, such as `"lower batch_size (now 8)"`.
        cause: the exception that Python or torch raised, or its message.
    """
    reason = _first_line(cause)
    return NotEnoughMemoryError(
        f"out of memory during {doing} ({reason}); to reduce memory use: {'; or '.join(remedies)}"
    )


def _missing(
    device: object, argument: str, cause: BaseException | None = None, named: object = None
) -> InvalidArgumentError:
    import torch

    reason = "" if cause is None else f" ({_first_line(cause)})"
    shown = f"{device!r}" if isinstance(device, int) or device is None else f'"{device}"'
    meant = "" if named in (None, device) else f" ({named})"
    return InvalidArgumentError(
        f'{argument} = {shown}{meant}: torch {torch.__version__} finds no such device{reason}; use "auto" for '
        "an available one"
    )


def _first_line(cause: BaseException | str) -> str:
    otherwise = "MemoryError" if isinstance(cause, str) else type(cause).__name__
    return next(iter(str(cause).splitlines()), "")[:_REASON_SHOWN] or otherwise
