"""The loss over all outputs of a network: logits, auxiliary logits, boundaries and details.

Deep supervision ("Deeply-Supervised Nets", Lee et al., 2014, https://arxiv.org/abs/1409.5185) adds losses to
intermediate layers of a network. The factor 0.4 of auxiliary logits is that of PSPNet (Zhao et al. 2016,
https://arxiv.org/abs/1612.01105, section 3.3).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError, InvalidTypeError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.boundary import BoundaryAwareLoss
from seg_train.losses.checking import check_non_negative, check_same_task
from seg_train.losses.micro_batches import denominators, micro_batch_loss

__all__ = ["DeepSupervision"]


class DeepSupervision(nn.Module):
    """The loss of `"out"`, plus the loss of each other output times its factor.

    Outputs whose name begins with `aux` are class logits: without an entry in `outputs` they have the main loss and the
    factor `aux_weight`. Any other output (`"boundary"`) needs an entry, since its meaning depends on the network.

    Args:
        criterion: `(logits, target) -> loss`, a scalar: the main loss.
        aux_weight: factor of auxiliary outputs, >= 0.
        outputs: name of an output -> its factor and its loss `(logits, target) -> loss`, or None for the main loss. An
            output with factor 0 is ignored, whatever its values: no loss is computed, and its gradients are 0.
        boundary_aware_weight: factor of PIDNet's l3: the main loss of `"out"` over only the pixels where `"boundary"`
            predicts a boundary, see `seg_train.losses.boundary.BoundaryAwareLoss`; with 0 it is left out.

    Raises:
        InvalidArgumentError: if a factor is not a finite number >= 0, or the losses are not all of one task.

    Example:
        PIDNet's four losses:

        >>> from seg_train import BoundaryLoss, CrossEntropyLoss, OhemCrossEntropyLoss
        >>> criterion = DeepSupervision(
        ...     OhemCrossEntropyLoss(threshold=0.9, min_kept=131_072),
        ...     outputs={"aux": (0.4, CrossEntropyLoss()), "boundary": (20.0, BoundaryLoss())},
        ...     boundary_aware_weight=1.0,
        ... )
    """

    def __init__(
        self,
        criterion: nn.Module,
        aux_weight: float = 0.4,
        outputs: Mapping[str, tuple[float, nn.Module | None]] | None = None,
        boundary_aware_weight: float = 0.0,
    ) -> None:
        super().__init__()
        check_non_negative("aux_weight", aux_weight)
        check_non_negative("boundary_aware_weight", boundary_aware_weight)
        given = [criterion, *(loss for _, loss in (outputs or {}).values())]
        tasks = [getattr(loss, "task", None) for loss in given]
        self.task: str = next((task for task in tasks if task is not None), MULTICLASS)
        self.criterion = criterion
        self.aux_weight = aux_weight
        self.boundary_aware_weight = boundary_aware_weight
        # Not a ModuleDict: names of outputs may be anything, those of modules may not.
        self.losses = nn.ModuleList()
        self._outputs: dict[str, tuple[float, int | None]] = {}
        for name, (factor, loss) in (outputs or {}).items():
            check_non_negative(f"the factor of outputs[{name!r}]", factor)
            self._outputs[name] = (factor, None if loss is None else len(self.losses))
            if loss is not None:
                check_same_task(f"the loss of outputs[{name!r}]", loss, self.task)
                self.losses.append(loss)
        self.boundary_aware = None
        if boundary_aware_weight > 0:
            ignore_index = getattr(criterion, "ignore_index", 255)
            self.boundary_aware = BoundaryAwareLoss(criterion=criterion, ignore_index=ignore_index, task=self.task)

    def forward(self, outputs: Mapping[str, Tensor], target: Tensor, shares: Tensor | None = None) -> Tensor:
        """Returns the sum of the losses, 0-d float.

        Args:
            outputs: of the network, float (N, C, H, W) each: `"out"`, and others.
            target: any integer type (N, H, W), class ids and the value that the losses ignore; of other tasks see their
                losses.
            shares: of a micro-batch, float (n,), see `seg_train.losses.micro_batches`; None for a whole batch.

        Raises:
            InvalidArgumentError: if an output has no loss, an entry names an output that is missing, or every factor is
                0; or if a loss raises it, with the name of the output.
            LabelOutOfRangeError: if a loss raises it.
        """
        self._check_names(outputs)
        terms, left_out = [], []
        main, *others, near = self._split(shares, target)
        for name, logits in outputs.items():
            factor, index = self._entry(name)
            if factor > 0:
                loss, own = (self.criterion, main) if index is None else (self.losses[index], others[index])
                terms.append(factor * _scalar_loss(name, loss, own, logits, target))
            else:
                # 0 with a graph: distributed training waits until every parameter has a gradient
                left_out.append(logits[:0].sum())
        if self.boundary_aware is not None:
            name = "out, at predicted boundaries"
            value = _scalar_loss(name, self.boundary_aware, near, outputs["out"], target, outputs["boundary"])
            terms.append(self.boundary_aware_weight * value)
        if not terms:
            raise InvalidArgumentError(f"no output has a factor above 0: {_listed(outputs)}; nothing would be learned")
        total = terms[0]
        for term in (*terms[1:], *left_out):
            total = total + term
        return total

    def denominators(self, target: Tensor) -> Tensor:
        """Returns the denominators of the main loss, the outputs' losses and the boundary-aware loss: float (n,)."""
        return torch.cat([denominators(loss, target) for loss in self._all_losses()])

    def _all_losses(self) -> list[nn.Module]:
        # without boundary_aware the last one is not used: any module that is averaged over micro-batches can stand in
        return [self.criterion, *self.losses, self.boundary_aware or nn.Identity()]

    def _split(self, shares: Tensor | None, target: Tensor) -> Sequence[Tensor | None]:
        """Returns the shares of each of `_all_losses`."""
        losses = self._all_losses()
        if shares is None:
            return [None] * len(losses)
        return torch.split(shares, [len(denominators(loss, target[:0])) for loss in losses])

    def _entry(self, name: str) -> tuple[float, int | None]:
        """Returns the factor of an output and the index of its loss, None for the main loss."""
        return self._outputs.get(name, (1.0 if name == "out" else self.aux_weight, None))

    def _check_names(self, outputs: Mapping[str, Tensor]) -> None:
        if not isinstance(outputs, Mapping):
            raise InvalidTypeError(
                f'outputs must be the dict that a network returns, with the logits as "out", got '
                f"{type(outputs).__name__}; pass all outputs of the network"
            )
        if "out" not in outputs:
            raise InvalidArgumentError(f'outputs must have "out", the logits of the network, got {_listed(outputs)}')
        for name in self._outputs:
            if name not in outputs:
                raise InvalidArgumentError(
                    f"criterion.outputs.{name} is set, but the network returns {_listed(outputs)}; remove it, or build "
                    "the network with aux_loss=True if that adds the output"
                )
        if self.boundary_aware is not None and "boundary" not in outputs:
            raise InvalidArgumentError(
                f'boundary_aware_weight = {self.boundary_aware_weight} needs the output "boundary", but the network '
                f"returns {_listed(outputs)}; set it to 0, or build the network with aux_loss=True"
            )
        for name in outputs:
            if name != "out" and not name.startswith("aux") and name not in self._outputs:
                raise InvalidArgumentError(
                    f"the network's output {name} has no loss: set criterion.outputs.{name} to a weight and the name "
                    'of a loss, e.g. { weight = 1.0, name = "BoundaryLoss" }; weight = 0 ignores it'
                )

    def extra_repr(self) -> str:
        """Returns the arguments that are not modules, for `print(loss)`."""
        factors = {name: factor for name, (factor, _) in self._outputs.items()}
        return f"aux_weight={self.aux_weight}, outputs={factors}, boundary_aware_weight={self.boundary_aware_weight}"


def _listed(outputs: Mapping[str, Tensor]) -> str:
    return ", ".join(outputs) or "no output"


def _scalar_loss(name: str, loss: nn.Module, shares: Tensor | None, *arguments: Tensor) -> Tensor:
    """Returns the loss of an output; errors name the output."""
    try:
        value = micro_batch_loss(loss, shares, *arguments)
    except InvalidArgumentError as error:
        raise type(error)(f"output {name}: {error}") from error
    if value.ndim:
        raise InvalidArgumentError(
            f"output {name}: the loss must return a scalar, got a tensor {tuple(value.shape)}; set its reduction to "
            '"mean"'
        )
    return value
