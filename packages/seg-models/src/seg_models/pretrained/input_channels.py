"""Weights for images of 3 channels in a network for another number of channels."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from seg_models.pretrained.class_axes import shapes_of

__all__ = ["RGB", "inflate_kernels", "inflate_tensors", "input_channels_of"]

RGB = 3


def inflate_kernels(kernels: Tensor, in_channels: int) -> Tensor:
    """Returns the kernels of a first convolution for another number of channels.

    Inflation rule, as in timm: for one channel the kernels of red, green and blue are summed; for n channels the i-th
    takes the kernel of color i mod 3, times 3 / n, so that the response keeps its scale.

    Args:
        kernels: (C, 3, ...) for red, green and blue.
        in_channels: channels of the images.

    Returns:
        (C, in_channels, ...), of the same type.
    """
    if in_channels == 1:
        return kernels.sum(1, keepdim=True)
    colors = torch.arange(in_channels, device=kernels.device) % RGB
    return kernels[:, colors] * (RGB / in_channels)


def inflate_tensors(
    tensors: Mapping[str, Tensor], build_with: Callable[[int], Callable[[int], nn.Module]], in_channels: int
) -> dict[str, Tensor] | None:
    """Returns a checkpoint's tensors with those that depend on the images' channels inflated from 3 channels.

    Args:
        tensors: tensors of the checkpoint, under the network's names.
        build_with: channels of the images -> number of classes -> network.
        in_channels: channels of the images of the network.

    Returns:
        The tensors; None if the checkpoint is not for 3 channels, or the network has other tensors than kernels of a
        first convolution that depend on the channels.
    """
    kernels = _first_kernels(build_with, RGB, in_channels)
    if not kernels or any(
        name not in tensors or tensors[name].dim() < 2 or tensors[name].shape[1] != RGB for name in kernels
    ):
        return None
    return {
        name: inflate_kernels(tensor, in_channels) if name in kernels else tensor for name, tensor in tensors.items()
    }


def input_channels_of(
    tensors: Mapping[str, Tensor], build_with: Callable[[int], Callable[[int], nn.Module]]
) -> int | None:
    """Returns the channels of the images that a checkpoint is for, or None if its tensors do not tell."""
    kernels = _first_kernels(build_with, RGB, RGB + 1)
    counts = {tensors[name].shape[1] if name in tensors and tensors[name].dim() > 1 else None for name in kernels}
    return counts.pop() if len(counts) == 1 else None


def _first_kernels(build_with: Callable[[int], Callable[[int], nn.Module]], one: int, other: int) -> list[str]:
    """Returns the names of the kernels that depend on the channels; none if other tensors depend on them too."""
    shapes, others = shapes_of(build_with(one)), shapes_of(build_with(other))
    differing = [name for name, shape in shapes.items() if shape != others[name]]
    only_kernels = all(
        len(shapes[name]) > 1
        and shapes[name][1] == one
        and (shapes[name][0], other, *shapes[name][2:]) == tuple(others[name])
        for name in differing
    )
    return differing if only_kernels else []
