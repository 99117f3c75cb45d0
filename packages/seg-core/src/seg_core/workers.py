"""Worker processes of torch's data loader: what they do on a signal, and how they end."""

import signal
from typing import Any

__all__ = ["ignore_signals", "stop_workers"]


def ignore_signals(worker: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    """Leaves signals to the main process; for `worker_init_fn` of a data loader.

    Ctrl-C reaches every process of the terminal; the main process ends its work and then the workers. It does so with
    SIGTERM, for which they must not have a handler of the main process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stop_workers(iterator: Any) -> None:
    """Stops the workers of a data loader's iterator now.

    If garbage collection did it, torch would wait 5 s for each of them: by then it has ended the threads that tell
    them to stop.
    """
    iterator._shutdown_workers()
