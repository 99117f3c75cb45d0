"""Writes the `__init__.pyi` of every package whose names are lazy, from its table of exports."""

import importlib
import sys
from pathlib import Path

from seg_core.lazy import stub_text

PACKAGES = ("seg_core", "seg_models", "seg_datasets", "seg_train")


def main() -> int:
    for name in PACKAGES:
        exports = importlib.import_module(f"{name}._exports").EXPORTS
        stub = Path(importlib.import_module(name).__file__ or "").with_suffix(".pyi")
        stub.write_text(stub_text(name, exports), encoding="utf-8")
        print(f"wrote {stub.name} of {name}: {len(exports)} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
