"""The loop: inputs go to a child process; one that hangs or dies is replaced, and the rest goes on."""

import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.child import MEMORY, serve
from tests.fuzz.harness import BAD, NAMES, load, make_input

__all__ = ["SECONDS", "Counts", "Finding", "Worker", "read_counts", "run", "save_finding", "write_counts"]

SECONDS = 10.0  # of computing that an input may take
_KEPT = 3  # inputs of one finding that are written


@dataclass(frozen=True)
class Finding:
    """An input that has neither the right result nor a right refusal.

    Attributes:
        harness: name of the harness.
        what: the seed, or the name of an input of the corpus, or the bytes.
        outcome: one of `BAD`.
        text: the exception.
        place: where it was raised.
    """

    harness: str
    what: int | str | bytes
    outcome: str
    text: str
    place: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """What findings of one cause share, as far as this can be told."""
        return self.outcome, self.place or "?", self.text.partition(":")[0]


@dataclass
class Counts:
    """What is known of a harness.

    Attributes:
        next_seed: the first seed that was not tried.
        inputs: number of inputs.
        outcomes: outcome -> number of inputs.
        seconds: computing time of all inputs.
        slowest: computing time of the slowest one, and its seed or name.
        peak: largest resident memory in bytes.
        kinds: findings by kind: how often, and the first seed or name.
    """

    next_seed: int = 0
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")
    peak: int = 0
    kinds: dict[str, list[Any]] = field(default_factory=dict)

    def line(self) -> str:
        """Returns the counts as a person reads them."""
        each = ", ".join(f"{self.outcomes[name]} {name}" for name in ("right", "refused", *BAD) if self.outcomes[name])
        rate = self.inputs / self.seconds if self.seconds else 0.0
        return (
            f"{self.inputs} inputs ({each}), {rate:.0f} per second, slowest {self.slowest[0]:.1f} s (input "
            f"{self.slowest[1]}), peak {self.peak / 2**20:.0f} MiB"
        )


class Worker:
    """A child process, which is started when it is needed.

    Args:
        names: of the harnesses that it can try.
        seconds: computing time that an input may take; the time by the clock may be six times as long, since a busy
            machine is no fault of the input.
        memory: bytes that the process may take besides what it has after its imports.
    """

    def __init__(self, *names: str, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.names, self.seconds, self.memory = names, seconds, memory
        self._process: Any = None
        self._connection: Any = None

    def attempt(self, name: str, what: int | str | bytes) -> tuple[str, str, str, float, int]:
        """Tries an input; returns its outcome, exception, place, seconds, and the largest memory of the process."""
        if self._process is None:
            self._start()
        folder = ""
        start, began = self._computed(), time.monotonic()
        try:
            self._connection.send((name, what))
            while True:
                if self._connection.poll(0.5):
                    answer = self._connection.recv()
                    if isinstance(answer, tuple):
                        return answer
                    if isinstance(answer, Exception):
                        raise RuntimeError(f"harness {name} cannot make input {what!r}") from answer
                    folder = answer
                elif self._computed() - start > self.seconds or time.monotonic() - began > 6 * self.seconds:
                    self.close(at_once=True)
                    return "hang", f"no end after {self.seconds:g} s", "", self.seconds, 0
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5)
            code = self._process.exitcode
            self.close()
            return "died", f"the process ended with {code}", str(code), 0.0, 0
        finally:
            if folder and self._process is None:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self, *, at_once: bool = False) -> None:
        """Ends the process: by itself, or at once."""
        if self._process is not None:
            self._connection.close()
            if not at_once:
                self._process.join(5)
            self._process.kill()
            self._process.join()
        self._process = None

    def _start(self) -> None:
        # a new interpreter: a copy of this one would inherit the threads of torch and what tests have changed
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self.names, theirs, self.memory), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            self.close()
            raise RuntimeError(f"the process of {', '.join(self.names)} ended before it began") from None

    def _computed(self) -> float:
        """Returns the seconds that the process has computed; where this is unknown those of the clock."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(
    worker: Worker,
    name: str,
    inputs: Iterable[int | str],
    counts: Counts,
    found: Callable[[Finding], None],
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Tries inputs of a harness, seeds or names of the corpus, and counts; until they end or `goes_on` says no."""
    for what in inputs:
        if not goes_on():
            return
        outcome, text, place, seconds, peak = worker.attempt(name, what)
        counts.inputs += 1
        counts.outcomes[outcome] += 1
        counts.seconds += seconds
        counts.peak = max(counts.peak, peak)
        counts.slowest = max(counts.slowest, (seconds, str(what)))
        if isinstance(what, int):
            counts.next_seed = max(counts.next_seed, what + 1)
        if outcome in BAD:
            finding = Finding(name, what, outcome, text, place)
            number = counts.kinds.setdefault(" | ".join(finding.kind), [0, str(what)])
            number[0] += 1
            if number[0] <= _KEPT:
                found(finding)


def save_finding(finding: Finding, folder: Path) -> Path:
    """Writes the input of a finding, and beside it what happened; returns the path."""
    harness = load(finding.harness)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.harness}-{finding.what}{harness.suffix}"
    if isinstance(finding.what, int):
        path.write_bytes(make_input(finding.harness, harness, finding.what))
    path.with_name(f"{path.name}.txt").write_text(
        f"{finding.outcome}\n{finding.text}\n{finding.place}\n", encoding="utf-8", errors="backslashreplace"
    )
    return path


def read_counts(path: Path) -> dict[str, Counts]:
    """Returns the counts of earlier calls by harness."""
    if not path.exists():
        return {name: Counts() for name in NAMES}
    stored = json.loads(path.read_text(encoding="utf-8"))
    found = {name: Counts(**stored.get(name, {})) for name in NAMES}
    for counts in found.values():
        counts.outcomes, counts.slowest = Counter(counts.outcomes), tuple(counts.slowest)
    return found


def write_counts(path: Path, counts: dict[str, Counts]) -> None:
    """Writes the counts of all harnesses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps({n: vars(c) for n, c in counts.items()}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def seeds(first: int) -> Iterator[int]:
    """Yields all seeds from the first one on."""
    while True:
        yield first
        first += 1
