"""The callables that torch.hub lists: every builder of seg-models, `get_model_weights`, `get_weight`, `list_models`."""

from typing import Any

from seg_models.catalog import MODELS as _MODELS
from seg_models.factory import get_model_builder, get_model_weights, get_weight, list_models

# `import *` in hubconf.py requests each of these by name; the catalog is the only list of the builders
_BUILDERS = [name for name, entry in _MODELS.items() if not entry.any_backbone]

__all__ = [*_BUILDERS, "get_model_weights", "get_weight", "list_models"]


def __getattr__(name: str) -> Any:
    if name in _BUILDERS:
        return get_model_builder(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
