"""Other runtimes, from an ONNX program of one shape: ONNX Runtime and OpenVINO."""

import io
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seg_models.exporting.onnx_file import onnx_session
from seg_models.exporting.openvino_file import openvino_core

__all__ = ["onnx_bytes", "run_onnxruntime", "run_openvino"]


def onnx_bytes(module: nn.Module, images: Tensor) -> bytes:
    """Returns a network as an ONNX program for images of one shape.

    Args:
        module: maps images to logits, in eval mode.
        images: an example (N, C, H, W).

    Raises:
        Exception: of any kind, if the network cannot be exported.
    """
    with torch.no_grad():
        program = torch.onnx.export(module, (images,), dynamo=True, verbose=False)
    assert program is not None
    content = io.BytesIO()
    program.save(content)  # type: ignore[arg-type]  # anything that onnx writes to
    return content.getvalue()


def run_onnxruntime(program: bytes) -> Callable[[Tensor], Tensor]:
    """Returns a function from float32 images to float32 logits, computed by ONNX Runtime on the CPU."""
    session = onnx_session(program, only_cpu=True)
    name = session.get_inputs()[0].name

    def run(given: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: given.contiguous().numpy()})[0])

    return run


def run_openvino(program: bytes, precision: str) -> Callable[[Tensor], Tensor]:
    """Returns a function from float32 images to float32 logits, computed by OpenVINO on the CPU.

    Args:
        program: the network as ONNX.
        precision: `"fp32"` or `"bf16"`, the type to compute in.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino_core()
    request = core.compile_model(core.read_model(program), "CPU", settings).create_infer_request()

    def run(given: Tensor) -> Tensor:
        # the results are copied: the request reuses their memory
        return torch.from_numpy(request.infer([given.contiguous().numpy()], share_inputs=True)[0])

    return run
