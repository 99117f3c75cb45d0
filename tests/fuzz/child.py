"""The process that tries inputs: its memory is limited, and what it prints is dropped."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from seg_core.errors import NotEnoughMemoryError, UserError, is_out_of_memory
from tests.fuzz.harness import Difference, Harness, Refused, bytes_of, load

__all__ = ["serve"]

MEMORY = 2 << 30  # bytes that a process may take in addition to what it has after its imports
_PACKAGES = ("seg_core", "seg_models", "seg_datasets", "seg_train")


def serve(names: Sequence[str], connection: Connection, memory: int = MEMORY) -> None:
    """Tries what comes through a connection, one input after the other, until it closes.

    Args:
        names: of the harnesses.
        connection: gives the name of a harness and a seed, the name of an input of the corpus or the bytes of an input;
            takes for each the outcome, the exception, where it was raised, the seconds, and the largest resident memory
            so far in bytes.
        memory: see `MEMORY`.
    """
    warnings.simplefilter("ignore")
    os.environ["SEG_OFFLINE"] = "1"
    os.environ["COLUMNS"] = "120"
    with contextlib.suppress(OSError):  # nothing to read, and nothing that is shown
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
    loaded = {name: load(name) for name in names}
    _limit(memory)
    connection.send("ready")
    while True:
        try:
            name, what = connection.recv()
        except EOFError:
            return
        # a new one for each input, so that no input finds what another has left
        folder = Path(tempfile.mkdtemp(prefix="seg-fuzz-"))
        connection.send(str(folder))  # for whoever ends this process
        try:
            harness = loaded[name]
            start = time.process_time()
            data = what if isinstance(what, bytes) else bytes_of(name, harness, what)
            result = _tried(harness, data, folder)
            connection.send((*result, time.process_time() - start, _peak()))
        except Exception as error:  # of the harness, which is no finding
            connection.send(error)
            raise
        finally:
            os.chdir(folder.parent)
            shutil.rmtree(folder, ignore_errors=True)


def _tried(harness: Harness, data: bytes, folder: Path) -> tuple[str, str, str]:
    os.chdir(folder)
    try:
        harness.attempt(data, folder)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if _lacked_memory(error):
            return "memory", text, _place(error)
        if isinstance(error, UserError | Refused):
            return "refused", text, ""
        return "difference" if isinstance(error, Difference) else "foreign", text, _place(error)
    except SystemExit as error:
        return "foreign", f"SystemExit: {error}", _place(error)
    return "right", "", ""


def _lacked_memory(error: BaseException) -> bool:
    """Returns whether an exception, or one that it hides, says that memory ran out."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if is_out_of_memory(found) or isinstance(found, NotEnoughMemoryError):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False


def _place(error: BaseException) -> str:
    """Returns the last line of the toolkit, and the last line of all, that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if any(f"{os.sep}{package}{os.sep}" in f.filename for package in _PACKAGES)]
    shown = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in [*frames[-1:], *own[-1:]]]
    return " <- ".join(dict.fromkeys(shown))


def _limit(memory: int) -> None:
    """Limits the address space; on systems without such a limit nothing is limited."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    unit: Any = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
