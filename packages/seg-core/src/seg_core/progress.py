"""Progress and tables of every command: bars and rich tables on a terminal, plain lines elsewhere.

Progress goes to stderr, tables to stdout.
"""

import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from seg_core.errors import UsageError
from seg_core.text import visible, visible_lines

__all__ = [
    "PROGRESS_MODES",
    "BarProgress",
    "PlainProgress",
    "Progress",
    "QuietProgress",
    "StatusLine",
    "StepState",
    "clock",
    "make_progress",
    "print_table",
    "size_text",
    "table",
]

PROGRESS_MODES = ("auto", "bar", "plain", "quiet")


@dataclass(frozen=True)
class StepState:
    """The state of a training run after a step.

    Attributes:
        step: number of optimizer steps done.
        epoch: counted from 1.
        epochs: number of epochs of the run.
        loss: mean of the epoch so far.
        miou: mIoU of the epoch so far, 0 to 1.
        images_per_second: over all processes.
        data_wait: fraction 0 to 1 of the time spent waiting for samples.
        memory_mib: memory in use, in MiB.
    """

    step: int
    epoch: int
    epochs: int
    loss: float
    miou: float
    images_per_second: float
    data_wait: float
    memory_mib: float

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f}  mIoU {self.miou:.4f}  {self.images_per_second:.1f} images/s  "
            f"data wait {self.data_wait:.0%}  {self.memory_mib / 1024:.1f} GiB"
        )


class Progress:
    """Base class of progress displays; shows nothing itself.

    Attributes:
        interval: seconds between two updates, long enough that reading scores from a device costs little.
    """

    interval = float("inf")

    def __init__(self) -> None:
        self._next = time.monotonic() + self.interval

    def due(self) -> bool:
        """Returns whether it is time for an update; the next one is due an interval later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.interval
        return True

    def start(self, total_steps: int, done_steps: int) -> None:
        """Starts; `done_steps` were done before this process."""

    def step(self, state: StepState) -> None:
        """Shows the state of the training."""

    def part(self, what: str, done: float, total: int | None) -> None:
        """Shows the progress of work without steps, such as an evaluation; it ends when `done` is `total`.

        `done` may count a part of the next piece; `total` is None if it is not known.
        """

    def message(self, text: str) -> None:
        """Shows a line that stays, such as the result of an epoch."""

    def warn(self, text: str) -> None:
        """Shows a problem that does not end the run."""
        warnings.warn(text, stacklevel=3)

    def close(self) -> None:
        """Closes the display; may be called twice."""


class PlainProgress(Progress):
    """Prints plain lines: at most one every ten seconds, and the messages."""

    interval = 10.0

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr

    def start(self, total_steps: int, done_steps: int) -> None:
        """Remembers when and at which step the run began, for the remaining time."""
        self._total, self._done, self._begin = total_steps, done_steps, time.monotonic()

    def step(self, state: StepState) -> None:
        """Prints one line."""
        elapsed = time.monotonic() - self._begin
        remaining = elapsed / max(state.step - self._done, 1) * (self._total - state.step)
        self.message(
            f"step {state.step}/{self._total}  epoch {state.epoch}/{state.epochs}  {state}  {clock(remaining)} left"
        )

    def part(self, what: str, done: float, total: int | None) -> None:
        """Prints one line if it is due."""
        if self.due():
            self.message(f"{what} {int(done)}" + ("" if total is None else f"/{total}"))

    def message(self, text: str) -> None:
        """Prints one line."""
        print(visible_lines(text), file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        """Prints one line."""
        self.message(f"warning: {text}")


class QuietProgress(Progress):
    """Shows only warnings, as plain lines."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr

    def warn(self, text: str) -> None:
        """Prints one line."""
        print(f"warning: {visible_lines(text)}", file=self._stream, flush=True)


