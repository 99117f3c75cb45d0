"""Training of semantic segmentation networks: losses, config, trainer, loggers and evaluation.

Heavy imports happen only when a name that needs them is used.
"""

from seg_core.lazy import attach
from seg_train.__about__ import __version__ as __version__
from seg_train._exports import EXPORTS

__getattr__, __dir__, __all__ = attach(__name__, EXPORTS)
