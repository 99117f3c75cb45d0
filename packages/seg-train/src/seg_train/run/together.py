"""The start of a run on several processes: if one of them fails, the others end with its message.

Without this, the others would wait for it in their next exchange until a timeout of many minutes: a launcher ends the
processes of its own machine only. Processes tell each other through the key-value store that torch connects them by,
since a process may fail before it knows its device, and so which backend to use.
"""

import contextlib
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from seg_core.errors import UsageError, UserError
from seg_core.parsing import parse_json
from seg_core.text import visible_lines
from seg_train.run.failures import ProcessDiedError
from seg_train.run.launch import check_environment, launched_processes

__all__ = ["agree", "on_main", "together"]

_Result = TypeVar("_Result")

_PATIENCE = 1800.0  # seconds until a process is given up that neither arrives nor fails: torch's own limit
_POLL = 0.05  # seconds
_FAREWELL = 5.0  # seconds that a failed process which serves the store stays for the others
_SHOWN = 600  # characters of a message


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Runs a block on all processes of a run: an exception of one ends the block on all; blocks may be nested.

    Leaves the block when all processes have finished it. Every process must enter it. A run of one process is not
    changed.

    Raises:
        ProcessDiedError: if the block failed on another process; the message says where and why.
        UsageError: if a launcher's environment variables are incomplete.
    """
    processes = _processes()
    try:
        yield
    except Exception as error:
        if processes is not None:
            processes.report(error)
        raise
    if processes is not None:
        processes.meet()


def agree(value: str, difference: str) -> None:
    """Checks that all processes have the same value; every process must call it.

    Args:
        value: of this process.
        difference: message of the error: what differs, and what to do.

    Raises:
        UsageError: if another process has another value.
        ProcessDiedError: if another process failed.
    """
    processes = _processes()
    if processes is None:
        return
    values = processes.meet(value)
    if len(set(values)) > 1:
        found = "; ".join(f"process {rank}: {other}" for rank, other in enumerate(values))
        raise UsageError(f"{difference} ({found[:_SHOWN]})")


def on_main(accelerator: Accelerator, action: Callable[[], _Result]) -> _Result:
    """Returns the result of the main process, or raises its error, in every process; every process must call it."""
    result: Any = None
    error: Exception | None = None
    if accelerator.is_main_process:
        try:
            result = action()
        except Exception as raised:  # the other processes must not wait for it
            if accelerator.num_processes == 1:
                raise
            error = raised
    if accelerator.num_processes > 1:
        result, error = broadcast_object_list([result, error])
    if error is not None:
        raise error
    return result


class _ReportedError(ProcessDiedError):
    """The failure of another process."""


class _Processes:
    """The processes of a run, connected by a store."""

    def __init__(self) -> None:
        try:
            store, self._rank, self._size = next(iter(rendezvous("env://")))
        except (RuntimeError, OSError) as error:
            host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
            raise UserError(
                f"process {os.environ['RANK']} cannot connect to process 0 at {host}:{port} ({_first_line(error)}); "
                "check the host and port that the launcher was given, and that the port is free and behind no firewall"
            ) from error
        self._store = PrefixStore("seg-train", store)
        self._serves = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self._meetings = 0
        self._failures = 0
        self._reported: Exception | None = None

    def meet(self, value: str = "") -> list[str]:
        """Waits for all processes, and returns the value of each.

        Raises:
            ProcessDiedError: if one of them fails or does not come.
        """
        self._meetings += 1
        name = f"meeting {self._failures} {self._meetings}"
        end = time.monotonic() + _PATIENCE
        try:
            self._store.set(f"{name} {self._rank}", value)
            arrived = self._store.add(name, 1)
            while arrived < self._size:
                self._raise_reported()
                if time.monotonic() > end:
                    raise ProcessDiedError(
                        f"{self._size - arrived} of the {self._size} processes of this run have not started in "
                        f"{_PATIENCE / 60:.0f} minutes; see their output"
                    )
                time.sleep(_POLL)
                arrived = self._store.add(name, 0)
            return [self._store.get(f"{name} {rank}").decode() for rank in range(self._size)]
        except UserError:
            raise
        except RuntimeError as error:
            raise ProcessDiedError(
                f"the connection to process 0 of this run was lost ({_first_line(error)}); see its output"
            ) from error

    def report(self, error: Exception) -> None:
        """Tells the others that this process failed, unless they know."""
        if error is self._reported or isinstance(error, _ReportedError):
            return
        self._reported = error
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        report = {"rank": self._rank, "host": socket.gethostname(), "text": visible_lines(text[:_SHOWN])}
        with contextlib.suppress(RuntimeError):  # the store is gone: so is the process that served it
            self._store.set(f"failure {self._failures}", json.dumps(report))
            heard = self._store.add(f"heard {self._failures}", 1)
            end = time.monotonic() + _FAREWELL
            while self._serves and heard < self._size and time.monotonic() < end:
                time.sleep(_POLL)
                heard = self._store.add(f"heard {self._failures}", 0)
        self._start_over()

    def _raise_reported(self) -> None:
        name = f"failure {self._failures}"
        if not self._store.check([name]):
            return
        text = bytes(self._store.get(name)).decode("utf-8", "replace")
        self._store.add(f"heard {self._failures}", 1)
        self._start_over()
        try:
            report = parse_json(text)
            rank, host, told = report["rank"], report["host"], report["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise _ReportedError("another process of this run could not start; see the output of each") from error
        hint = "; each machine needs config, data and run folder at the same paths" if rank else ""
        raise _ReportedError(f"process {rank} of this run, on {host}, could not start: {told}{hint}")

    def _start_over(self) -> None:
        """Forgets the meetings of a start that failed: the processes were at different ones."""
        self._failures += 1
        self._meetings = 0


def _processes() -> _Processes | None:
    """Returns the processes of this run, or None if it has one."""
    check_environment(os.environ)
    if launched_processes(os.environ) <= 1 or "RANK" not in os.environ:
        return None
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    return _connected(tuple(os.environ.get(name, "") for name in names))


@functools.cache
def _connected(launch: tuple[str, ...]) -> _Processes:  # noqa: ARG001 - one connection per launch
    return _Processes()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
