"""Checkpoints: files with everything a run needs to continue exactly, written atomically.

They contain plain containers and tensors only, so `torch.load(weights_only=True)` reads them. The file is a zip archive
with a checksum per entry, so damage is detected.
"""

import os
import random
import re
import shutil
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError, WriteError
from seg_core.files.atomic import atomic_path, torch_write_error
from seg_core.model_files.weighing import load_plain, weigh_archive
from seg_core.text import short

__all__ = ["Checkpoints", "get_random_state", "load_checkpoint", "save_checkpoint", "set_random_state"]

_FORMAT = "seg-checkpoint"
_FORMAT_VERSION = 4
# 2 has no training files, no class names and a config of the first format; 2 and 3 call the scheduler "schedule"
_READ_VERSIONS = (2, 3, 4)
_PLAIN = (bool, int, float, complex, str, bytes)
_SHOWN = 60  # characters of a value in messages
_NUMPY_KEYS = 624  # of its Mersenne twister
_STEP_FILE = re.compile(r"step_(\d+)\.pt")


class Checkpoints:
    """The checkpoints of a run: `step_00000120.pt` and a few earlier ones, `last.pt`, `best.pt`.

    `last.pt` is a hard link to the newest one and `best.pt` to the one with the best score, so they take no space
    (unless the file system has no hard links).

    Args:
        folder: folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.pt"
        self.best = folder / "best.pt"

    def save(self, content: Mapping[str, Any], step: int, *, is_best: bool, keep: int) -> None:
        """Writes a checkpoint, then removes all but the `keep` last ones.

        Raises:
            WriteError: if it cannot be written; the earlier ones are unchanged.
        """
        path = self.folder / f"step_{step:08}.pt"
        if is_best:
            # before `last`, so that the best score in the last checkpoint always belongs to `best`
            save_checkpoint(self.best, content)
            _link(self.best, path)
        else:
            save_checkpoint(path, content)
        _link(path, self.last)
        for old in self._by_step()[:-keep]:
            old.unlink(missing_ok=True)

    def newest_intact(self, *, other_than: Path) -> Path | None:
        """Returns the newest other checkpoint that is not damaged, or None."""
        for candidate in [*reversed(self._by_step()), self.best]:
            if not candidate.is_file() or (other_than.exists() and candidate.samefile(other_than)):
                continue
            try:
                load_checkpoint(candidate)
            except CorruptFileError:
                continue
            return candidate
        return None

    def continue_from(self, path: Path, step: int) -> None:
        """Makes `path` the last checkpoint.

        Newer ones are renamed to `*.superseded`. If `path` is the last one already, they are removed instead: the run
        was killed before it made them the last.
        """
        is_last = self.last.exists() and self.last.samefile(path)
        for other in self._by_step():
            if int(_STEP_FILE.fullmatch(other.name)[1]) <= step or other.samefile(path):  # type: ignore[index]  # it matched
                continue
            if is_last:
                other.unlink()
            else:
                other.replace(other.with_name(f"{other.name}.superseded"))
        if not is_last:
            _link(path, self.last)

    def _by_step(self) -> list[Path]:
        found = [(m, p) for p in self.folder.glob("step_*.pt") if (m := _STEP_FILE.fullmatch(p.name))]
        return [path for _, path in sorted(found, key=lambda item: int(item[0][1]))]


def save_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` atomically: a full disk or a killed process leaves the previous file unchanged.

    Raises:
        InvalidArgumentError: if it holds anything that `load_checkpoint` could not read; the message says where.
        WriteError: if it cannot be written.
    """
    content = {name: _storable(value, name) for name, value in content.items()}
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": _FORMAT, "format_version": _FORMAT_VERSION, **content}, temporary)
        except RuntimeError as error:  # torch's own writer raises it on a full disk
            raise WriteError(f"{torch_write_error(path, error)}. The previous checkpoint is unchanged") from error


def _storable(value: Any, place: str) -> Any:
    """Returns a value as plain containers, numbers, strings and tensors; NumPy's numbers become Python's.

    Args:
        value: part of a checkpoint.
        place: where it is, for messages.

    Raises:
        InvalidArgumentError: if it holds anything else.
    """
    if value is None or type(value) in _PLAIN or isinstance(value, Tensor | torch.dtype):
        return value
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return value.item()
    if type(value) in (list, tuple, torch.Size):
        return type(value)(_storable(inner, f"{place}[{number}]") for number, inner in enumerate(value))
    if type(value) in (dict, OrderedDict, Counter):
        return type(value)(
            {_storable(key, f"a key of {place}"): _storable(inner, f"{place}.{key}") for key, inner in value.items()}
        )
    raise InvalidArgumentError(
        f"the state of a run holds {place} = {str(value)[:_SHOWN]!r} of type {type(value).__name__}, which a "
        "checkpoint cannot store; let the state_dict() or state() that it comes from return numbers, strings, lists, "
        "dicts and tensors: str(path) for a path, member.value for an enum, array.tolist() for an array"
    )


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the content of a checkpoint, tensors on the CPU.

    Raises:
        CorruptFileError: if the file is damaged or is not a checkpoint.
    """
    try:
        weigh_archive(path)  # before its checksums are read, which would unpack it
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CorruptFileError(f"{path} is damaged: the checksum of its entry {damaged} is wrong")
        content = load_plain(path)
    except CorruptFileError:
        raise
    except Exception as error:  # a damaged archive or pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFileError(f"{path} is damaged or not a checkpoint ({reason})") from error
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(form, str) or form != _FORMAT:
        raise CorruptFileError(f"{path} is a PyTorch file but not a checkpoint of a training run")
    version = content.get("format_version")
    if not is_integer(version) or version not in _READ_VERSIONS:
        raise CorruptFileError(
            f"{path} has format version {short(version)}, the installed seg-train reads "
            f"{', '.join(map(str, _READ_VERSIONS))}; "
            "resume it with the version of seg-train that wrote it"
        )
    if "schedule" in content:
        content["scheduler"] = content.pop("schedule")
    return content


def get_random_state() -> dict[str, Any]:
    """Returns the states of the default random generators as plain values: torch on every device, NumPy, Python."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - other libraries draw from it
    cuda = [state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else []
    return {
        "cpu": torch.get_rng_state(),
        "cuda": cuda,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(place), int(has_gauss), float(cached)],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restores what `get_random_state` returned; devices that do not exist here are left out."""
    torch.set_rng_state(state["cpu"])
    for device, device_state in enumerate(state["cuda"]):
        if device < torch.cuda.device_count():
            torch.cuda.set_rng_state(device_state, device)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, cached = state["numpy"]
    if keys.shape != (_NUMPY_KEYS,) or not is_integer(place, 0) or place > _NUMPY_KEYS:  # NumPy trusts the place
        raise ValueError(f"the state of NumPy's random generator: {tuple(keys.shape)} keys, place {short(place)}")
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002 - the global one


def _link(path: Path, name: Path) -> None:
    """Atomically creates the hard link `name` to `path`, or a copy if the file system has no hard links."""
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
