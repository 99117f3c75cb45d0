"""Measures networks: latency, throughput, memory, and the work beside what the machine can do."""

import contextlib
import copy
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seg_core.checks import check_integer, is_integer, is_number
from seg_core.device import out_of_memory, resolve_device
from seg_core.errors import InvalidArgumentError, NotEnoughMemoryError, UserError, is_out_of_memory
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.modes import eval_mode
from seg_core.transforms.preprocessing import Preprocessing
from seg_core.versions import installed_versions
from seg_models.inference.adapted import min_size_of
from seg_models.inference.outputs import find_logits
from seg_models.inference.predictor import Predictor
from seg_models.inference.preparation import copied, usable_dtype
from seg_models.speed.benchmark_report import NETWORK, TO_LABELS, BenchmarkReport, Comparison, MeasuredModel, Row
from seg_models.speed.contenders import Contender, load_contender
from seg_models.speed.counts import bytes_of_weights, count_macs, count_parameters
from seg_models.speed.machine import describe_machine, measure_peak, threads_set, wait
from seg_models.speed.memory import can_measure_memory, extra_mib, returning_memory
from seg_models.speed.timing import Times, ratio_of, time_in_turn

__all__ = ["DEFAULT_SIZE", "benchmark", "measure"]

DEFAULT_SIZE = (512, 512)
"""Height and width of the images if none are given."""

_DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
_Source = nn.Module | str | os.PathLike[str]
_clock = time.perf_counter


