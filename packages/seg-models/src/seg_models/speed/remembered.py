"""Remembers which way of computing was fastest, per machine, network, shape and tolerance, across runs."""

import contextlib
import hashlib
import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_core.errors import UserError
from seg_core.files.json_text import write_json
from seg_core.files.locks import locked
from seg_core.files.scan_cache import cache_folder
from seg_core.parsing import read_json
from seg_core.versions import installed_versions

__all__ = ["describe_machine", "key_of", "recall", "remember"]

_FILE = "optimized.json"
_MOST = 1000  # entries; the oldest are dropped


def describe_machine(device: torch.device) -> str:
    """Returns the processor, the number of threads, and the versions that decide about speed."""
    # those of the runtimes as they are installed: they are imported later, if at all
    versions = installed_versions("torch", "seg-models") | _of_runtimes()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    return ", ".join([name, *(f"{package} {number}" for package, number in versions.items())])


def _of_runtimes() -> dict[str, str]:
    found = {}
    for name in ("onnxruntime", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in found.items()}
    # the same name is given to processors of several generations, on virtual machines above all
    parts = [facts.get(name, "") for name in ("model name", "cpu family", "model")]
    return " ".join(part for part in parts if part) or platform.machine()


def key_of(machine: str, network: nn.Module, shape: tuple[int, ...], options: Mapping[str, Any]) -> str:
    """Returns the key of a decision.

    The weights' values are not part of it: they change the agreement, which is checked each time, but not the time.
    """
    spec = getattr(network, "build_spec", None)
    tensors = [(name, str(value.dtype), tuple(value.shape)) for name, value in network.state_dict().items()]
    kind = f"{type(network).__module__}.{type(network).__qualname__}"
    text = repr((machine, kind, spec, tensors, shape, sorted(options.items())))
    return hashlib.sha256(text.encode()).hexdigest()


def recall(key: str) -> dict[str, Any] | None:
    """Returns what is remembered under a key, else None; a damaged file is as good as none."""
    try:
        found = read_json(cache_folder() / _FILE).get(key)
    except (OSError, RuntimeError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("way"), str) else None


def remember(key: str, decision: Mapping[str, Any]) -> None:
    """Remembers a decision, with a warning if the user's cache folder cannot be written."""
    try:
        path = cache_folder() / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            try:
                known = dict(read_json(path))
            except (OSError, ValueError, TypeError):
                known = {}
            known.pop(key, None)  # the newest is last
            known[key] = dict(decision)
            write_json(path, dict(list(known.items())[-_MOST:]))
    except (OSError, RuntimeError, UserError) as error:
        warnings.warn(
            f"what optimize found cannot be remembered ({error}), so each run measures again; set SEG_CACHE to a "
            "folder that can be written",
            stacklevel=2,
        )
