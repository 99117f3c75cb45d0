"""Peak memory of one call: how far the process grows, or a GPU's allocated memory. Imports no torch."""

import contextlib
import ctypes
import gc
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["can_measure_memory", "extra_mib", "reset_peak", "returning_memory", "status_mib"]

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
# parameters of glibc's mallopt (malloc.h)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SMALL = 64 * 1024
# what the thresholds grow to once a process has freed large blocks, as every process that runs a network has
_GROWN_TRIM, _GROWN_MMAP = 64 * 2**20, 32 * 2**20


def can_measure_memory(device: str = "cpu") -> bool:
    """Returns whether the peak memory of a call on this type of device can be measured: on CUDA GPUs, and on Linux."""
    return device == "cuda" or (device == "cpu" and os.access(_CLEAR, os.W_OK))


def extra_mib(work: Callable[[], Any], device: "torch.device") -> float:
    """Returns the peak memory of one call in MiB, beyond what was in use before it; its result is included.

    Call it in `returning_memory()`, and only where `can_measure_memory` is True.

    Args:
        work: the call; it must have been made before, so that what is loaded and cached once does not count.
        device: where it allocates memory.
    """
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = work()
        torch.cuda.synchronize(device)
        extra = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    else:
        _trim()
        reset_peak()
        resident = status_mib("VmRSS")
        result = work()  # kept, so that it counts
        extra = status_mib("VmHWM") - resident
    del result
    return max(0.0, extra)


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Meanwhile the process returns what it frees to the system at once, so that no call reuses it unseen.

    Works with glibc only; elsewhere nothing changes, and peaks may be too small. Calls are slower: time them outside.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _SMALL)
    libc.mallopt(_TRIM_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, int(os.environ.get("MALLOC_MMAP_THRESHOLD_", _GROWN_MMAP)))
        libc.mallopt(_TRIM_THRESHOLD, int(os.environ.get("MALLOC_TRIM_THRESHOLD_", _GROWN_TRIM)))


def _trim() -> None:
    """Returns the pages of freed blocks inside the heap, which is older than the thresholds, to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> None:
    """Resets the peak resident size of this process. Linux only."""
    _CLEAR.write_text(_RESET_PEAK)


def status_mib(field: str) -> float:
    """Returns the resident size of this process in MiB: `"VmRSS"` the current one, `"VmHWM"` the peak. Linux only."""
    lines = _STATUS.read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kib) / 1024