def benchmark(
    model: _Source,
    *,
    compare: Sequence[_Source] = (),
    size: Sequence[int] = DEFAULT_SIZE,
    batch_sizes: Sequence[int] = (1,),
    weights: Any = None,
    device: str | int | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    threads: int | None = None,
    seconds: float = 5.0,
    end_to_end: bool = True,
    optimize: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> BenchmarkReport:
    """Measures a network: latency, throughput by batch size, memory, MACs, and GFLOP/s beside the machine's.

    Two steps are measured: the network alone, on normalized images in memory; and `Predictor` on images in memory, from
    the pixels to the labels. Images are synthetic, smooth areas of color with a little noise.

    Example:
        ```python
        report = benchmark("lraspp_mobilenet_v3_large", compare=["enet"], size=(512, 1024), batch_sizes=(1, 4))
        print(report)
        report.rows[0].times.median, report.compare[0].ratio.median
        ```

    Args:
        model: a network, a model file, an exported file, a run folder, or a model's name. A network that is passed in
            is moved to `device`, and is in eval mode meanwhile.
        compare: further models; in each round all are called, in random order, and the report has the ratios of their
            times to those of `model`.
        size: (height, width) in pixels of the images and of the network's input: a resize that the model prescribes is
            left out.
        batch_sizes: numbers of images in one call.
        weights: for models by name: as in `get_model`; None initializes them randomly, which takes as long.
        device: as for `Predictor`.
        dtype: floating-point type of the weights and the computation, as for `Predictor`; None keeps that of the
            weights.
        threads: threads that torch computes with on the processor, meanwhile; None changes nothing.
        seconds: how long to measure each model, step and batch size; there are at least three calls.
        end_to_end: whether to measure the step from image to labels too.
        optimize: whether to measure each model also as `seg_models.optimize` changes it. That keeps the labels, so give
            trained weights: of random ones labels are close to each other, and little is allowed.
        say: called with what is measured next.

    Raises:
        InvalidArgumentError: if an argument is not as described above, a network has a larger minimum size, or a
            network fails on such images.
        UnknownNameError: if there is no such model or weights.
        FileNotFoundError: if there is no such file.
        CorruptFileError: if a file is damaged.
        NotEnoughMemoryError: if not even the smallest batch fits in memory.
    """
    if isinstance(compare, str | os.PathLike | nn.Module):
        compare = [compare]
    sources = [model, *compare]
    check_sizes(size, batch_sizes, threads, seconds)
    return measure(
        [load_contender(source, None if isinstance(source, nn.Module) else weights) for source in sources],
        size=size,
        batch_sizes=batch_sizes,
        device=resolve_device(device),
        dtype=dtype,
        threads=threads,
        seconds=seconds,
        end_to_end=end_to_end,
        optimize=optimize,
        say=say,
    )


def check_sizes(size: Sequence[int], batch_sizes: Sequence[int], threads: int | None, seconds: float) -> None:
    """Checks the numbers that `benchmark` takes.

    Raises:
        InvalidArgumentError: if one is out of range.
    """
    if isinstance(size, str) or len(size) != 2 or not all(is_integer(length, 1) for length in size):
        raise InvalidArgumentError(f"size must be (height, width) in pixels, two integers >= 1, got {size!r}")
    if not batch_sizes:
        raise InvalidArgumentError("batch_sizes must name at least one number of images, such as (1,)")
    for number in batch_sizes:
        check_integer("batch_sizes", number)
    if threads is not None:
        check_integer("threads", threads)
    if not (is_number(seconds) and seconds > 0):
        raise InvalidArgumentError(f"seconds must be a number above 0, got {seconds!r}")


def measure(
    contenders: Sequence[Contender],
    *,
    size: Sequence[int],
    batch_sizes: Sequence[int],
    device: torch.device,
    dtype: str | torch.dtype | None,
    threads: int | None,
    seconds: float,
    end_to_end: bool,
    optimize: bool,
    say: Callable[[str], None],
) -> BenchmarkReport:
    """Measures models that are loaded; the arguments are those of `benchmark`."""
    numbers = sorted(set(batch_sizes))
    with contextlib.ExitStack() as stack:
        stack.enter_context(threads_set(threads))
        subjects: list[_Subject] = []
        for contender in _with_own_names(contenders):
            chosen = usable_dtype(dtype, device, contender.network)
            network = contender.network if chosen is None else copied(contender.network, chosen).to(chosen)
            network = network.to(device)
            stack.enter_context(eval_mode(network))
            subject = _Subject(contender.name, network, (size[0], size[1]), contender.note)
            subjects.append(subject)
            if optimize:
                say(f"optimizing {contender.name}")
                subjects.append(subject.optimized(numbers))
        return _Benchmark(subjects, (size[0], size[1]), device, seconds, say).run(numbers, end_to_end)


def _with_own_names(contenders: Sequence[Contender]) -> Iterator[Contender]:
    """Yields the models; those of equal names are numbered."""
    names = [contender.name for contender in contenders]
    for index, contender in enumerate(contenders):
        name = contender.name
        if names.count(name) > 1:
            name = f"{name} ({names[: index + 1].count(name)})"
        yield Contender(name, contender.network, contender.note)


class _Subject:
    """A network to measure, with its inputs."""

    def __init__(self, name: str, network: nn.Module, size: tuple[int, int], note: str = "") -> None:
        self.name, self.network, self.size = name, network, size
        info = getattr(network, "model_info", None)
        self.metadata: DatasetMetadata | None = None if info is None else info.metadata
        self.preprocessing: Preprocessing | None = None if info is None else info.preprocessing.with_resize({})
        self.thresholds = None if info is None else info.thresholds
        self.num_channels = _num_channels(network)
        smallest = min_size_of(network)
        if min(size) < smallest:
            raise InvalidArgumentError(
                f"size {size[0]}x{size[1]} is too small for {name}, whose images have at least {smallest} pixels on "
                "each side; choose a larger size"
            )
        tensors = [*network.parameters(), *network.buffers()]
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        self.dtype = floating[0].dtype if floating else torch.float32
        self.device = tensors[0].device if tensors else torch.device("cpu")
        with _fails_as(self, 1), returning_memory():
            images = self.images(1)
            macs = count_macs(network, images)
            with torch.no_grad():
                self.num_outputs = find_logits(network(images), images).shape[1]
        self.model = MeasuredModel(name, count_parameters(network), macs or None, bytes_of_weights(network), note)

    def optimized(self, batch_sizes: Sequence[int]) -> "_Subject":
        """Returns the network as `optimize` changes it; the work is that of the original."""
        change = importlib.import_module("seg_models.speed.optimize").optimize
        network = change(self.network, [self.images(number) for number in batch_sizes], thresholds=self.thresholds)
        result = copy.copy(self)
        result.name, result.network = f"{self.name}, optimized", network
        result.model = replace(
            self.model,
            name=result.name,
            weights_bytes=bytes_of_weights(network) or self.model.weights_bytes,
            note="",
            optimized=str(network.report),
        )
        return result

    def images(self, batch_size: int) -> Tensor:
        """Returns normalized images (N, C, H, W) of the type of the weights."""
        image = (_smooth(self.size, self.num_channels) - 0.5) / 0.25
        return image.expand(batch_size, -1, -1, -1).to(self.device, self.dtype, memory_format=torch.contiguous_format)

    def call(self, batch_size: int) -> Callable[[], Any]:
        """Returns the call of the network."""
        images = self.images(batch_size)

        def work() -> Any:
            with torch.no_grad():
                return self.network(images)

        return work

    def call_to_labels(self, batch_size: int) -> Callable[[], Any]:
        """Returns the call of `Predictor` on images in memory.

        Raises:
            UserError: if nothing says how to make labels, or the logits give none.
        """
        metadata, preprocessing = self.metadata, self.preprocessing
        if metadata is None or preprocessing is None:
            # what the numbers mean does not change the time
            names = tuple(f"channel {n}" for n in range(1, self.num_channels + 1))
            channels = RGB_CHANNELS if self.num_channels == 3 else ImageChannels(names, (0, 255))
            classes = tuple(map(str, range(self.num_outputs)))
            metadata = DatasetMetadata("ids", classes, ignore_index=max(255, self.num_outputs), channels=channels)
            half = (0.5,) * self.num_channels
            preprocessing = Preprocessing(half, half, channels=channels)
        predictor = Predictor(
            self.network,
            metadata=metadata,
            preprocessing=preprocessing,
            thresholds=self.thresholds,
            device=self.device,
            batch_size=batch_size,
        )
        image = _pixels(self.size, metadata.channels)
        images = [image] * batch_size if batch_size > 1 else image

        def work() -> Any:
            return predictor(images)

        work()
        return work


def _num_channels(network: nn.Module) -> int:
    """Returns the number of channels of the images: what describes the network says it, else its first convolution."""
    info, spec = getattr(network, "model_info", None), getattr(network, "build_spec", None)
    if info is not None:
        return int(info.metadata.channels.count)
    if spec is not None:
        return int(spec.arguments.get("in_channels", 3))
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)


