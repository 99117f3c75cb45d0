"""Worker processes of torch's data loader: what they do on a signal, and how they end."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["held_signals", "ignore_signals", "stop_workers"]

# seconds that a worker goes on after SIGTERM: time for the main process to end its step, save, and stop the workers
_GRACE = 60


def ignore_signals(worker: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    """Leaves signals to the main process; for `worker_init_fn` of a data loader.

    Ctrl-C reaches every process of the terminal, and cluster schedulers send SIGTERM to every process of a job. The
    main process ends its work and then the workers. A worker that nobody ends stops a minute after SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_later if hasattr(signal, "SIGALRM") else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Holds back SIGTERM in the block, and in processes that are started in it until `ignore_signals` runs there.

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
