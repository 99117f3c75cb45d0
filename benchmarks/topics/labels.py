"""From the logits of a network of stride 8 to labels of full size."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import coarse_logits

__all__ = ["CASES"]

# rounding may swap two classes whose logits differ by less; logits here are up to 20
_TIE = 1e-4


class _Inputs(NamedTuple):
    logits: Tensor
    size: tuple[int, int]


def _ours(inputs: _Inputs) -> Callable[[], Tensor]:
    import seg_models

    return lambda: seg_models.labels_from_logits(inputs.logits, inputs.size)


def _interpolate(inputs: _Inputs) -> Tensor:
    return F.interpolate(inputs.logits, inputs.size, mode="bilinear", align_corners=False)


def _torch_argmax(inputs: _Inputs) -> Callable[[], Tensor]:
    return lambda: _interpolate(inputs).argmax(1).to(torch.uint8)


def _interpolate_and_ours(inputs: _Inputs) -> Callable[[], Tensor]:
    import seg_core

    return lambda: seg_core.argmax_labels(_interpolate(inputs))


def _check(make_inputs: Callable[[bool], _Inputs]) -> Callable[[Mapping[str, Tensor]], str]:
    def check(answers: Mapping[str, Tensor]) -> str:
        """Returns the sentence of agreement for label maps that may differ where two classes tie."""
        ours, torchs = answers["ours"], answers["interpolate, argmax"]
        differ = ours != torchs
        count = int(differ.sum())
        full = _interpolate(make_inputs(ours.shape[-2] < 1024))
        for name in ("ours", "interpolate, argmax_labels"):
            taken = full.gather(1, answers[name].long()[:, None])
            behind = float((full.max(1, keepdim=True).values - taken).max())
            if behind > _TIE:
                raise DisagreementError(f"{name!r} chooses a class whose logit is {behind:.2g} below the largest")
        return f"{count} of {ours.numel()} labels differ from torch's, all of them ties within {_TIE:g}"

    return check


def _case(num_classes: int, speed: float) -> Case:
    def make_inputs(quick: bool) -> _Inputs:
        size = (256, 512) if quick else (1024, 2048)
        return _Inputs(coarse_logits(num_classes, *size), size)

    return Case(
        name=f"{num_classes} classes",
        work=f"float32 logits (1, {num_classes}, 128, 256) to uint8 labels of 1024x2048",
        make_inputs=make_inputs,
        contenders=(
            Contender("ours", _ours, "ours", "seg-models"),
            Contender("interpolate, argmax", _torch_argmax, "peer", "torch"),
            Contender("interpolate, argmax_labels", _interpolate_and_ours, "ours", "seg-core"),
        ),
        check=_check(make_inputs),
        goals=(Goal("ours", "interpolate, argmax", speed=speed, memory=1 / 20),),
    )


CASES = (_case(19, speed=6), _case(150, speed=4))
