"""Semantic segmentation datasets in their official layouts, for PyTorch.

Nothing heavy is imported before a name that needs it is used.
"""

from seg_core.lazy import attach
from seg_datasets.__about__ import __version__ as __version__
from seg_datasets._exports import EXPORTS

__getattr__, __dir__, __all__ = attach(__name__, EXPORTS)
