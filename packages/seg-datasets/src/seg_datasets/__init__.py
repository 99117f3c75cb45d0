"""Semantic segmentation datasets in their official layouts, for PyTorch.

Heavy modules are imported when a name that needs them is first used.
"""

from seg_core.lazy import attach
from seg_datasets.__about__ import __version__ as __version__
from seg_datasets._exports import EXPORTS

__getattr__, __dir__, __all__ = attach(__name__, EXPORTS)
