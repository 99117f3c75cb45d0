"""Versions of installed packages, for everything that says what it was made with."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions"]

_DEFAULT = ("python", "torch", "torchvision", "numpy", "seg-core", "seg-models", "seg-datasets", "seg-train", "seg-hub")


def installed_versions(*distributions: str) -> dict[str, str]:
    """Returns the versions of packages by name; those that are not installed are left out.

    An imported package that states its own version is taken at its word: torch's says for which CUDA it was built,
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
