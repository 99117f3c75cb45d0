"""Worker processes of torch's data loader: what they share, what they do on a signal, and how they end."""

import contextlib
import gc
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["held_signals", "ignore_signals", "start_worker", "stop_workers"]

# seconds that a worker goes on after SIGTERM: time for the main process to end its step, save, and stop the workers
_GRACE = 60


def start_worker(worker: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    """Leaves signals to the main process, and memory shared with it; for `worker_init_fn` of a data loader.

    A forked worker shares the memory of the main process until one of them writes to it. Garbage collection writes to
    every object, so the first full one would copy them all: 80 MiB per worker for the modules that torch imports alone.
    Here those that exist already are left out of it.
    """
    gc.freeze()
    ignore_signals()


def ignore_signals() -> None:
    """Leaves signals to the main process.

    Ctrl-C reaches every process of the terminal, and cluster schedulers send SIGTERM to every process of a job. The
    main process ends its work and then the workers. A worker that nobody ends stops a minute after SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_later if hasattr(signal, "SIGALRM") else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Holds back SIGTERM in the block, and in processes that are started in it until `start_worker` runs there.

    A worker that got it before would die, and the main process would report that.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def stop_workers(iterator: Any) -> None:
    """Stops the workers of a data loader's iterator now.

    If garbage collection did it, torch would wait 5 s for each of them: by then it has ended the threads that tell
    them to stop.
    """
    iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():  # it hangs in a sample, and leaves SIGTERM to us
            worker.kill()


def _stop_later(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal calls it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_GRACE)
