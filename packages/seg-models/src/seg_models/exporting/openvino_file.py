"""OpenVINO's files: converted from ONNX, run by OpenVINO on the CPU."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seg_core.errors import CorruptFileError, MissingDependencyError
from seg_models.exporting.description import DESCRIPTION_KEY, ExportDescription, not_described
from seg_models.exporting.exported import ExportedNetwork

__all__ = ["OpenvinoNetwork", "import_openvino", "openvino_core", "write_openvino"]


def import_openvino() -> Any:
    """Returns the module `openvino`.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError("OpenVINO's files need openvino: pip install 'seg-models[openvino]'") from error
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Returns the one `openvino.Core` of this process, which lives as long as the process.

    OpenVINO gives the thread that compiles the first network a stack of its own for signal handlers, and frees it with
    the last core, in whatever thread that happens. A signal after that (Ctrl-C, the end of a data worker) would end
    the process with a segmentation fault.

    Raises:
        MissingDependencyError: if OpenVINO is not installed.
    """
    return import_openvino().Core()


def write_openvino(onnx_file: Path, path: Path, description: ExportDescription) -> None:
    """Converts an ONNX file to `path`, an `.xml`, and a `.bin` of the same name beside it.

    Raises:
        OSError: if they cannot be written.
        RuntimeError: by OpenVINO, if it cannot convert the file, or the disk is full.
    """
    openvino = import_openvino()
    model = openvino.convert_model(os.fspath(onnx_file))
    model.set_rt_info(description.to_json(), [DESCRIPTION_KEY])
    openvino.save_model(model, os.fspath(path), compress_to_fp16=description.precision == "fp16")


class OpenvinoNetwork(ExportedNetwork):
    """An `.xml` of OpenVINO, with the `.bin` beside it, as a network.

    It computes in float32: by default OpenVINO computes in bfloat16 where the processor does, whatever the weights.

    Args:
        path: the `.xml`.

    Raises:
        CorruptFileError: if it cannot be read, or was not exported by this toolkit.
        FileNotFoundError: if there is no `.bin` beside it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        core = openvino_core()
        weights = Path(path).with_suffix(".bin")
        if not weights.is_file():
            raise CorruptFileError(f"there is no {weights}, which holds the weights of {path}; copy both files")
        try:
            model = core.read_model(os.fspath(path))
            text = model.get_rt_info([DESCRIPTION_KEY]).astype(str) if model.has_rt_info([DESCRIPTION_KEY]) else None
            if text is None:
                raise not_described(path)
            hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = core.compile_model(model, "CPU", hints)
        except CorruptFileError:
            raise
        except Exception as error:  # OpenVINO's errors have no common class
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = lines[-1].strip() if lines else type(error).__name__
            raise CorruptFileError(f"{path} cannot be loaded by OpenVINO: {reason}; export the model again") from error
        super().__init__(path, ExportDescription.from_json(path, text))
        self._compiled = compiled

    def run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the file, see `ExportedNetwork.run`."""
        found = self._compiled(images.numpy())
        outputs = [torch.from_numpy(found[index]) for index in range(2 if self.description.labels else 1)]
        return outputs[0], outputs[1] if len(outputs) > 1 else None
