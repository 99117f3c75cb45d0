"""Writes docs/fidelity.md: every network of the published files, converted and compared with the original's numbers.

Takes about five minutes.
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
    "Written by `hatch run fidelity`. Each row is one *network* that published checkpoints hold. The names and shapes "
    "of its state dict, and its outputs for generated parameters and images (`tests/models/fidelity.py`), were recorded "
    "with the original code. Here a generated state dict with the original names goes through the converter into our "
    "network, which must compute the same outputs. The columns show the largest difference over all outputs and image "
    "sizes, relative to the output's standard deviation. The tolerance is 1e-7 in float64, and the column *allowed* in "
    "float32. The published files themselves were not opened.\n",
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
