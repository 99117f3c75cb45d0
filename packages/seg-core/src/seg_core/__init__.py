"""Metadata, label maps, transforms, metrics, drawing and the registry that the packages of the seg toolkit share.

Nothing heavy is imported before a name that needs it is used.
"""

from seg_core.__about__ import __version__ as __version__
from seg_core._exports import EXPORTS
from seg_core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, EXPORTS)
