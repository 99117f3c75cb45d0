"""Reads the tensors of one network from a file of any kind: a model file, or what a training script saved."""

import logging
import os
from pathlib import Path

from torch import Tensor

from seg_core.errors import CorruptFileError, InvalidArgumentError, reading_file
from seg_core.model_files.foreign_pickle import load_safely
from seg_core.model_files.paths import find_run_file, split_nest
from seg_core.model_files.reading import ModelInfo, is_model_file, parse_model_file
from seg_core.model_files.state_dict import tensors_of

__all__ = ["read_content", "read_tensors"]

_LONGEST_REASON = 300  # characters

logger = logging.getLogger(__name__)


def read_tensors(path: str | os.PathLike[str]) -> tuple[str, dict[str, Tensor], ModelInfo | None]:
    """Reads a checkpoint file: a model file of this toolkit, a dict of tensors by name, or one inside another dict.

    The digest of a model file is checked, as in `load_model`.

    Args:
        path: path of the file; the suffix `.safetensors` selects that format, else it is torch's. `"file.pth#ema"`
            names one of several networks in a file, see `tensors_of`. A run folder gives its best weights.

    Returns:
        The path of the file.
        Its tensors by name.
        The description in a model file; None for other files.

    Raises:
        InvalidArgumentError: if there is no such file, or no such network in it; if it holds several and none is named;
            or if safetensors is needed and not installed.
        CorruptFileError: if it is damaged, or holds something else.
    """
    name, nest = split_nest(path)
    if Path(name).is_dir():
        file, note = find_run_file(name)
        logger.warning("weights %s: %s", name, note)
        name = os.fspath(file)
    content = read_content(name)
    with reading_file(name):
        if is_model_file(content):
            if nest is not None:
                raise InvalidArgumentError(f"{name} is a model file, which holds one network; remove #{nest}")
            info, state = parse_model_file(content, name)
            return name, state, info
        return name, tensors_of(content, name, nest), None


def read_content(name: str) -> object:
    """Returns what a file of torch or safetensors holds.

    Raises:
        InvalidArgumentError: if there is no such file, or safetensors is needed and not installed.
        CorruptFileError: if it is damaged or of another kind.
    """
    if not Path(name).is_file():
        note = " (nothing is fetched from URLs that users give: download it)" if "://" in name else ""
        raise InvalidArgumentError(
            f"weights {name!r} look like a file, but there is no such file{note}; give the path of a checkpoint, or "
            "the name of a weights member such as 'DEFAULT'"
        )
    return _read_safetensors(name) if Path(name).suffix == ".safetensors" else load_safely(name)


def _read_safetensors(name: str) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"{name} needs safetensors, which is not installed; pip install seg-models[safetensors]"
        ) from error
    try:
        return load_file(name)
    except Exception as error:  # besides its own error it raises those of torch, and of what a damaged header says
        raise CorruptFileError(
            f"{name} cannot be read as safetensors: {str(error)[:_LONGEST_REASON]}; write or copy it again"
        ) from error
