"""Deterministic runs: bit-identical repetition as far as torch supports it, and a warning otherwise."""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["deterministic"]

_CANNOT = re.compile(r"(\S+) does not have a deterministic implementation")


@contextlib.contextmanager
def deterministic(enabled: bool, report: Callable[[str], None]) -> Iterator[None]:
    """Makes torch use deterministic algorithms within the block.

    An operation without one still runs and is reported once: a run that is not exactly repeatable is better than none,
    if this is reported.

    Args:
        enabled: False does nothing.
        report: called with a sentence for each operation that has no deterministic algorithm.
    """
    if not enabled:
        yield
        return
    # cuBLAS reads it when it creates its first handle
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    former = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=r"\S+ does not have a deterministic implementation")
        show = warnings.showwarning

        def show_once(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            found = _CANNOT.match(str(message))
            if found is None:
                show(message, category, *place, **options)
            elif found.group(1) not in seen:
                seen.add(found.group(1))
                report(
                    f"trainer.deterministic: {found.group(1)} has no deterministic implementation on this device; "
                    "repeated runs may differ"
                )

        warnings.showwarning = show_once  # restored by catch_warnings
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(former[0], warn_only=former[1])
            torch.backends.cudnn.benchmark = benchmark
