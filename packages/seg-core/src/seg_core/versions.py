"""Versions of installed packages, for files that record the versions they were written with."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions"]

_DEFAULT = ("python", "torch", "torchvision", "numpy", "seg-core", "seg-models", "seg-datasets", "seg-train", "seg-hub")


def installed_versions(*distributions: str) -> dict[str, str]:
    """Returns the versions of packages by name; those that are not installed are omitted.

    The `__version__` of an imported package is preferred: torch's includes the CUDA version it was built for,
    and under torch.hub our packages are imported without being installed.

    Args:
        distributions: names as on PyPI, and `"python"`; by default Python, torch, torchvision, numpy and the packages
            of this toolkit.
    """
    found = {}
    for name in distributions or _DEFAULT:
        if name == "python":
            found[name] = platform.python_version()
            continue
        own = getattr(sys.modules.get(name.replace("-", "_")), "__version__", None)
        if own is not None:
            found[name] = str(own)
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
