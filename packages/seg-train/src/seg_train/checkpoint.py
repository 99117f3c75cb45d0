"""Checkpoints: everything a run needs to go on exactly where it was, written whole or not at all.

They hold plain containers and tensors only, so `torch.load(weights_only=True)` reads them. The file is a zip archive
with a checksum of each part; a damaged one is refused by name.
"""

import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from seg_core.atomic import atomic_path
from seg_core.errors import CorruptFileError, WriteError

__all__ = ["get_random_state", "load_checkpoint", "save_checkpoint", "set_random_state"]

_FORMAT = "seg-checkpoint"
_FORMAT_VERSION = 1


def save_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `content` atomically: a full disk or a killed process leaves the former file as it was.

    Raises:
        WriteError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": _FORMAT, "format_version": _FORMAT_VERSION, **content}, temporary)
        except RuntimeError as error:  # what torch's own writer raises on a full disk
            raise WriteError(
                f"cannot write {path}: {str(error).splitlines()[0]}; check the free space of its disk. The checkpoint "
                "before it is untouched"
            ) from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the content of a checkpoint, tensors on the CPU.

    Raises:
        CorruptFileError: if the file is damaged or no checkpoint; the message says what to do.
    """
    advice = "put a good copy in its place (best.pt beside it is that of the best epoch so far), or start a new run"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CorruptFileError(f"{path} is damaged: the checksum of its part {damaged} is wrong; {advice}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFileError(f"{path} is damaged or no checkpoint ({reason}); {advice}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CorruptFileError(f"{path} is a PyTorch file but not a checkpoint of a training run; {advice}")
    if content["format_version"] > _FORMAT_VERSION:
        raise CorruptFileError(
            f"{path} has format version {content['format_version']}, the installed seg-train reads up to "
            f"{_FORMAT_VERSION}; upgrade seg-train"
        )
    return content


def get_random_state() -> dict[str, Any]:
    """Returns the state of torch's default generators, which dropout draws from: uint8 tensors."""
    cuda = [state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Sets what `get_random_state` gave; devices that are no longer there are left out."""
    torch.set_rng_state(state["cpu"])
    for device, device_state in enumerate(state["cuda"]):
        if device < torch.cuda.device_count():
            torch.cuda.set_rng_state(device_state, device)
