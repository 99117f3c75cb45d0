"""The arguments of other libraries' losses (segmentation_models_pytorch, MONAI, mmsegmentation, torch), explained."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from seg_core.errors import InvalidTypeError
from seg_core.spec import parameters_of, takes_any

__all__ = ["explained"]

P = ParamSpec("P")
S = TypeVar("S")

_LOGITS = "remove it: losses take logits and compute the softmax or sigmoid themselves"
_SIGMOID = 'use task="binary" (one logit) or "multilabel" (one per class); losses take logits'
_WEIGHT = "use weight=, one factor per class"

# argument elsewhere -> what to write here
_HERE = {
    "mode": 'use task="multiclass", "binary" or "multilabel"',
    "from_logits": _LOGITS,
    "softmax": _LOGITS,
    "sigmoid": _SIGMOID,
    "use_sigmoid": _SIGMOID,
    "to_onehot_y": "remove it: targets hold class ids",
    "alpha": _WEIGHT,
    "class_weight": _WEIGHT,
    "pos_weight": f"{_WEIGHT}, or pos_weight= of BinaryCrossEntropyLoss",
    "classes": "use weight=, with 0 for the classes that do not count",
    "include_background": "use weight=, with 0 for the background",
    "loss_weight": "use CombinedLoss([(factor, loss), ...])",
    "smooth_factor": "use label_smoothing= of CrossEntropyLoss, or twice the number in BinaryCrossEntropyLoss",
    "smooth_nr": "use smooth=",
    "smooth_dr": "use smooth=",
    "squared_pred": "use squared=",
    "log_loss": "remove it: the loss is one minus the score",
    "eps": "remove it",
    "reduced_threshold": "remove it",
    "normalized": "remove it",
    "batch": "remove it: areas are summed over the batch",
    "per_image": "remove it: areas are summed over the batch",
    "avg_non_ignore": "remove it: ignored pixels never count",
    "size_average": "use reduction=",
    "reduce": "use reduction=",
}


def explained(init: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Returns the `__init__` of a loss that says what to write instead of arguments named as in other libraries."""
    own, is_open = parameters_of(init), takes_any(init)

    @functools.wraps(init)
    def wrapped(self: S, *args: P.args, **kwargs: P.kwargs) -> None:
        if not is_open:
            _refuse(type(self).__name__, {name: value for name, value in kwargs.items() if name not in own})
        init(self, *args, **kwargs)

    return wrapped  # type: ignore[return-value]  # `self` may be positional only


def _refuse(loss: str, unknown: Mapping[str, Any]) -> None:
    advice = [f"{name}={value!r}: {_HERE[name]}" for name, value in unknown.items() if name in _HERE]
    if advice:
        raise InvalidTypeError(f"{loss} has no such argument: {'; '.join(advice)}")
