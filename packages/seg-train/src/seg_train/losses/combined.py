"""A weighted sum of losses of the same logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.labels.tasks import MULTICLASS, check_task
from seg_core.registry import LOSSES
from seg_core.spec import check_params, parameters_of
from seg_train.losses.checking import check_non_negative, check_same_task, checked_weight
from seg_train.losses.micro_batches import denominators, micro_batch_loss

__all__ = ["CombinedLoss"]

_KEYS = ("name", "factor", "params")


class CombinedLoss(nn.Module):
    """The sum of losses, each times its factor.

    Args:
        losses: at least one, each either a pair `(factor, loss)`, or a table as in a config: `name` of the loss (see
            `seg_core.registry.LOSSES`), `factor` (default 1) and `params`, its other arguments. A factor is a finite
            number >= 0; a loss with factor 0 is not computed. Every loss must return a scalar: reduction `"mean"` or
            `"sum"`.
        weight: float (K,), one factor >= 0 per class, or None for 1 each; passed to each loss of a table that takes
            class weights, unless its `params` set them. Loss objects keep their own.
        ignore_index: target value excluded from the losses and their gradients; passed to each loss of a table that
            takes it. It must be the same for all losses.
        task: `"multiclass"`, `"binary"` or `"multilabel"`; passed to each loss of a table that takes it. It must be the
            same for all losses.

    Raises:
        InvalidArgumentError: if an argument is not allowed; the message says where, e.g. `losses[1].params`.
        UnknownNameError: if a name is not that of a loss.

    Example:
        >>> CombinedLoss([{"name": "CrossEntropyLoss"}, {"name": "DiceLoss", "factor": 0.5}]).factors
        (1.0, 0.5)
    """

    def __init__(
        self,
        losses: Sequence[tuple[float, nn.Module] | Mapping[str, Any]],
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__()
        self.task = check_task(task)
        if not isinstance(losses, Sequence) or isinstance(losses, str) or len(losses) == 0:
            raise InvalidArgumentError(
                'losses must be a list of at least one loss, as [{name = "CrossEntropyLoss"}, {name = "DiceLoss"}], '
                f"got {losses!r}"
            )
        given: dict[str, Any] = {"ignore_index": ignore_index, "task": task}
        if weight is not None:
            given["weight"] = checked_weight(weight)
        factors, modules, takes_weight = [], [], False
        for index, item in enumerate(losses):
            place = f"losses[{index}]"
            if isinstance(item, Mapping):
                factor, module, taken = _from_table(place, item, given)
                takes_weight |= "weight" in taken
            else:
                factor, module = _from_pair(place, item)
            _check_loss(place, module, ignore_index, task)
            factors.append(float(factor))
            modules.append(module)
        if weight is not None and not takes_weight:
            raise InvalidArgumentError(
                "weight is given, but none of the losses given by name takes class weights; remove it, or set it in "
                "the losses themselves"
            )
        if not any(factors):
            raise InvalidArgumentError("losses must have at least one factor above 0, got 0 for all of them")
        self.factors = tuple(factors)
        self.losses = nn.ModuleList(modules)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor, shares: Tensor | None = None) -> Tensor:
        """Returns the sum, 0-d float.

        Args:
            logits: float (N, K, ...), one channel per class.
            target: any integer type (N, ...), class ids and `ignore_index`; of other tasks see their losses.
            shares: of a micro-batch, float (n,), see `seg_train.losses.micro_batches`; None for a whole batch.

        Raises:
            InvalidArgumentError: if a loss raises it, or does not return a scalar.
            LabelOutOfRangeError: if a loss raises it.
        """
        terms = []
        split = self._split(shares, target)
        for index, (factor, loss, own) in enumerate(zip(self.factors, self.losses, split, strict=True)):
            if factor == 0:
                continue
            value = micro_batch_loss(loss, own, logits, target)
            if value.ndim:
                raise InvalidArgumentError(
                    f"losses[{index}] must return a scalar, got a tensor {tuple(value.shape)}; set its reduction to "
                    '"mean"'
                )
            terms.append(factor * value)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def denominators(self, target: Tensor) -> Tensor:
        """Returns the denominators of all losses, concatenated: float (n,)."""
        return torch.cat([denominators(loss, target) for loss in self.losses])

    def _split(self, shares: Tensor | None, target: Tensor) -> Sequence[Tensor | None]:
        """Returns the shares of each loss."""
        if shares is None:
            return [None] * len(self.losses)
        return torch.split(shares, [len(denominators(loss, target[:0])) for loss in self.losses])

    def extra_repr(self) -> str:
        """Returns the arguments that are not modules, for `print(loss)`."""
        task = "" if self.task == MULTICLASS else f", task={self.task!r}"
        return f"factors={list(self.factors)}, ignore_index={self.ignore_index}{task}"


def _from_pair(place: str, pair: object) -> tuple[float, nn.Module]:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[1], nn.Module):
        raise InvalidArgumentError(
            f"{place} must be a table of name, factor and params, or a pair of a factor and a loss, got {pair!r}"
        )
    factor, module = pair
    check_non_negative(f"the factor of {place}", factor)
    return factor, module


def _from_table(place: str, table: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[float, nn.Module, list[str]]:
    """Returns the factor, the loss, and the names of the arguments that it takes."""
    for key in table:
        if key not in _KEYS:
            raise InvalidArgumentError(
                f"{place} has the unknown key {key!r}.{nearest(str(key), _KEYS)} Allowed: {', '.join(_KEYS)}; "
                "set arguments of the loss in params"
            )
    name, factor, params = table.get("name"), table.get("factor", 1.0), table.get("params", {})
    if not isinstance(name, str):
        raise InvalidArgumentError(f"{place}.name must be the name of a loss, got {name!r}")
    check_non_negative(f"{place}.factor", factor)
    if not isinstance(params, Mapping):
        raise InvalidArgumentError(f"{place}.params must be a table of arguments of {name}, got {params!r}")
    try:
        factory = LOSSES.get(name)
    except UnknownNameError as error:
        raise UnknownNameError(f"{place}.name: {error}") from error
    taken = list(parameters_of(factory))
    options = {**{key: value for key, value in given.items() if key in taken}, **params}
    check_params(name, factory, options, key=f"{place}.params")
    try:
        module: nn.Module = factory(**options)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{place}.params: {error}") from error
    return factor, module, taken


def _check_loss(place: str, module: nn.Module, ignore_index: int, task: str) -> None:
    if getattr(module, "reduction", "mean") == "none":
        raise InvalidArgumentError(f'{place} must return a scalar, got reduction "none"; use "mean" or "sum"')
    ignored = getattr(module, "ignore_index", ignore_index)
    if ignored != ignore_index:
        raise InvalidArgumentError(
            f"{place} ignores {ignored}, but ignore_index is {ignore_index}; all losses must ignore the same value"
        )
    check_same_task(place, module, task)
