"""Loads exported files, as a network or as a `Predictor`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, MissingModelFileError, reading_file
from seg_models.catalog import EXPORT_SUFFIXES
from seg_models.exporting.exported import ExportedNetwork
from seg_models.inference.predictor import Predictor

__all__ = ["load_exported", "load_exported_network"]


def load_exported_network(path: str | os.PathLike[str]) -> ExportedNetwork:
    """Returns an exported file as a network, for `Predictor` and `seg eval`; its `model_info` has what the file says.

    Args:
        path: `.onnx`, `.pt2` or `.xml`, as `export` writes it.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged, or was not exported by this toolkit.
        MissingDependencyError: if its runtime is not installed.
        InvalidArgumentError: if it has another suffix.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingModelFileError(f"there is no exported file {file}; seg export writes one")
    with reading_file(file, "export the model again"):
        return _reader(file)(file)


def _reader(file: Path) -> Callable[[Path], ExportedNetwork]:
    # each imports its runtime only when a file is read
    if file.suffix == ".onnx":
        from seg_models.exporting.onnx_file import OnnxNetwork

        return OnnxNetwork
    if file.suffix == ".pt2":
        from seg_models.exporting.pt2_file import Pt2Network

        return Pt2Network
    if file.suffix == ".xml":
        from seg_models.exporting.openvino_file import OpenvinoNetwork

        return OpenvinoNetwork
    raise InvalidArgumentError(
        f"{file} has not the suffix of an exported file; those are {', '.join(EXPORT_SUFFIXES.values())}"
    )


def load_exported(path: str | os.PathLike[str], **options: Any) -> Predictor:
    """Returns a `Predictor` that computes by an exported file, which alone is enough.

    Args:
        path: `.onnx`, `.pt2` or `.xml`, as `export` writes it.
        **options: of `Predictor`, such as `tile=512`.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged, or was not exported by this toolkit.
        MissingDependencyError: if its runtime is not installed.
        InvalidArgumentError: if it has another suffix, or an option is not allowed.
    """
    return Predictor(load_exported_network(path), **options)
