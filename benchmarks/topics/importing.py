"""Imports: the time of a fresh interpreter that runs one statement."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.case import Case, Contender, DisagreementError, Goal, Kind

__all__ = ["CASES", "HEAVY"]

# no statement of ours may import these: each costs seconds
HEAVY = ("torchvision", "matplotlib", "torch._dynamo")


def _interpret(statement: str) -> str:
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _contender(name: str, statement: str, kind: Kind, distribution: str) -> Contender:
    def prepare(_: Any) -> Callable[[], str]:
        return lambda: _interpret(statement)

    def heavy(_: Any) -> list[str]:
        ask = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
        return json.loads(_interpret(f"{statement}\n{ask}"))

    return Contender(name, prepare, kind, distribution, heavy if kind == "ours" else lambda _: [])


def check_light(answers: Mapping[str, Any]) -> str:
    """Returns the sentence of agreement: the heavy modules that ours do not import."""
    for name, heavy in answers.items():
        if heavy:
            raise DisagreementError(f"{name!r} imports {', '.join(heavy)}, which should be imported only when needed")
    return f"none of ours imports {', '.join(HEAVY)}"


_OURS = {
    "seg_models": "import seg_models",
    "seg_models, ENet": 'import seg_models; seg_models.get_model("enet", num_classes=19)',
    "seg_models.Predictor": "import seg_models; seg_models.Predictor",
}

CASES = (
    Case(
        name="fresh interpreter",
        work="start Python and run one statement; 'ENet' also builds the network",
        make_inputs=lambda _: None,
        contenders=(
            *(_contender(name, statement, "ours", "seg-models") for name, statement in _OURS.items()),
            _contender("torch", "import torch", "peer", "torch"),
            _contender("torchvision", "import torchvision", "peer", "torchvision"),
            _contender("SMP", "import segmentation_models_pytorch", "peer", "segmentation-models-pytorch"),
            _contender("pixseg.models", "import pixseg.models", "peer", "pixseg"),
        ),
        check=check_light,
        # at most 1.1 times the time of `import torch`, which is unavoidable
        goals=tuple(Goal(name, "torch", speed=1 / 1.1) for name in _OURS),
        rounds=5,
        memory=False,
    ),
)
