"""What `benchmark` found: numbers as data, and as tables for people."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seg_core.errors import counted
from seg_core.progress import size_text, table
from seg_models.speed.machine import Machine, Peak
from seg_models.speed.timing import Ratio, Times

__all__ = ["BenchmarkReport", "Comparison", "MeasuredModel", "Row", "Table"]

NETWORK, TO_LABELS = "network", "image to labels"
_NONE = "-"
_BUSY = 1.3  # median / minimum of equal calls; on a quiet machine it is below
_LOADED = 1.5  # load average / cores; this process alone causes up to 1
_EXPLAINED = {
    NETWORK: "one call of the network, on normalized images in memory",
    TO_LABELS: "one call of Predictor, on images in memory: preprocessing, network, labels",
    "ms": "latency of one call, with all images of a batch, after a warm-up: median, minimum, percentiles",
    "images/s": "batch / median",
    "MiB": "peak memory of one call, beyond model and images",
    "GFLOP/s": "2 x MACs x batch / median, and its part of the peak",
}


@dataclass(frozen=True)
class Table:
    """A table as `seg_core.progress.table` takes it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str


@dataclass(frozen=True)
class MeasuredModel:
    """A model that was measured.

    Attributes:
        name: its name in the rows.
        params: numbers in its parameters.
        macs: multiply-accumulates of convolutions and matrix products for one image of the size; None if torch does
            not see them.
        weights_bytes: bytes of its parameters and buffers, as it was measured.
        note: a sentence about its weights, or "".
        optimized: what `optimize` did, in its words; None if it was not asked to.
    """

    name: str
    params: int
    macs: int | None
    weights_bytes: int
    note: str = ""
    optimized: str | None = None


