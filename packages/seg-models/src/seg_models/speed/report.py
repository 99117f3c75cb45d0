"""What `optimize` tried, and what it gained."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seg_core.progress import table

__all__ = ["Attempt", "OptimizationReport"]


@dataclass(frozen=True)
class Attempt:
    """One way of computing the logits, as it was tried.

    Attributes:
        name: method and precision, such as `"fused bf16"`.
        seconds: median of one call; None if it was not measured.
        agreement: fraction of pixels, 0 to 1, whose label is that of eager; None if unknown.
        max_error: largest difference of a logit from eager's; None if unknown.
        note: why it was left out; `""` if it was measured and allowed.
    """

    name: str
    seconds: float | None = None
    agreement: float | None = None
    max_error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class OptimizationReport:
    """What was tried for images of one shape; `str` gives a table.

    Attributes:
        shape: (N, C, H, W) of the images.
        chosen: name of the way that is used.
        attempts: what was tried, eager first.
        machine: device, threads and versions.
        remembered: whether the choice is that of an earlier run, of which `seconds` are; nothing was measured then.
        duration: seconds that it took.
    """

    shape: tuple[int, ...]
    chosen: str
    attempts: Sequence[Attempt]
    machine: str
    remembered: bool = False
    duration: float = 0.0

    @property
    def speedup(self) -> float:
        """How many times as fast as eager; 1 if eager is kept."""
        found = {attempt.name: attempt.seconds for attempt in self.attempts}
        own, eager = found.get(self.chosen), self.attempts[0].seconds
        return eager / own if own and eager else 1.0

    @property
    def summary(self) -> str:
        """One line: what is used, and what it gains."""
        size = f"{self.shape[-2]}x{self.shape[-1]}"
        kept = next(attempt for attempt in self.attempts if attempt.name == self.chosen)
        times = ""
        if kept is not self.attempts[0] and kept.seconds and self.attempts[0].seconds:
            times = f", {_ms(kept.seconds)} ms instead of {_ms(self.attempts[0].seconds)} ({self.speedup:.2f}x)"
        agreement = "" if kept.agreement is None else f", {kept.agreement:.2%} of the labels are equal"
        return f"{size}: {self.chosen}{times}{agreement}{' (remembered)' if self.remembered else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return asdict(self) | {"shape": list(self.shape), "speedup": self.speedup}

    def __str__(self) -> str:
        eager = self.attempts[0].seconds
        rows = [
            (
                f"* {a.name}" if a.name == self.chosen else f"  {a.name}",
                "" if a.seconds is None else _ms(a.seconds),
                "" if not a.seconds or not eager else f"{eager / a.seconds:.2f}x",
                "" if a.agreement is None else f"{a.agreement:.2%}",
                "" if a.max_error is None else f"{a.max_error:.1e}",
                a.note,
            )
            for a in self.attempts
        ]
        header = ("  way", "ms", "speed", "equal labels", "max error", "note")
        shape = "x".join(map(str, self.shape))
        return f"{shape}, {self.machine}, in {self.duration:.0f} s\n{table(header, rows, 'lrrrrl')}\n{self.summary}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"
