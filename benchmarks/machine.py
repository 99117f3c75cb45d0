"""What the results depend on: machine, versions, date and commit, without names of hosts and folders."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["describe_machine"]

_ROOT = Path(__file__).resolve().parent.parent
_ALWAYS = ("torch", "torchvision", "numpy", "pillow")


def describe_machine(distributions: Iterable[str] = ()) -> dict[str, str]:
    """Returns the facts by name, for the head of the results.

    Args:
        distributions: PyPI names of further packages whose versions to include.
    """
    import torch

    from seg_models.speed.machine import num_cores, processor_name

    names = dict.fromkeys([*_ALWAYS, *sorted(distributions)])
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{processor_name()}, {num_cores()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "torch threads": str(torch.get_num_threads()),
        "versions": ", ".join(f"{name} {_version(name)}" for name in names),
    }


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not on Windows
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _commit() -> str:
    """Returns the short hash of the commit, with "+changes" if tracked files differ from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or not a clone
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, cwd=_ROOT).stdout.strip()
