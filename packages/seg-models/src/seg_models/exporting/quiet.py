"""Exporters and compilers talk about their own code; what fails is told by our own errors."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings and log lines of libraries from the user meanwhile."""
    before = logging.root.manager.disable
    # errors too: torch logs a traceback before it raises
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
