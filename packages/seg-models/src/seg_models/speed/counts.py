"""The size of a network: its parameters, its bytes, and the work for an image."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seg_core.modes import eval_mode

__all__ = ["bytes_of_weights", "count_macs", "count_parameters"]


def count_macs(network: nn.Module, images: Tensor) -> int:
    """Returns the multiply-accumulates (MACs) of the convolutions and matrix products of one call in eval mode.

    Other operations, such as norms, activations and resizes, are not counted, as in the tables of most papers. It is 0
    if torch does not see the operations, as those of a network that another library runs.

    Args:
        network: any network; on the device "meta" nothing is computed.
        images: float (N, C, H, W) on its device.
    """
    with eval_mode(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() // 2  # the counter counts multiplications and additions


def count_parameters(network: nn.Module) -> int:
    """Returns how many numbers the parameters of a network have."""
    return sum(parameter.numel() for parameter in network.parameters())


def bytes_of_weights(network: nn.Module) -> int:
    """Returns the bytes of the parameters and buffers of a network; shared ones count once."""
    tensors = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