@dataclass(frozen=True)
class Row:
    """The numbers of one model, step and batch size.

    Attributes:
        model: name of the model.
        step: `"network"`, or `"image to labels"`: preprocessing, network and labels.
        batch_size: images in one call.
        times: in seconds.
        memory_mib: peak memory of one call beyond model and images, in MiB; None if it cannot be measured.
        gflops: achieved GFLOP/s of the network, 2 x MACs x batch size / median; None for the other step.
        of_peak: `gflops` as a fraction of the machine's peak.
    """

    model: str
    step: str
    batch_size: int
    times: Times
    memory_mib: float | None
    gflops: float | None
    of_peak: float | None

    @property
    def images_per_second(self) -> float:
        """Throughput: batch size / median latency."""
        return self.batch_size / max(self.times.median, 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values; times in milliseconds."""
        times = {
            f"{name}_ms": None if value is None else value * 1000
            for name, value in asdict(self.times).items()
            if name != "runs"
        }
        return {
            "model": self.model,
            "step": self.step,
            "batch_size": self.batch_size,
            "runs": self.times.runs,
            **times,
            "images_per_second": self.images_per_second,
            "memory_mib": self.memory_mib,
            "gflops": self.gflops,
            "of_peak": self.of_peak,
        }


@dataclass(frozen=True)
class Comparison:
    """The time of a model beside that of the first one, measured in turn.

    Attributes:
        model: name of the model.
        baseline: name of the first model.
        step: as in `Row`.
        batch_size: images in one call.
        ratio: of the two times in each round; below 1 if `model` is faster.
    """

    model: str
    baseline: str
    step: str
    batch_size: int
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values; `ratio` is the median."""
        values = asdict(self.ratio)
        return {
            "model": self.model,
            "baseline": self.baseline,
            "step": self.step,
            "batch_size": self.batch_size,
            "ratio": values.pop("median"),
            **values,
        }


@dataclass(frozen=True)
class BenchmarkReport:
    """What `benchmark` found. `str(report)` is the text with the tables.

    Attributes:
        machine: what the times were measured on.
        peak: the largest GFLOP/s of this machine in `dtype`.
        size: (height, width) in pixels of the images.
        dtype: floating-point type of the first network, as `"fp32"`.
        models: what was measured; the first is the baseline of the comparisons.
        rows: the numbers, by batch size, step and model.
        compare: the times of the other models beside the first.
        versions: of Python, torch and the packages.
        notes: sentences about what was not measured, and why.
    """

    machine: Machine
    peak: Peak
    size: tuple[int, int]
    dtype: str
    models: tuple[MeasuredModel, ...]
    rows: tuple[Row, ...]
    compare: tuple[Comparison, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as `seg benchmark --json` writes them."""
        return {
            "machine": {**asdict(self.machine), "peak": {**asdict(self.peak), "gflops": self.peak.gflops}},
            "size": list(self.size),
            "dtype": self.dtype,
            "models": [asdict(model) for model in self.models],
            "rows": [row.to_dict() for row in self.rows],
            "compare": [comparison.to_dict() for comparison in self.compare],
            "notes": [*self.notes, *self._noise()],
            "versions": self.versions,
        }

    def __str__(self) -> str:
        parts = [
            table(part.header, part.rows, part.align) if isinstance(part, Table) else part for part in self.parts()
        ]
        return "\n".join(parts)

    def parts(self) -> Iterator[str | Table]:
        """Yields the lines and tables that `str` joins."""
        height, width = self.size
        torch = self.versions.get("torch", "")
        yield f"machine  {self.machine}; torch {torch}"
        yield f"peak     {self.peak}"
        yield f"images   {height}x{width} pixels, {self.dtype}"
        for model in self.models:
            macs = "unknown" if model.macs is None else f"{model.macs / 1e9:.2f} G"
            size = f"{model.params / 1e6:.2f} M parameters ({size_text(model.weights_bytes)}), {macs} MACs per image"
            yield f"model    {model.name}: {size}" + (f"; {model.note}" if model.note else "")
            if model.optimized is not None:
                yield "\n".join(f"         {line}" for line in model.optimized.splitlines())
        yield ""
        yield self._rows()
        if self.compare:
            yield ""
            yield self._compared()
        yield ""
        yield "\n".join(f"{name:<16} {text}" for name, text in self._explanations())
        for note in (*self.notes, *self._noise()):
            yield f"note: {note}"

    def _rows(self) -> Table:
        header = [
            "model",
            "step",
            "batch",
            "ms",
            "min",
            "p10",
            "p90",
            "p99",
            "runs",
            "images/s",
            "MiB",
            "GFLOP/s",
            "of peak",
        ]
        lines = [
            [
                row.model,
                row.step,
                str(row.batch_size),
                *map(_milliseconds, (times.median, times.fastest, times.p10, times.p90, times.p99)),
                str(times.runs),
                _significant(row.images_per_second),
                _NONE if row.memory_mib is None else f"{row.memory_mib:.0f}",
                _NONE if row.gflops is None else _significant(row.gflops),
                _NONE if row.of_peak is None else f"{row.of_peak:.0%}",
            ]
            for row in self.rows
            for times in [row.times]
        ]
        first = 0 if len(self.models) > 1 else 1  # one model needs no column for its name
        return Table(header[first:], [line[first:] for line in lines], ("ll" + "r" * 11)[first:])

    def _compared(self) -> Table:
        header = [f"time beside {self.models[0].name}", "step", "batch", "ratio", "p10", "p90", "faster in"]
        lines = [
            [
                one.model,
                one.step,
                str(one.batch_size),
                *(_NONE if r is None else f"{r:.3f}x" for r in (one.ratio.median, one.ratio.p10, one.ratio.p90)),
                f"{one.ratio.faster_in} of {one.ratio.rounds} rounds",
            ]
            for one in self.compare
        ]
        return Table(header, lines, "llrrrrr")

    def _explanations(self) -> Iterator[tuple[str, str]]:
        steps = {row.step for row in self.rows}
        for name, text in _EXPLAINED.items():
            if name in steps or name not in (NETWORK, TO_LABELS):
                yield name, text
        if self.compare:
            yield "ratio", "median of the ratios of the two times within each round; the models were called in turn"

    def _noise(self) -> Iterator[str]:
        """Yields sentences about a busy machine, and about times that are too few for percentiles."""
        load, cores = self.machine.load, self.machine.cores
        if load is not None and self.machine.device == "cpu" and load > _LOADED * cores:
            yield (
                f"the load average was {load:.1f} on {counted(cores, 'core')} at the start: other programs take time "
                "from the calls; ratios are less affected than times"
            )
        spread = max(row.times.median / max(row.times.fastest, 1e-12) for row in self.rows)
        if spread > _BUSY:
            yield f"the median of equal calls is up to {spread:.1f} times the minimum: the machine's speed varies"
        if any(row.times.p99 is None for row in self.rows):
            yield "p10 and p90 need 10 runs, p99 needs 100; more seconds give more runs (--seconds)"
        if any(comparison.ratio.p10 is None for comparison in self.compare):
            yield "fewer than 10 rounds say little about a ratio; more seconds give more rounds (--seconds)"


def _milliseconds(seconds: float | None) -> str:
    return _NONE if seconds is None else _significant(seconds * 1000)


def _significant(value: float) -> str:
    """Returns a number with three digits, or all of those before the point."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
