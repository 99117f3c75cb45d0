"""Semantic segmentation networks, backbones, weights and inference for PyTorch.

Heavy dependencies are imported when a name that needs them is used: `import seg_models` imports no torch.
"""

from seg_core import registry as _registry
from seg_core.lazy import attach
from seg_models import catalog as _catalog
from seg_models.__about__ import __version__ as __version__
from seg_models._exports import EXPORTS
from seg_models.other_names import advise_name as _advise_name

# The entry points of the installed package declare the same catalogs; this is for torch.hub without installation.
# A package's catalogs are added only once.
_registry.MODELS.add_table("seg-models", _catalog.MODELS)
_registry.BACKBONES.add_table("seg-models", _catalog.BACKBONES)
_registry.PREDICTORS.add_table("seg-models", _catalog.PREDICTORS)
_registry.COMMANDS.add_table("seg-models", _catalog.COMMANDS)

__getattr__, __dir__, __all__ = attach(__name__, EXPORTS, _advise_name)
