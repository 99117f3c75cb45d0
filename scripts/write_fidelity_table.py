"""Writes docs/fidelity.md: every published network, loaded through its key rules, compared with the original.

It takes about five minutes.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fidelity.md"


def main() -> int:
    fidelity, cases = _module("fidelity"), _module("pretrained/test_fidelity")
    rows = []
    for case in cases.CASES:
        model, spec = cases.open_case(case, fidelity)
        errors = [fidelity.worst_error(model, spec, dtype) for dtype in (torch.float32, torch.float64)]
        allowed = spec["tolerance"]
        build = model.build_spec
        kept = all(error < allowed[dtype] for dtype, error in zip(("float32", "float64"), errors, strict=True))
        rows.append(
            f"| {case} | `{build.builder}` | `{build.variant}` | {errors[1]:.1e} | {errors[0]:.1e} | "
            f"{allowed['float32']:.0e} | {'yes' if kept else 'NO'} |"
        )
        print(rows[-1], flush=True)
    PAGE.write_text("\n".join([*_HEAD, *rows, ""]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


_HEAD = [
    "# Fidelity\n",
    "Written by `hatch run fidelity`. Each row is a network that public checkpoints hold, measured on the original "
    "code: names and shapes of its state dict, and values of its outputs for parameters and images made by rule "
    "(`tests/models/fidelity.py`). Here a state dict under the original names goes through the converter into our "
    "network, which must compute the same: the largest difference over all outputs and image sizes, as a share of "
    "the output's standard deviation. In float64 1e-7 is allowed, in float32 what is written; in float32 it depends on "
    f"the processor (here {torch.backends.cpu.get_cpu_capability()}). The public files themselves were not opened.\n",
    "| network | model | variant | float64 | float32 | allowed | kept |",
    "|---|---|---|---|---|---|---|",
]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).name, ROOT / "tests" / "models" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