class BarProgress(Progress):
    """Shows a rich bar with the state of training and the remaining time; work without steps has its own bar."""

    interval = 0.5

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
        )
        self._task: Any = None
        self._part: Any = None

    def start(self, total_steps: int, done_steps: int) -> None:
        """Draws the empty bar."""
        self._task = self._bar.add_task("train", total=total_steps, completed=done_steps, state="")
        self._bar.start()

    def step(self, state: StepState) -> None:
        """Moves the bar."""
        self._bar.update(
            self._task, completed=state.step, description=f"epoch {state.epoch}/{state.epochs}", state=str(state)
        )

    def part(self, what: str, done: float, total: int | None) -> None:
        """Moves the bar of this work, and removes it when the work is over."""
        if self._part is None:
            self._part = self._bar.add_task(what, total=total, state="")
            self._bar.start()
        self._bar.update(self._part, completed=done)
        if total is not None and done >= total:
            self._bar.remove_task(self._part)
            self._part = None

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(visible_lines(text), markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(f"warning: {visible_lines(text)}", markup=False, highlight=False, style="yellow")

    def close(self) -> None:
        """Stops drawing."""
        self._bar.stop()


def make_progress(mode: str = "auto") -> Progress:
    """Returns a progress display: by default a bar if stderr is a terminal and rich is installed, else plain lines.

    Of several processes under a launcher, only the one with `RANK` 0 shows anything.

    Args:
        mode: `"auto"`, `"bar"`, `"plain"`, or `"quiet"` (only warnings).

    Raises:
        UsageError: if there is no such mode.
    """
    if mode not in PROGRESS_MODES:
        raise UsageError(f"progress must be one of {', '.join(PROGRESS_MODES)}, got {mode!r}")
    if os.environ.get("RANK", "0") != "0":
        return Progress()
    if mode == "quiet":
        return QuietProgress()
    has_rich = _has_rich()
    if mode == "bar" and not has_rich:
        raise UsageError("progress bar needs rich: pip install rich, or use plain")
    if mode == "bar" or (mode == "auto" and sys.stderr.isatty() and has_rich):
        return BarProgress()
    return PlainProgress()


def clock(seconds: float) -> str:
    """Returns a time as minutes and seconds, `2:05`, with hours if there are any, `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(size: float) -> str:
    """Returns a number of bytes in the largest unit that keeps it above 1: `12.3 MiB`, `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


# ---- one line --------------------------------------------------------------------------------------------------------


class StatusLine:
    """Shows the state of simple work in one line: rewritten on a terminal, printed at intervals elsewhere.

    Args:
        interval: seconds between two lines without a terminal; with 0 every change is printed.
        stream: stderr if None.

    Attributes:
        live: whether the stream is a terminal.
    """

    def __init__(self, interval: float = 0.0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._interval = interval
        self._next = time.monotonic() + interval
        self._shown = ""
        self.live = self._stream.isatty()

    def show(self, text: str) -> None:
        """Shows the state, if it has changed and is due."""
        now = time.monotonic()
        if text == self._shown or (not self.live and now < self._next):
            return
        self._next = now + self._interval
        self._write(text)

    def message(self, text: str) -> None:
        """Prints a line that stays, above the state."""
        self._write(text, ends=True)

    def close(self, text: str | None = None) -> None:
        """Ends the line, with `text` as the last state if it is given."""
        if text is not None:
            self._write(text, ends=True)
        elif self.live and self._shown:
            print(file=self._stream)
        self._shown = ""

    def _write(self, text: str, ends: bool = False) -> None:
        text = visible(text)
        # on a terminal the rest of a longer line must be overwritten
        before = f"\r{text:<{len(self._shown)}}" if self.live else text
        self._shown = "" if ends else text
        print(before, end="\n" if ends or not self.live else "", file=self._stream, flush=True)


# ---- tables ----------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None) -> str:
    """Returns a table as plain text, its columns two spaces apart.

    >>> print(table(["class", "IoU"], [["road", "0.9812"], ["sky", "absent"]]))
    class     IoU
    road   0.9812
    sky    absent

    Args:
        header: column titles.
        rows: cells of each row.
        align: `"l"` (left) or `"r"` (right) per column; by default the first column is left-aligned and the others are
            right-aligned.
    """
    align = align or _default_align(header)
    lines = [[visible(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if side == "l" else f"{cell:>{width}}"
            for cell, width, side in zip(line, widths, align, strict=True)
        ).rstrip()
        for line in lines
    )


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None) -> None:
    """Prints a table to stdout: with rich if stdout is a terminal and rich is installed, else as plain text.

    Args:
        header: column titles.
        rows: cells of each row, shown literally (rich would interpret brackets).
        align: as for `table`.
    """
    if sys.stdout is None or not (sys.stdout.isatty() and _has_rich()):
        print(table(header, rows, align))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for place, (title, side) in enumerate(zip(header, align or _default_align(header), strict=True)):
        shown.add_column(Text(visible(title)), justify="left" if side == "l" else "right", no_wrap=place == 0)
    for row in rows:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(shown)


def _default_align(header: Sequence[str]) -> str:
    return "l" + "r" * (len(header) - 1)


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None
