"""Ctrl-C: the first one asks for an orderly end, the second one ends at once."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from seg_core.errors import UserError

__all__ = ["Interruption", "RunInterruptedError"]


class RunInterruptedError(UserError):
    """A run was stopped by Ctrl-C; it can be resumed."""


class Interruption:
    """While active, the first SIGINT sets `requested` and the second raises KeyboardInterrupt.

    Outside of the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal calls it
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Written to the descriptor: a print that interrupts a print of the same stream is an error.
        message = b"\nstopping after this step and saving a checkpoint; Ctrl-C again stops at once\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, message)
