"""Weights for images of 3 channels in a network for other channels.

The kernels of a first convolution are inflated, see `inflate_kernels`. If the channels are described, the kernels of
red, green and blue go to the channels of these colors, see `color_kernels`; those of weights for other described
channels go to the channels of the same names, see `kernel_sources`.

A gray image on a network for one channel gives what the image repeated on the network for 3 channels gives, if all
three colors are normalized by the same mean and std; those are the ones of the one channel. ImageNet's differ from
color to color, and no kernel makes up for it where a convolution pads with zeros: with the means of the three
(`gray_normalization`) the inputs of the three colors are off by up to 0.2 of a standard deviation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from seg_core.labels.channels import ImageChannels
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.pretrained.class_axes import shapes_of

__all__ = [
    "RGB",
    "color_kernels",
    "first_kernels",
    "gray_normalization",
    "inflate_kernels",
    "inflate_tensors",
    "input_channels_of",
    "kernel_sources",
    "place_by_name",
    "place_colors",
]

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


def color_kernels(channels: ImageChannels) -> list[int] | None:
    """Returns which color's kernel (0 red, 1 green, 2 blue) each channel gets: those of the colors that it is.

    The other channels get the colors in turn.

    Returns:
        One number per channel; None if the channels have no colors, so that all get them in turn.
    """
    if channels.rgb is None:
        return None
    others = [index for index in range(channels.count) if index not in channels.rgb]
    colors = {index: color for color, index in enumerate(channels.rgb)}
    colors |= {index: number % RGB for number, index in enumerate(others)}
    return [colors[index] for index in range(channels.count)]


def place_colors(network: nn.Module, names: Iterable[str], channels: ImageChannels) -> None:
    """Moves the kernels of red, green and blue, which are the first three, to the channels of these colors.

    Args:
        network: a network with weights for red, green and blue in this order, or with inflated ones; changed in place.
        names: names of the kernels of its first convolutions.
        channels: the channels of its images.
    """
    colors = color_kernels(channels)
    if colors is None or colors == [index % RGB for index in range(channels.count)]:
        return
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(parameters[name][:, colors])


def kernel_sources(own: ImageChannels, wanted: ImageChannels) -> list[int] | None:
    """Returns the channel of trained weights whose kernel each wanted channel gets: the one of the same name.

    Upper and lower case are the same; a channel described as red, green or blue has this name too. If all channels of
    the weights are wanted, others that are wanted get them in turn.

    Args:
        own: channels that the weights were trained on.
        wanted: channels of the network.

    Returns:
        One index into the channels of the weights per wanted channel; None if a channel is missing on both sides.
    """
    for named in (_plain_names, _color_names):
        theirs, ours = named(own), named(wanted)
        if set(ours) <= set(theirs):
            return [theirs.index(name) for name in ours]
        if set(theirs) < set(ours):
            others = [name for name in ours if name not in theirs]
            return [theirs.index(name) if name in theirs else others.index(name) % own.count for name in ours]
    return None


def place_by_name(
    tensors: Mapping[str, Tensor],
    names: Iterable[str],
    sources: Sequence[int],
    count: int,
) -> dict[str, Tensor]:
    """Returns the tensors of weights with the kernels of a first convolution chosen by `kernel_sources`.

    Kernels of channels that are used more than once are scaled as in `inflate_kernels`; those of channels that are left
    out are dropped, as if these channels always had their mean.

    Args:
        tensors: tensors of the weights, under the network's names.
        names: names of the kernels of the first convolutions, (C, count, ...).
        sources: index of the kernel that each channel gets.
        count: channels of the weights.
    """
    scale = count / len(sources) if len(sources) > count else 1
    placed = dict(tensors)
    for name in names:
        placed[name] = tensors[name][:, list(sources)] * scale
    return placed


def gray_normalization(preprocessing: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of weights for 8-bit colors for one gray channel: the means of its mean and std."""
    mean, std = (sum(numbers) / len(numbers) for numbers in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, mean=(mean,), std=(std,), channels=ImageChannels(("gray",)))


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
    kernels = first_kernels(build_with, RGB, in_channels)
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
    kernels = first_kernels(build_with, RGB, RGB + 1)
    counts = {tensors[name].shape[1] if name in tensors and tensors[name].dim() > 1 else None for name in kernels}
    return counts.pop() if len(counts) == 1 else None


def first_kernels(build_with: Callable[[int], Callable[[int], nn.Module]], one: int, other: int) -> list[str]:
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


def _plain_names(channels: ImageChannels) -> list[str]:
    names = [name.strip().lower() for name in channels.names]
    return names if len(set(names)) == len(names) else list(channels.names)


def _color_names(channels: ImageChannels) -> list[str]:
    """Returns the names of channels, with red, green and blue for those that are described as these colors."""
    colors = dict(zip(channels.rgb or (), ("red", "green", "blue"), strict=False))
    return [colors.get(index, name) for index, name in enumerate(_plain_names(channels))]
