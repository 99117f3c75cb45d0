"""Ctrl-C and SIGTERM: the first stops the run after a checkpoint, a second Ctrl-C stops at once."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from seg_core.errors import UserError

__all__ = ["Interruption", "RunInterruptedError"]


class RunInterruptedError(UserError):
    """A run was stopped by Ctrl-C or SIGTERM; it can be resumed."""

    exit_code = 130  # as after Ctrl-C in every command


class Interruption:
    """While active, a first SIGINT or a SIGTERM sets `requested`, and a second SIGINT raises KeyboardInterrupt.

    Cluster schedulers and launchers of several processes send SIGTERM before they kill. Outside the main thread, where
    Python cannot handle signals, nothing changes.
    """

    def __init__(self) -> None:
        self.requested = False
        self._interrupts = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal calls it
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        if self.requested:
            return
        self.requested = True
        # Written to the file descriptor: a print inside a print to the same stream is an error.
        message = b"\nstopping after this step and saving a checkpoint; Ctrl-C again stops at once\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, message)
