"""The weights enums of this package, created from its catalog on first use; they have torchvision's interface."""

from typing import Any

from seg_core import registry
from seg_core.catalog import ModelEntry
from seg_core.errors import UnknownNameError
from seg_core.model_files.weights import WeightsEnum, make_weights_enum
from seg_models.catalog import MODELS

__all__ = sorted(entry.weights_enum for entry in MODELS.values() if entry.weights_enum is not None)

_made: dict[str, type[WeightsEnum]] = {}


def enum_of_model(model: str) -> type[WeightsEnum]:
    """Returns the weights enum of a model; the same class each time.

    Raises:
        UnknownNameError: if there is no such model, or no weights for it.
    """
    entry = registry.MODELS.entry(model)
    name = entry.weights_enum if isinstance(entry, ModelEntry) else None
    if not isinstance(entry, ModelEntry) or name is None:
        having = [other for other in registry.MODELS if _enum_name(other) is not None]
        raise UnknownNameError(
            f"there are no published weights for model {model!r}; there are for {', '.join(having) or 'no model yet'}"
        )
    if name not in _made:
        _made[name] = make_weights_enum(name, entry, module=__name__)
    return _made[name]


def _enum_name(model: str) -> str | None:
    entry = registry.MODELS.entry(model)
    return entry.weights_enum if isinstance(entry, ModelEntry) else None


# Type checkers take the enums from here; the catalogs are the only list of them. Other packages' enums are found too,
# since a pickled member refers to this module.
def __getattr__(name: str) -> Any:
    for model in registry.MODELS:
        if _enum_name(model) == name:
            return enum_of_model(model)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
