"""The progress of a download."""

from typing import Self

from seg_core.progress import StatusLine

__all__ = ["DownloadProgress"]

_LINE_BYTES = 100_000_000  # one line of progress for each, if the total is unknown


class DownloadProgress:
    """Shows on stderr how much was received: a bar in a terminal, else one line per 10 %.

    Args:
        total: bytes of the whole file, or None if the server does not report it.
        enabled: whether to show anything.
    """

    def __init__(self, total: int | None, enabled: bool) -> None:
        self._total = total
        self._line = StatusLine() if enabled else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.close()

    def show(self, received: int) -> None:
        """Shows the state, if it has changed by a visible step."""
        if self._line is None:
            return
        live = self._line.live
        if self._total:
            percent = 100 * received // self._total
            percent -= 0 if live else percent % 10
            bar = f"[{'#' * (percent // 5):20}] " if live else ""
            self._line.show(f"  {bar}{percent:3} % of {self._total / 1e6:.1f} MB")
        else:
            step = _LINE_BYTES // 100 if live else _LINE_BYTES
            self._line.show(f"  {received // step * step / 1e6:.0f} MB")
