"""One step of an optimizer: the parameters of a ResNet-50 with its classifier, 25.6 million, in float32.

A step is limited by memory bandwidth: Adam with AMSGrad reads five numbers per parameter and writes four. Padam does
the same and raises the denominator to a power.

Ours and pixseg's take the same step except for eps, which pixseg adds before the bias correction. The difference
matters only for gradients of the size of eps. Both are compared with a plain float64 implementation of the paper.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal, Kind

__all__ = ["CASES"]

_Shapes = Sequence[tuple[int, ...]]
_Make = Callable[[list[Tensor]], torch.optim.Optimizer]

PARTIAL = 0.125
STEPS = 5


def _make_inputs(quick: bool) -> _Shapes:
    from torchvision.models import resnet18, resnet50

    with torch.device("meta"):
        model = resnet18() if quick else resnet50()
    return [tuple(p.shape) for p in model.parameters()]


def _ours(compiled: bool) -> _Make:
    def make(params: list[Tensor]) -> torch.optim.Optimizer:
        from seg_train.optim.padam import Padam

        return Padam(params, lr=0.1, partial=PARTIAL, compile=compiled)

    return make


def _pixseg(params: list[Tensor]) -> torch.optim.Optimizer:
    from pixseg.learn.optimization import Padam

    return Padam(params, lr=0.1, partial=PARTIAL)


def _adam(fused: bool) -> _Make:
    return lambda params: torch.optim.Adam(params, lr=1e-3, amsgrad=True, fused=fused, foreach=not fused)


def _parameters(shapes: _Shapes) -> tuple[list[Tensor], torch.Generator]:
    """Returns parameters with gradients, equal at each call, and their random generator."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator).mul_(0.05).requires_grad_() for shape in shapes]
    _draw_gradients(params, generator)
    return params, generator


def _draw_gradients(params: list[Tensor], generator: torch.Generator) -> None:
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).mul_(0.01)


def _contender(name: str, make: _Make, kind: Kind, distribution: str) -> Contender:
    def prepare(shapes: _Shapes) -> Callable[[], object]:
        return make(_parameters(shapes)[0]).step

    def answer(shapes: _Shapes) -> Tensor:
        """Returns how far every hundredth parameter moved: float32, one row; for ours also the paper's."""
        params, generator = _parameters(shapes)
        before = torch.cat([p.detach().flatten()[::100] for p in params])
        optimizer = make(params)
        for step in range(STEPS):
            if step:
                _draw_gradients(params, generator)
            optimizer.step()
        way = torch.cat([p.detach().flatten()[::100] for p in params]) - before
        return torch.stack([way, _way_by_the_paper(shapes)]) if name == "ours" else way

    return Contender(name, prepare, kind, distribution, answer)


def _way_by_the_paper(shapes: _Shapes) -> Tensor:
    """Returns how far Padam's algorithm 1 moves, with bias correction as in the authors' code, in float64."""
    params, generator = _parameters(shapes)
    beta1, beta2, eps, lr = 0.9, 0.999, 1e-8, 0.1
    values = torch.cat([p.detach().flatten()[::100] for p in params]).double()
    before, m, v, w = values.clone(), *(torch.zeros_like(values) for _ in range(3))
    for step in range(1, STEPS + 1):
        if step > 1:
            _draw_gradients(params, generator)
        g = torch.cat([p.grad.flatten()[::100] for p in params if p.grad is not None]).double()
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g.square()
        w = torch.maximum(w, v)
        correction = (1 - beta2**step) ** 0.5
        values = values - lr * correction / (1 - beta1**step) * m / (w.sqrt() + eps * correction) ** (2 * PARTIAL)
    return (values - before).float()


def check_ways(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement among all Padams and the paper, and among all Adams."""
    sentences = []
    ours, paper = answers["ours"]
    ways = {"the paper in float64": paper, **answers, "ours": ours}
    for word in ("Padam", "Adam"):
        (first, way), *others = ((n, a) for n, a in ways.items() if ("Adam" in n) == (word == "Adam"))
        differences = {name: float((other - way).abs().max() / way.abs().mean()) for name, other in others}
        for name, difference in differences.items():
            # rounding of the parameters is about 1e-5 of their movement
            if not difference < 3e-4:
                raise DisagreementError(f"{name!r} and {first!r} differ by {difference:.1e} of the mean movement")
        sentences.append(
            f"every {word} within {max(differences.values()):.1e} of {first}, relative to the mean movement in "
            f"{STEPS} steps"
        )
    return "; ".join(sentences)


CASES = (
    Case(
        name="padam",
        work="one step of 25.6 million parameters, p = 0.125; Adam takes another step over the same numbers",
        make_inputs=_make_inputs,
        contenders=(
            _contender("ours", _ours(compiled=False), "ours", "seg-train"),
            _contender("ours compiled", _ours(compiled=True), "ours", "seg-train"),
            _contender("pixseg", _pixseg, "peer", "pixseg"),
            _contender("torch Adam foreach", _adam(fused=False), "peer", "torch"),
            _contender("torch Adam fused", _adam(fused=True), "peer", "torch"),
        ),
        check=check_ways,
        goals=(
            Goal("ours", "pixseg", speed=1.4),
            Goal("ours compiled", "torch Adam fused", speed=1 / 1.1, memory_mib=4),
        ),
    ),
)
