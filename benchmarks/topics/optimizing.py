"""Prediction on a CPU: `seg_models.optimize` beside eager PyTorch, ONNX Runtime and OpenVINO.

All compute the same network with the same weights. These are not trained, so more pixels than usual are close to a
tie between two classes; the minimum agreement is lower than the default for that reason.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import make_image

__all__ = ["CASES", "check_labels"]

NUM_CLASSES = 11
_AGREEMENT = 0.97  # of the labels, without trained weights
_BEHIND = 0.95  # our speed over that of the better runtime


def _make_inputs(quick: bool) -> Tensor:
    """Returns one normalized image: float32 (1, 3, H, W)."""
    height, width = (64, 96) if quick else (360, 480)
    pixels = torch.from_numpy(make_image(height, width)).permute(2, 0, 1)[None].float()
    mean, std = pixels.mean((2, 3), keepdim=True), pixels.std((2, 3), keepdim=True)
    return ((pixels - mean) / std).contiguous()


def _build(name: str) -> nn.Module:
    import seg_models

    torch.manual_seed(0)
    return seg_models.get_model(name, num_classes=NUM_CLASSES).eval()


def _eager(name: str) -> Contender:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        network = _build(name)

        def work() -> Tensor:
            with torch.inference_mode():
                return network(images)["out"]

        return work

    return Contender("eager", prepare, distribution="torch")


def _ours(name: str, title: str, **options: Any) -> Contender:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        import seg_models

        network = seg_models.optimize(
            _build(name), images, min_agreement=_AGREEMENT, time_limit=300, remember=False, **options
        )
        print(f"{title}: {network.report}")

        def work() -> Tensor:
            return network(images)["out"]

        return work

    return Contender(title, prepare, "ours", "seg-models")


class _Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


def _program(name: str, images: Tensor) -> bytes:
    with torch.no_grad():
        program = torch.onnx.export(_Logits(_build(name)).eval(), (images,), dynamo=True, verbose=False)
    assert program is not None
    content = io.BytesIO()
    program.save(content)  # type: ignore[arg-type]  # anything that onnx writes to
    return content.getvalue()


def _onnxruntime(name: str) -> Contender:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(_program(name, images), options, providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: images.numpy()}
        return lambda: torch.from_numpy(session.run(None, given)[0])

    return Contender("ONNX Runtime", prepare, distribution="onnxruntime")


def _openvino(name: str, precision: str) -> Contender:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(_program(name, images)), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda: torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])

    return Contender(f"OpenVINO {precision}", prepare, distribution="openvino")


def check_labels(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence on how many labels are those of eager."""
    expected = answers["eager"].argmax(1)
    shares = {
        name: float((logits.argmax(1) == expected).float().mean())
        for name, logits in answers.items()
        if name != "eager"
    }
    for name, share in shares.items():
        if not share >= _AGREEMENT:
            raise DisagreementError(f"only {share:.2%} of the labels of {name!r} are those of eager")
    return "labels equal to eager's: " + "; ".join(f"{name} {share:.2%}" for name, share in shares.items())


def _case(name: str, fp32: float | None, torch_only: float, rounds: int, quick: bool = False) -> Case:
    """Returns a case with goals against eager: `fp32` in float32, `torch_only` without runtimes."""
    runtimes = (_onnxruntime(name), _openvino(name, "f32"), _openvino(name, "bf16"))
    goals = [Goal("ours, torch only", "eager", speed=torch_only)]
    goals += [Goal("ours", each.name, speed=_BEHIND) for each in runtimes]
    if fp32 is not None:
        goals.append(Goal("ours, fp32", "eager", speed=fp32))
    return Case(
        name=name,
        work="one normalized image of 360x480 to float32 logits of 11 classes at its size",
        make_inputs=_make_inputs,
        contenders=(
            _ours(name, "ours"),
            _ours(name, "ours, torch only", methods=("channels_last", "fused")),
            _ours(name, "ours, fp32", methods=("channels_last", "fused"), precisions=("fp32",)),
            _eager(name),
            *runtimes,
        ),
        check=check_labels,
        goals=goals,
        rounds=rounds,
        memory=False,
        keep_freed=True,
        quick=quick,
    )


CASES = (
    _case("enet", fp32=1.4, torch_only=2.0, rounds=15),
    _case("bisenet_resnet18", fp32=1.15, torch_only=2.0, rounds=15, quick=True),
    _case("lraspp_mobilenet_v3_large", fp32=1.6, torch_only=2.0, rounds=15),
    _case("fcn_resnet50", fp32=None, torch_only=1.5, rounds=5),
)
