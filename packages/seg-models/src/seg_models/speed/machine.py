"""The machine: its name, and the floating-point operations per second that it reaches at best."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from seg_core.errors import counted

__all__ = ["Machine", "Peak", "describe_machine", "measure_peak", "num_cores", "processor_name", "threads_set", "wait"]

_LONG_ENOUGH = 0.02  # seconds of a call whose speed no longer depends on its start
_SIDES = (512, 1024, 2048, 4096, 8192)
_BATCHES = (1, 4, 16, 64)
_CHANNELS, _FEATURE = 256, 64


@dataclass(frozen=True)
class Machine:
    """What the times were measured on.

    Attributes:
        device: type of the device, such as `"cpu"`.
        name: name of the processor or GPU.
        cores: processor cores that this process may use.
        threads: threads that torch computes with on the processor.
        capability: instruction set that torch uses on the processor, such as `"AVX512"`.
        system: the operating system.
        load: load average of the last minute when the measuring began: how many threads ran or waited to run; None if
            the system does not tell.
    """

    device: str
    name: str
    cores: int
    threads: int
    capability: str
    system: str
    load: float | None = None

    def __str__(self) -> str:
        host = f"{counted(self.cores, 'core')}, {counted(self.threads, 'thread')}"
        if self.device == "cpu":
            return f"{self.name}, {host}, {self.capability}; {self.system}"
        return f"{self.name}; {host} of the host; {self.system}"


@dataclass(frozen=True)
class Peak:
    """The largest GFLOP/s that were measured, a multiplication and an addition being two operations.

    Attributes:
        matrix_product: of a product of two square matrices.
        convolution: of a 3x3 convolution from 256 to 256 channels, the faster memory format.
        side: rows and columns of the matrices.
        dtype: floating-point type, as `"fp32"`.
    """

    matrix_product: float
    convolution: float
    side: int
    dtype: str

    @property
    def gflops(self) -> float:
        """The larger of the two."""
        return max(self.matrix_product, self.convolution)

    def __str__(self) -> str:
        return (
            f"{self.gflops:,.0f} GFLOP/s in {self.dtype}, the larger of: product of two {self.side}x{self.side} "
            f"matrices {self.matrix_product:,.0f}, 3x3 convolution of {_CHANNELS} channels {self.convolution:,.0f}"
        )


def describe_machine(device: torch.device) -> Machine:
    """Returns the name and the threads of the machine that `device` is of."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return Machine(
        device.type,
        name,
        num_cores(),
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
        f"{platform.system()} {platform.machine()}",
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def processor_name() -> str:
    """Returns the name of the processor, as Linux tells it, else as Python does."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait(device: torch.device) -> None:
    """Waits until a device has done all its work; a processor has when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def threads_set(threads: int | None) -> Iterator[None]:
    """Lets torch compute with this many threads meanwhile; None changes nothing."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_peak(
    device: torch.device,
    dtype: torch.dtype,
    name: str,
    seconds: float = 0.3,
    clock: Callable[[], float] = time.perf_counter,
) -> Peak:
    """Measures the operations per second of matrix products and convolutions that are large enough to reach the most.

    Args:
        device: where to compute.
        dtype: floating-point type.
        name: its name for people.
        seconds: how long each kind is repeated; the fastest call counts.
        clock: returns the time in seconds.
    """

    def fastest(work: Callable[[], Any], budget: float) -> float:
        best, begin = float("inf"), clock()
        work()
        while True:
            wait(device)
            start = clock()
            work()
            wait(device)
            end = clock()
            best = min(best, end - start)
            if end - begin >= budget:
                return best

    def product(side: int) -> tuple[Callable[[], Any], float]:
        left, right = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
        return lambda: left @ right, 2.0 * side**3

    def convolution(batch: int, layout: torch.memory_format) -> tuple[Callable[[], Any], float]:
        images = torch.rand(batch, _CHANNELS, _FEATURE, _FEATURE, device=device, dtype=dtype)
        images = images.contiguous(memory_format=layout)
        kernels = torch.rand(_CHANNELS, _CHANNELS, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
        return lambda: F.conv2d(images, kernels, padding=1), 2.0 * 9 * (batch * _FEATURE**2) * _CHANNELS**2

    def largest(sizes: tuple[int, ...], make: Callable[[int], tuple[Callable[[], Any], float]]) -> tuple[float, int]:
        """Returns the GFLOP/s at the first size that takes long enough, and that size."""
        for size in sizes:
            work, operations = make(size)
            if size == sizes[-1] or fastest(work, 2.5 * _LONG_ENOUGH) >= _LONG_ENOUGH:
                break
        return operations / max(fastest(work, seconds), 1e-9) / 1e9, size

    with torch.inference_mode():
        matrix_product, side = largest(_SIDES, product)
        layouts = (torch.contiguous_format, torch.channels_last)
        best = max(largest(_BATCHES, lambda batch, at=at: convolution(batch, at))[0] for at in layouts)  # type: ignore[misc]
    return Peak(matrix_product, best, side, name)
