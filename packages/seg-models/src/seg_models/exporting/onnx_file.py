"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seg_core.errors import CorruptFileError, InvalidArgumentError, MissingDependencyError
from seg_models.exporting.description import DESCRIPTION_KEY, ExportDescription, not_described
from seg_models.exporting.exported import ExportedNetwork
from seg_models.exporting.graph import INPUT, LABELS, LOGITS
from seg_models.exporting.quiet import quiet

__all__ = ["OnnxNetwork", "default_opset", "import_onnx", "import_runtime", "onnx_session", "write_onnx"]

_INSTALL = "pip install 'seg-models[export]'"
_DEFAULT_OPSET = 18
_LOWEST_OPSET = 18  # that torch's exporter writes


def import_onnx() -> Any:
    """Returns the module `onnx`, for writing files.

    Raises:
        MissingDependencyError: if it or what torch's exporter needs is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise MissingDependencyError(f"exporting to ONNX needs {error.name}: {_INSTALL}") from error
    return onnx


def import_runtime() -> Any:
    """Returns the module `onnxruntime`.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"running ONNX files needs onnxruntime: {_INSTALL}") from error
    return onnxruntime


def default_opset(given: int | None) -> int:
    """Returns the version of ONNX's operators to write.

    Raises:
        InvalidArgumentError: if torch's exporter does not write the given version, or the runtime does not read it.
    """
    highest = _highest_opset()
    if given is None:
        return _DEFAULT_OPSET
    if isinstance(given, bool) or not isinstance(given, int) or not _LOWEST_OPSET <= given <= highest:
        raise InvalidArgumentError(
            f"opset must be an integer from {_LOWEST_OPSET} to {highest}, which the installed onnx writes, or None for "
            f"{_DEFAULT_OPSET}, got {given!r}"
        )
    return given


def _highest_opset() -> int:
    onnx = import_onnx()
    # torch's exporter converts between versions by onnxscript's own table
    return min(int(onnx.defs.onnx_opset_version()), 23)


def write_onnx(program: torch.export.ExportedProgram, path: Path, description: ExportDescription) -> None:
    """Writes a program as an ONNX file.

    Args:
        program: of an `ExportGraph`.
        path: file to write.
        description: what the file says of itself; its `opset` is the version of the operators.

    Raises:
        InvalidArgumentError: if an operator of the network has no counterpart in ONNX.
        OSError: if the file cannot be written.
    """
    onnx = import_onnx()
    outputs = [LOGITS, LABELS] if description.labels else [LOGITS]
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=description.opset,
                input_names=[INPUT],
                output_names=outputs,
            )
        assert exported is not None
        proto = exported.model_proto
    except Exception as error:  # torch's exporter raises whatever it meets
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidArgumentError(f"the network cannot be written as ONNX: {reason}") from error
    found = {entry.domain: entry.version for entry in proto.opset_import}
    if found.get("") != description.opset:
        raise InvalidArgumentError(
            f"opset = {description.opset}: the network's operators could be written in version {found.get('')} only; "
            "leave opset out, or give that version"
        )
    if description.size is None:
        _name_axes(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = DESCRIPTION_KEY, description.to_json()
    if proto.ByteSize() >= 2**31:
        raise InvalidArgumentError("the network is over 2 GiB, more than one ONNX file can hold; export it in fp16")
    path.write_bytes(proto.SerializeToString())
    onnx.checker.check_model(os.fspath(path))


def _name_axes(proto: Any) -> None:
    """Gives the axes of the input and the outputs their names; torch numbers them."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    names = {
        dims[axis].dim_param: name for axis, name in ((0, "batch"), (2, "height"), (3, "width")) if dims[axis].dim_param
    }
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = pattern.sub(lambda found: names[found[0]], dim.dim_param)


def onnx_session(model: str | os.PathLike[str] | bytes, *, only_cpu: bool = False) -> Any:
    """Returns a session of ONNX Runtime: on a GPU if it has one, with as many threads as torch uses.

    Args:
        model: path of a file, or its contents.
        only_cpu: whether a GPU is not used.

    Raises:
        MissingDependencyError: if ONNX Runtime is not installed.
        FileNotFoundError: if there is no such file.
        CorruptFileError: if ONNX Runtime cannot read it.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; warnings are about its own optimizations
    wanted = ["CPUExecutionProvider"] if only_cpu else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        content = model if isinstance(model, bytes) else os.fspath(model)
        return runtime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common class
        text = str(error)
        reason = text.strip().splitlines()[0] if text.strip() else type(error).__name__
        advice = "export the model again"
        if "opset" in text.lower():
            advice = "upgrade onnxruntime, or export the model with a lower opset"
        name = "the program" if isinstance(model, bytes) else model
        raise CorruptFileError(f"{name} cannot be loaded by ONNX Runtime: {reason}; {advice}") from error


class OnnxNetwork(ExportedNetwork):
    """An ONNX file as a network.

    Args:
        path: the file.

    Raises:
        CorruptFileError: if it cannot be read, or was not exported by this toolkit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        session = onnx_session(path)
        text = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION_KEY)
        if text is None:
            raise not_described(path)
        super().__init__(path, ExportDescription.from_json(path, text))
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the file, see `ExportedNetwork.run`."""
        found = self._session.run(self._names, {INPUT: images.numpy()})
        logits, *others = map(torch.from_numpy, found)
        return logits, others[0] if others else None
