"""Entry for torch.hub: `torch.hub.load("<clone or repository>", "enet", num_classes=5)`.

Only torch and torchvision need to be installed. The packages stay on the path, because a model may import more of them
after it was loaded. torch.hub lists every callable here that has no leading underscore.
"""

import filecmp as _filecmp
import sys as _sys
import warnings as _warnings
from pathlib import Path as _Path

dependencies = ["torch", "torchvision"]

_sources = sorted(_Path(__file__).resolve().parent.glob("packages/*/src"))
_sys.path[:0] = [str(_folder) for _folder in _sources]

from seg_hub.entrypoints import *  # noqa: E402, F403 - the path must be set first; __all__ there lists the names


def _warn_of_other_code():
    """Warns if this process has imported the packages from elsewhere, with other code: Python keeps the first."""
    for source in _sources:
        for package in source.glob("seg_*"):
            loaded = getattr(_sys.modules.get(package.name), "__file__", None)
            if loaded is None or _Path(loaded).resolve().parent == package:
                continue
            other = _Path(loaded).resolve().parent
            ours = {file.relative_to(package) for kind in ("*.py", "*.json") for file in package.rglob(kind)}
            theirs = {file.relative_to(other) for kind in ("*.py", "*.json") for file in other.rglob(kind)}
            same, _, _ = _filecmp.cmpfiles(package, other, ours, shallow=False)
            if ours == theirs == set(same):
                continue
            _warnings.warn(
                f"this process already uses {package.name} from {other}, whose code differs from that of {package}, "
                "and Python keeps the first: models are those of the first. Load the second in a process of its own",
                stacklevel=2,
            )
            return


_warn_of_other_code()
