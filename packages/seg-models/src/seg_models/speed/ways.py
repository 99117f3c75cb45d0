"""Ways of computing a network's logits: memory layout, precision, fused operations, compilers and runtimes.

Each way is built from the network and an example, and then only measured: which one pays depends on the machine.
"""

import copy
import importlib.util
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.device import has_bf16
from seg_core.spec import takes
from seg_models.inference.outputs import find_logits
from seg_models.speed.fused import fuse
from seg_models.speed.runtimes import onnx_bytes, run_onnxruntime, run_openvino

__all__ = ["EAGER", "METHODS", "PRECISIONS", "LogitsOnly", "Run", "Way", "find_ways"]

Run = Callable[[Tensor], Tensor]
"""Maps float images (N, C, H, W) to floating-point logits (N, K, h, w)."""

EAGER = "eager"
METHODS = ("channels_last", "fused", "onnxruntime", "openvino", "cuda_graphs", "compile")
"""Names of the methods, in the order in which they are tried."""

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of the types to compute in."""

_WARM_UP = 3  # calls before a CUDA graph is recorded


class LogitsOnly(nn.Module):
    """A network as a function from images to one tensor of logits.

    Args:
        network: a network of this package, or another that returns logits.
        direct: whether its `forward_logits` is used, which leaves out the final resize; otherwise logits have the size
            of the images.
    """

    def __init__(self, network: nn.Module, direct: bool) -> None:
        super().__init__()
        self.network = network
        self.direct = direct

    def forward(self, images: Tensor) -> Tensor:
        """Maps float (N, C, H, W) to logits (N, K, h, w)."""
        if self.direct:
            return self.network.forward_logits(images)["out"]  # type: ignore[operator]  # a Network
        logits = find_logits(self.network(images), images)
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return logits


@dataclass(frozen=True)
class Way:
    """One way of computing logits.

    Attributes:
        method: one of `METHODS`.
        precision: key of `PRECISIONS`; `""` is the type of the weights.
        why_not: why it cannot be used here; `""` if it can.
        is_slow: whether building it takes far longer than measuring it.
    """

    method: str
    precision: str = ""
    why_not: str = ""
    is_slow: bool = False

    @property
    def name(self) -> str:
        """Method and precision, such as `"fused bf16"`."""
        return f"{self.method} {self.precision}".strip()

    @property
    def any_size(self) -> bool:
        """Whether images of any size can be computed, not only those of the example's shape."""
        return self.method == "channels_last"

    def build(self, module: LogitsOnly, images: Tensor, programs: dict[str, bytes]) -> Run:
        """Returns the function that computes logits in this way.

        Args:
            module: the network in eval mode; it is copied where it must be changed.
            images: an example, on its device and of its type.
            programs: keeps the ONNX program between the ways that need it, for the same module and images.

        Raises:
            Exception: of any kind, if the network cannot be computed in this way.
        """
        if self.method in ("onnxruntime", "openvino"):
            if "onnx" not in programs:
                programs["onnx"] = onnx_bytes(module, images)
            if self.method == "onnxruntime":
                return run_onnxruntime(programs["onnx"])
            return run_openvino(programs["onnx"], self.precision or "fp32")
        dtype = PRECISIONS.get(self.precision, images.dtype)
        network = copy.deepcopy(module).requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
        example = _laid_out(images, dtype)
        run: Run = network
        taken = dtype
        if self.method in ("fused", "cuda_graphs"):
            taken = images.dtype  # the graph rounds them where it may
            run = fuse(network, example, {**dict(module.named_parameters()), **dict(module.named_buffers())})
        if self.method == "compile":
            run = _compile(network, example)
        if self.method == "cuda_graphs":
            run = _record(run, _laid_out(images, taken))
        return lambda given: run(_laid_out(given, taken))


def find_ways(
    device: torch.device, dtype: torch.dtype, precisions: Collection[str], methods: Collection[str]
) -> list[Way]:
    """Returns the ways of these methods and precisions, those that cannot be used here with the reason.

    Args:
        device: where the network is.
        dtype: type of its weights. Other precisions are tried for float32 only.
        precisions: keys of `PRECISIONS`.
        methods: some of `METHODS`.
    """
    reduced = [name for name in ("fp16", "bf16") if name in precisions] if dtype == torch.float32 else []
    if device.type == "cpu":
        reduced = [name for name in reduced if name == "bf16"]  # half precision is emulated on CPUs
    no_bf16 = "this processor does not compute in bf16" if has_bf16(device) is False else ""
    found = []
    for method in (name for name in METHODS if name in methods):
        if method == "cuda_graphs" and device.type != "cuda":
            continue
        reason = _why_not(method, device, dtype)
        own = [""] if dtype != torch.float32 or "fp32" in precisions else []
        for precision in [*own, *reduced]:
            if method == "onnxruntime" and precision:
                continue  # its CPU kernels compute in float32
            unfit = reason or (no_bf16 if precision == "bf16" else "")
            found.append(Way(method, precision, unfit, is_slow=method == "compile"))
    return found


def _why_not(method: str, device: torch.device, dtype: torch.dtype) -> str:
    if method in ("onnxruntime", "openvino"):
        if device.type != "cpu":
            return "tried on CPUs only"
        if dtype != torch.float32:
            return f"the weights are {str(dtype).removeprefix('torch.')}, not float32"
        needed = ("onnx", "onnxscript", method)
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        extras = "export" if method == "onnxruntime" else "export,openvino"
        return f"{', '.join(missing)} not installed: pip install 'seg-models[{extras}]'" if missing else ""
    if method == "compile" and device.type == "cpu":
        compilers = [os.environ.get("CXX"), "c++", "g++", "clang++", "cl"]
        return "" if any(name and shutil.which(name) for name in compilers) else "there is no C++ compiler (g++)"
    return ""


def _laid_out(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images.to(dtype).contiguous(memory_format=torch.channels_last)


def _compile(network: nn.Module, images: Tensor) -> Run:
    """Returns a compiled copy; the exported graph is compiled, since torch limits how often one `forward` may be."""
    with torch.no_grad():
        program: Any = torch.export.export(network, (images,), strict=False)
    unguarded = {"check_guards": False} if takes(type(program).module, "check_guards") else {}
    how: dict[str, Any] = {"options": {"freezing": True}}  # weights as constants: folded norms, packed weights
    if images.device.type == "cuda":
        how = {"mode": "reduce-overhead"}  # CUDA graphs
    compiled: Any = torch.compile(program.module(**unguarded), dynamic=False, **how)
    if images.device.type != "cuda":
        return compiled
    return lambda given: compiled(given).clone()  # the next call overwrites the memory


def _record(run: Run, images: Tensor) -> Run:
    """Returns a function that replays a CUDA graph of `run`: the kernels are launched as one."""
    given = images.clone(memory_format=torch.preserve_format)
    stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            run(given)
    torch.cuda.current_stream(images.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run(given)

    def replay(images: Tensor) -> Tensor:
        given.copy_(images)
        graph.replay()
        return logits.clone()

    return replay
