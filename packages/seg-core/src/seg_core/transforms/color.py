"""Affine color augmentation: any sequence of operations is one matrix and one offset per image.

Hue and saturation change the three channels that are colors; other channels get brightness and contrast alone.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seg_core.labels.channels import RGB_CHANNELS, ImageChannels

__all__ = ["apply_affine_color", "channel_means", "channel_stretch", "color_matrices", "jitter_matrices"]

# RGB to YIQ, the color space of NTSC television: luma, a pixel's gray value, with the weights of ITU-R BT.601, and two
# components of chroma, in whose plane hue is an angle
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)

# A matrix product over pixels side by side, about this many numbers, is faster than one with few columns.
_COLUMNS = 12
_ROW = 768  # numbers: long enough for fast additions per row, short enough to repeat the offset
_STRIP = 32768  # numbers that fit into the cache


def color_matrices(
    images: Tensor, factors: Tensor, stretched: Tensor, channels: ImageChannels = RGB_CHANNELS
) -> tuple[Tensor, Tensor]:
    """Returns the matrix and offset per image for contrast stretch followed by color jitter.

    Args:
        images: uint8, uint16 or float (N, C, H, W), read for the mean and the range of each channel.
        factors: float64 (N, 4), on the CPU, as in `jitter_matrices`.
        stretched: bool (N,), on the CPU: images whose channels are first stretched to the full range.
        channels: the channels of the images.

    Returns:
        float32 (N, C, C) and (N, C), on the device of `images`, for values scaled to 0 to 1.
    """
    on_pixel, on_mean = (m.to(images.device, torch.float32) for m in jitter_matrices(factors, channels))
    # only contrast uses the mean
    uses_mean = bool((factors[:, 1] != 1).any())
    if uses_mean:
        mean = channel_means(images, channels)
    else:
        mean = torch.zeros(len(images), channels.count, device=images.device)
    if not stretched.any():
        return on_pixel, _times(on_mean, mean)
    scale, shift = channel_stretch(images, channels)
    unstretched = ~stretched.to(images.device)[:, None]
    scale, shift = scale.masked_fill(unstretched, 1), shift.masked_fill(unstretched, 0)
    return on_pixel * scale[:, None], _times(on_pixel, shift) + _times(on_mean, scale * mean + shift)


def jitter_matrices(factors: Tensor, channels: ImageChannels = RGB_CHANNELS) -> tuple[Tensor, Tensor]:
    """Returns P and Q per image: a pixel x becomes P x + Q m, with m the image's mean of each channel.

    The mean enters through contrast, which scales colors around the mean gray value. In YIQ, brightness scales all
    components, contrast scales around the mean luma, saturation scales chroma, and hue rotates chroma: their order
    makes no difference. Channels that are no colors have no hue and saturation, and contrast scales each around its
    own mean.

    Args:
        factors: float64 (N, 4): factors of brightness, contrast and saturation, each 1 for no change, and hue in turns
            of the color circle, from red to green to blue to red, 0 for no change.
        channels: the channels of the images, of which `channels.rgb` are the colors.

    Returns:
        Both float64 (N, C, C).
    """
    to_yiq, to_rgb = torch.from_numpy(_TO_YIQ), torch.from_numpy(_TO_RGB)
    brightness, contrast, saturation, turns = factors.unbind(1)
    angle = -2 * math.pi * turns  # the circle runs backwards in the plane of I and Q
    in_yiq = torch.zeros(len(factors), 3, 3, dtype=torch.float64)
    in_yiq[:, 0, 0] = 1
    in_yiq[:, 1, 1] = in_yiq[:, 2, 2] = saturation * torch.cos(angle)
    in_yiq[:, 2, 1] = saturation * torch.sin(angle)
    in_yiq[:, 1, 2] = -in_yiq[:, 2, 1]
    on_pixel = (brightness * contrast)[:, None, None] * (to_rgb @ in_yiq @ to_yiq)
    on_mean = (brightness * (1 - contrast))[:, None, None] * to_yiq[0].expand(3, 3)
    if channels.is_rgb8:
        return on_pixel, on_mean
    eye = torch.eye(channels.count, dtype=torch.float64)
    all_pixel, all_mean = (
        (b * f)[:, None, None] * eye for b, f in ((brightness, contrast), (brightness, 1 - contrast))
    )
    if channels.rgb is not None:
        rgb = torch.tensor(channels.rgb)
        all_pixel[:, rgb[:, None], rgb] = on_pixel
        all_mean[:, rgb[:, None], rgb] = on_mean
    return all_pixel, all_mean


def channel_means(images: Tensor, channels: ImageChannels = RGB_CHANNELS) -> Tensor:
    """Returns the mean of each channel of `images` (N, C, H, W): float32 (N, C), of values scaled to 0 to 1."""
    pixels = images.shape[-2] * images.shape[-1]
    if images.is_floating_point():
        if channels.is_rgb8:
            return images.mean((-2, -1), dtype=torch.float32)
        return _scaled(images.mean((-2, -1), dtype=torch.float64), channels)
    # a sum over rows alone fits into 32 bits
    narrow = np.int32 if torch.iinfo(images.dtype).max * images.shape[-2] < 2**31 else np.int64

    def total(values: Tensor, axis: int) -> Tensor:
        if values.device.type != "cpu":
            values = values.to(torch.int32) if values.dtype == torch.uint16 else values
            return values.sum(axis, dtype=torch.int64)
        # torch would first copy the image in the wider type
        is_first = values.dtype == images.dtype
        return torch.from_numpy(values.numpy().sum(axis, dtype=narrow if is_first else np.int64))

    sums = _over_pixels(images, total)
    return sums.float() / (255 * pixels) if channels.is_rgb8 else _scaled(sums.double() / pixels, channels)


def channel_stretch(images: Tensor, channels: ImageChannels = RGB_CHANNELS) -> tuple[Tensor, Tensor]:
    """Returns scale and offset that map the minimum of each channel to 0 and the maximum to 1.

    Args:
        images: uint8, uint16 or float (N, C, H, W).
        channels: the channels of the images.

    Returns:
        Both float32 (N, C), for values scaled to 0 to 1; 1 and 0 for a channel that holds a single value.
    """
    low, high = (_over_pixels(images, reduce).float() for reduce in (_minimum, _maximum))
    if not channels.is_rgb8:
        low, high = _scaled(low.double(), channels), _scaled(high.double(), channels)
    elif images.dtype == torch.uint8:
        low, high = low / 255, high / 255
    flat = high <= low
    scale = 1 / (high - low).masked_fill(flat, 1)
    return scale, (-low * scale).masked_fill(flat, 0)


def _minimum(values: Tensor, axis: int) -> Tensor:
    if values.dtype == torch.uint16:  # torch has no such kernel
        if values.device.type == "cpu":
            return torch.from_numpy(values.numpy().min(axis))
        values = values.to(torch.int32)
    return values.amin(axis)


def _maximum(values: Tensor, axis: int) -> Tensor:
    if values.dtype == torch.uint16:
        if values.device.type == "cpu":
            return torch.from_numpy(values.numpy().max(axis))
        values = values.to(torch.int32)
    return values.amax(axis)


def _scaled(values: Tensor, channels: ImageChannels) -> Tensor:
    """Returns float64 (N, C) in the unit of the range as float32 scaled to 0 to 1."""
    low, high = torch.tensor(channels.ranges, dtype=torch.float64, device=values.device).unbind(1)
    return ((values - low) / (high - low)).float()


def apply_affine_color(
    images: Tensor,
    matrix: Tensor,
    offset: Tensor,
    out: Tensor,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> None:
    """Writes `matrix` times each pixel plus `offset`, clamped to `low` and `high`, into `out`.

    Args:
        images: uint8, uint16 or float32 (N, C, H, W), contiguous in either memory format.
        matrix: float32 (N, C, C), of values in the unit of `images`.
        offset: float32 (N, C).
        out: float32 of the shape and memory format of `images`.
        low: smallest value per channel; None does not clamp.
        high: largest value per channel; given if `low` is.
    """
    bounds = None if low is None else torch.tensor([low, high], dtype=torch.float32, device=images.device)
    count = images.shape[1]
    innermost, target = images.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    if images.device.type != "cpu":
        _apply_at_once(images, matrix, offset, bounds, out)
    elif innermost.is_contiguous():
        for index in range(len(images)):
            pixels, result = innermost[index].view(-1, count), target[index].view(-1, count)
            _apply_by_pixel(pixels, matrix[index], offset[index], bounds, result)
    else:
        for index in range(len(images)):
            planes, result = images[index].view(count, -1), out[index].view(count, -1)
            _apply_by_plane(planes, matrix[index], offset[index], bounds, result)


def _apply_at_once(images: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor | None, out: Tensor) -> None:
    """`apply_affine_color` for (N, C, H, W), in few operations."""
    pixels = torch.baddbmm(offset[..., None], matrix, images.float().flatten(2))
    if bounds is not None:
        low, high = bounds[..., None]
        pixels = pixels.clamp_(low, high)
    out.copy_(pixels.view(images.shape))


def _apply_by_pixel(pixels: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor | None, out: Tensor) -> None:
    """`apply_affine_color` for (P, C): several pixels per row, times a block-diagonal matrix."""
    count = pixels.shape[1]
    at_once = max(_COLUMNS // count, 1)
    wide_matrix = torch.kron(torch.eye(at_once), matrix.mT.contiguous())
    row = max(_ROW // len(wide_matrix), 1) * len(wide_matrix)
    offsets, *limits = (v.repeat(row // count) for v in (offset, *(() if bounds is None else bounds)))
    whole = pixels.numel() // row * row
    strip_length = max(_STRIP // row, 1) * row
    source, target = pixels.view(-1), out.view(-1)
    buffer = torch.empty(min(strip_length, whole))
    for start in range(0, whole, strip_length):
        strip = slice(start, min(start + strip_length, whole))
        result = target[strip]
        floats = buffer[: len(result)].copy_(source[strip])
        torch.mm(floats.view(-1, len(wide_matrix)), wide_matrix, out=result.view(-1, len(wide_matrix)))
        rows = result.view(-1, row).add_(offsets)
        if limits:
            torch.clamp(rows, *limits, out=rows)
    rest = pixels[whole // count :].float() @ matrix.mT + offset
    out[whole // count :] = rest if bounds is None else rest.clamp_(bounds[0], bounds[1])


def _apply_by_plane(planes: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor | None, out: Tensor) -> None:
    """`apply_affine_color` for (C, P)."""
    count, length = planes.shape
    columns = max(min(_STRIP // _ROW * _ROW // count, length), 1)
    limits = [] if bounds is None else list(zip(*bounds.tolist(), strict=True))
    buffers = torch.empty(2, count, columns)
    for left in range(0, length, columns):
        strip = slice(left, left + columns)
        floats, result = buffers[:, :, : planes[:, strip].shape[1]]
        torch.mm(matrix, floats.copy_(planes[:, strip]), out=result)
        if bounds is None:
            torch.add(result, offset[:, None], out=out[:, strip])
            continue
        result.add_(offset[:, None])
        for channel, (low, high) in enumerate(limits):
            torch.clamp(result[channel], low, high, out=out[channel, strip])


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Returns the products (N, C) of `matrices` (N, C, C) and `vectors` (N, C)."""
    return torch.einsum("nij,nj->ni", matrices, vectors)


def _over_pixels(images: Tensor, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Returns (N, C): `images` (N, C, H, W) reduced over rows first, which is fast in either memory format."""
    innermost = images.permute(0, 2, 3, 1)
    if innermost.is_contiguous():  # whole rows at once: a loop over few channels would be slow
        return reduce(reduce(innermost.flatten(2), 1).view(len(images), -1, images.shape[1]), 1)
    return reduce(reduce(images, -2), -1)
