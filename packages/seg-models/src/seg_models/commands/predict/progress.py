"""The progress of `seg predict`: images done, images per second, the remaining time, and what was skipped."""

import os
import time

from seg_core.progress import BarProgress, StatusLine, clock, make_progress

__all__ = ["ImageProgress", "count_images"]

_INTERVAL = 30.0  # seconds between two lines if stderr is no terminal


class ImageProgress:
    """Counts predicted and failed images, and shows them: as a bar on a terminal if rich is installed, else in a line.

    Args:
        total: images to predict; None if it is not known, since the number of frames of a video is not.

    Attributes:
        done: images predicted.
        failed: images that could not be predicted.
    """

    def __init__(self, total: int | None) -> None:
        self.done = 0
        self.failed = 0
        self._total = total
        self._finished = False
        self._fraction = 0.0
        self._start = time.perf_counter()
        self._line = StatusLine(interval=_INTERVAL)
        # several processes would draw over each other's bars
        shown = make_progress() if os.environ.get("WORLD_SIZE", "1") == "1" else None
        self._bar = shown if isinstance(shown, BarProgress) else None
        self._show()

    def advance(self) -> None:
        """Counts one predicted image."""
        self.done += 1
        self._fraction = 0.0
        self._show()

    def show_fraction(self, fraction: float) -> None:
        """Shows how much of a large image is done, 0 to 1."""
        self._fraction = fraction
        self._show()

    def report(self, problem: str) -> None:
        """Counts one image that failed, and prints the problem."""
        self.failed += 1
        self._fraction = 0.0
        self.message(f"skipped: {problem}")

    def expect(self, count: int) -> None:
        """Adds to the images to predict, if their number is known; with a negative number, there are fewer."""
        if self._total is not None:
            self._total += count

    def message(self, text: str) -> None:
        """Prints a permanent line."""
        if self._bar is not None:
            self._bar.message(f"seg: {text}")
        else:
            self._line.message(f"seg: {text}")

    def finish(self) -> None:
        """Prints the last state, and ends the bar; may be called twice."""
        if self._finished:
            return
        self._finished = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        # with --resume there may be nothing to predict
        self._line.close(self._state() if self._total != 0 or self.done or self.failed else None)

    @property
    def total(self) -> int | None:
        """The number of images to predict, also those that failed; None if it is not known."""
        return self._total

    def describe(self) -> str:
        """Returns the number of images done: "12 of 40 images", "1 image"."""
        done = self.done + self.failed
        return count_images(done) if self._total is None else f"{done} of {count_images(self._total)}"

    def _show(self) -> None:
        done = self.done + self.failed + self._fraction
        if self._bar is not None:
            self._bar.part("predicting", done, self._total)
        elif done:
            self._line.show(self._state() + self._remaining(done))

    def _remaining(self, done: float) -> str:
        if self._total is None or done >= self._total:
            return ""
        return f", {clock((time.perf_counter() - self._start) / done * (self._total - done))} left"

    def _state(self) -> str:
        rate = (self.done + self._fraction) / max(time.perf_counter() - self._start, 1e-9)
        partial = f" and {self._fraction:.0%} of the next" if self._fraction else ""
        done = self.done + self.failed
        images = count_images(done) if self._total is None else f"{done}/{count_images(self._total)}"
        return f"{images}{partial}" + (f", {rate:.{1 if rate >= 0.1 else 3}f} images/s" if rate else "")


def count_images(count: int) -> str:
    """Returns "1 image", "2 images", ..."""
    return f"{count} image" + ("" if count == 1 else "s")
