"""The exponential moving average of the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average (EMA) of all weights and buffers of a network.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so that
    the random first weights are soon forgotten. Integer tensors, such as batch norm's counters, are copied.

    Args:
        tensors: state dict with the initial values.
        decay: decay per update, between 0 and 1.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor]) -> None:
        """Updates the average with the current weights."""
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        # torch's foreach operations take plain tensors or sharded ones, not both in one call
        groups: dict[type[Tensor], tuple[list[Tensor], list[Tensor]]] = {}
        for name, average in self.tensors.items():
            value = tensors[name].detach()
            if average.is_floating_point():
                averages, values = groups.setdefault(type(average), ([], []))
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        for averages, values in groups.values():
            torch._foreach_lerp_(averages, values, share)
