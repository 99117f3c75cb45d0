"""The progress of `seg predict`: images done, images per second, and what was skipped."""

import time

from seg_core.progress import StatusLine

__all__ = ["ImageProgress", "count_images"]

_INTERVAL = 30.0  # seconds between two lines if stderr is no terminal


class ImageProgress:
    """Counts predicted and failed images, and shows them in one line.

    Args:
        total: images to predict.
        has_videos: whether videos are among them; their frames count as images, in unknown number.

    Attributes:
        done: images predicted.
        failed: images that could not be predicted.
    """

    def __init__(self, total: int, has_videos: bool) -> None:
        self.done = 0
        self.failed = 0
        self._total = "" if has_videos else f"/{total}"
        self._fraction = 0.0
        self._start = time.perf_counter()
        self._line = StatusLine(interval=_INTERVAL)

    def advance(self) -> None:
        """Counts one predicted image."""
        self.done += 1
        self._fraction = 0.0
        self._line.show(self._state())

    def show_fraction(self, fraction: float) -> None:
        """Shows how much of a large image is done, 0 to 1."""
        self._fraction = fraction
        self._line.show(self._state())

    def report(self, problem: str) -> None:
        """Counts one image that failed, and prints the problem."""
        self.failed += 1
        self.message(f"skipped: {problem}")

    def message(self, text: str) -> None:
        """Prints a permanent line."""
        self._line.message(f"seg: {text}")

    def finish(self) -> None:
        """Prints the last state."""
        self._line.close(self._state())

    def _state(self) -> str:
        rate = (self.done + self._fraction) / max(time.perf_counter() - self._start, 1e-9)
        partial = f" and {self._fraction:.0%} of the next" if self._fraction else ""
        return f"{self.done + self.failed}{self._total} images{partial}, {rate:.{1 if rate >= 0.1 else 3}f} images/s"


def count_images(count: int) -> str:
    """Returns "1 image", "2 images", ..."""
    return f"{count} image" + ("" if count == 1 else "s")
