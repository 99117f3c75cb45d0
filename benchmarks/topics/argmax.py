"""From logits to labels: float32 logits of one large image to uint8 class ids."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import smooth_logits

__all__ = ["CASES"]


def _ours(logits: Tensor) -> Callable[[], Tensor]:
    import seg_core

    return lambda: seg_core.argmax_labels(logits)


def _torch_argmax(logits: Tensor) -> Callable[[], Tensor]:
    return lambda: logits.argmax(1).to(torch.uint8)


def _torch_max(logits: Tensor) -> Callable[[], Tensor]:
    return lambda: logits.max(1).indices.to(torch.uint8)


def _read_once(logits: Tensor) -> Callable[[], Tensor]:
    # limited by memory bandwidth, unlike amax and aminmax
    return logits.sum


def check_labels(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement for label maps that must all be equal."""
    (first, labels), *others = answers.items()
    for name, other in others:
        if not torch.equal(labels, other):
            raise DisagreementError(f"{name!r} and {first!r} differ in {int((labels != other).sum())} labels")
    return f"all {labels.numel()} labels equal, {len(set(labels.flatten().tolist()))} classes among them"


def _case(num_classes: int, speed: float) -> Case:
    def make_inputs(quick: bool) -> Tensor:
        height, width = (256, 512) if quick else (1024, 2048)
        return smooth_logits(num_classes, height, width)

    return Case(
        name=f"{num_classes} classes",
        work=f"float32 logits (1, {num_classes}, 1024, 2048) in contiguous memory to uint8 labels",
        make_inputs=make_inputs,
        contenders=(
            Contender("ours", _ours, "ours", "seg-core"),
            Contender("torch argmax", _torch_argmax, "peer", "torch"),
            Contender("torch max", _torch_max, "peer", "torch"),
            Contender("reading the logits", _read_once, "bound", "torch"),
        ),
        check=check_labels,
        goals=(Goal("ours", "torch argmax", speed=speed, memory_mib=4),),
    )


CASES = (_case(19, speed=4), _case(150, speed=2))