def _smooth(size: tuple[int, int], num_channels: int) -> Tensor:
    """Returns smooth areas of color with a little noise, float (C, H, W) from 0 to 1: like a photo for code."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, num_channels, 6, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
    return (smooth + 0.02 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def _pixels(size: tuple[int, int], channels: ImageChannels) -> npt.NDArray[Any]:
    """Returns an image (H, W, C) in memory; of 8 bits uint8, else float32 in the ranges of the channels."""
    values = _smooth(size, channels.count).permute(1, 2, 0).numpy()
    if all(pair == (0, 255) for pair in channels.ranges):
        return (values * 255).astype(np.uint8)
    low, high = np.array(channels.ranges, np.float32).T
    return (low + values * (high - low)).astype(np.float32)


@contextlib.contextmanager
def _fails_as(subject: _Subject, batch_size: int) -> Iterator[None]:
    """Turns what a network raises about its images into an InvalidArgumentError, and memory into its own error."""
    height, width = subject.size
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(
                f"measuring {subject.name} at batch size {batch_size}",
                [
                    "choose a smaller size (--size)",
                    "lower the batch size (--batch-size)",
                    'dtype="bf16" (--dtype bf16)',
                ],
                error,
            ) from error
        line = next(iter(str(error).splitlines()), "")
        raise InvalidArgumentError(
            f"{subject.name} fails on images ({batch_size}, {subject.num_channels}, {height}, {width}): "
            f"{type(error).__name__}: {line}; an exported network takes only the sizes that it was exported for "
            "(--size, --batch-size)"
        ) from error


class _Benchmark:
    """Measures subjects, by batch size and step."""

    def __init__(
        self,
        subjects: Sequence[_Subject],
        size: tuple[int, int],
        device: torch.device,
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self.subjects, self.size, self.device, self.seconds, self.say = subjects, size, device, seconds, say
        self.notes: list[str] = []

    def run(self, batch_sizes: Sequence[int], end_to_end: bool) -> BenchmarkReport:
        """Measures all; memory first, as the memory that later calls leave to the process would hide some of it."""
        machine, first = describe_machine(self.device), self.subjects[0]
        dtype = _DTYPE_NAMES.get(first.dtype, str(first.dtype))
        steps = (NETWORK, TO_LABELS) if end_to_end else (NETWORK,)
        calls: dict[tuple[str, int], dict[str, Callable[[], Any]]] = {}
        memory: dict[tuple[str, int], dict[str, float]] = {}
        with returning_memory():
            for batch_size in batch_sizes:
                self.say(f"memory at batch size {batch_size}")
                try:
                    for step in steps:
                        found = self._calls(step, batch_size)
                        memory[step, batch_size] = self._memory(found)
                        calls[step, batch_size] = found
                except NotEnoughMemoryError:
                    if not calls:
                        raise
                    self.notes.append(f"batch size {batch_size} and above: out of memory")
                    break
        self.say(f"the machine's peak in {dtype}")
        peak = measure_peak(self.device, first.dtype, dtype, min(0.3, self.seconds), _clock)
        rows, compared = [], []
        for (step, batch_size), works in calls.items():
            if not works:
                continue
            self.say(f"{step}, batch size {batch_size}")
            seconds = time_in_turn(works, self.seconds, wait=lambda: wait(self.device), clock=_clock)
            for subject in self.subjects:
                if subject.name not in works:
                    continue
                times, macs = Times.of(seconds[subject.name]), subject.model.macs
                gflops = 2e-9 * macs * batch_size / max(times.median, 1e-12) if macs and step == NETWORK else None
                of_peak = None if gflops is None else gflops / peak.gflops
                extra = memory[step, batch_size].get(subject.name)
                rows.append(Row(subject.name, step, batch_size, times, extra, gflops, of_peak))
                if subject is not first and first.name in works:
                    ratio = ratio_of(seconds[subject.name], seconds[first.name])
                    compared.append(Comparison(subject.name, first.name, step, batch_size, ratio))
        return BenchmarkReport(
            machine,
            peak,
            self.size,
            dtype,
            tuple(subject.model for subject in self.subjects),
            tuple(rows),
            tuple(compared),
            installed_versions(),
            tuple(self.notes),
        )

    def _calls(self, step: str, batch_size: int) -> dict[str, Callable[[], Any]]:
        """Returns the calls of a step by the subjects' names; without those that cannot be, which a note says."""
        found = {}
        for subject in self.subjects:
            with _fails_as(subject, batch_size):
                if step == NETWORK:
                    found[subject.name] = subject.call(batch_size)
                    found[subject.name]()
                    continue
                try:
                    found[subject.name] = subject.call_to_labels(batch_size)
                except NotEnoughMemoryError:
                    raise
                except UserError as error:
                    note = f"{subject.name}: {TO_LABELS} was not measured: {error}"
                    if note not in self.notes:
                        self.notes.append(note)
        return found

    def _memory(self, works: dict[str, Callable[[], Any]]) -> dict[str, float]:
        """Returns the extra MiB of each call; empty if this system cannot measure it, which a note says."""
        if can_measure_memory(self.device.type):
            return {name: extra_mib(work, self.device) for name, work in works.items()}
        note = f"memory: this system cannot measure the peak of a call on {self.device.type}"
        if note not in self.notes:
            self.notes.append(note)
        return {}
