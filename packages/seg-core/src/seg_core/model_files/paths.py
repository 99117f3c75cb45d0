"""Paths of models and weights as users write them: run folders, and one of several networks in a file. No torch."""

import os
import zipfile
from pathlib import Path

from seg_core.errors import InvalidArgumentError
from seg_core.registry import LOADERS

__all__ = [
    "RUN_MODEL_FILES",
    "WEIGHTS_SUFFIXES",
    "find_run_file",
    "looks_like_path",
    "other_kind",
    "split_nest",
    "told_of_checkpoint",
]

RUN_MODEL_FILES = ("model_best.pt", "model.pt", "model_ema.pt")
"""Model files of a run folder, the preferred one first: the best weights, the last, and the EMA's."""

WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")

_WHAT = {"model_best.pt": "the best weights", "model.pt": "the last weights", "model_ema.pt": "the EMA of the weights"}


def find_run_file(folder: str | os.PathLike[str]) -> tuple[Path, str]:
    """Returns the model file of a run folder, the best weights if it has them, and a sentence that says so.

    Raises:
        InvalidArgumentError: if the folder has no model file; the message names those of folders within.
    """
    present = [path for name in RUN_MODEL_FILES if (path := Path(folder) / name).is_file()]
    if not present:
        runs = sorted({file.parent for name in RUN_MODEL_FILES for file in Path(folder).glob(f"*/{name}")})
        more = "" if len(runs) < 4 else f" and {len(runs) - 3} more"
        within = f"; run folders in it: {', '.join(map(str, runs[:3]))}{more}" if runs else ""
        raise InvalidArgumentError(
            f"{os.fspath(folder)} is a folder without a {' or '.join(RUN_MODEL_FILES)}{within}; give a run folder or "
            "the path of a model file"
        )
    file, *others = present
    also = f"; it also has {' and '.join(other.name for other in others)}" if others else ""
    return file, f"taking {_WHAT[file.name]} of the run, {file}{also}"


def split_nest(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Returns the file of `"file.pth#ema"`, and the name of the network in it; None if no network is named.

    A file whose name contains a # is found first.
    """
    given = os.fspath(path)
    file, mark, nest = given.rpartition("#")
    if not mark or not file or not nest or Path(given).exists():
        return given, None
    if Path(file).is_file() or Path(file).suffix in WEIGHTS_SUFFIXES:
        return file, nest
    return given, None


def looks_like_path(text: str) -> bool:
    """Returns whether a string is a path and not a name: it exists, has a folder, or has the suffix of a model file.

    It may name one of several networks in the file, as in `"file.pth#ema"`.
    """
    file, _ = split_nest(text)
    path = Path(file)
    return path.is_file() or path.name != file or path.suffix in WEIGHTS_SUFFIXES or path.suffix in LOADERS


def other_kind(path: str | os.PathLike[str]) -> str:
    """Returns "is no model file: it is ..." with what to do for other files of torch, or "" if it is none of those."""
    from seg_core.model_files.weighing import weigh_archive  # imports torch

    try:
        weigh_archive(path)  # before it is unpacked for its checksums
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
            if archive.testzip() is not None:
                return ""
    except Exception:  # a damaged archive can raise anything
        return ""
    kinds = {
        "a TorchScript program; load it with torch.jit.load(path), and pass the network": (
            "constants.pkl" in names and any(name.startswith("code/") for name in names)
        ),
        "an exported program; load it with torch.export.load(path), and pass its module: program.module()": any(
            name.startswith(("models/", "serialized_exported_program", "archive_format")) for name in names
        ),
        "a pickled object that could run any code; if you trust it, load it with torch.load(path, weights_only=False), "
        "and pass the network": "data.pkl" in names,
    }
    found = [kind for kind, fits in kinds.items() if fits]
    return f"is no model file: it is {found[0]}" if found else ""


def told_of_checkpoint(path: str | os.PathLike[str]) -> str:
    """Returns "is a checkpoint ..." with what to give instead, or "" if the path is of no checkpoint of a run."""
    folder = Path(path).parent
    run = folder.parent
    if folder.name != "checkpoints" or not any((run / name).is_file() for name in RUN_MODEL_FILES):
        return ""
    return f"is a checkpoint, from which training is resumed, and no model file; give its run folder, {run}"
