"""Affine color augmentation: any sequence of operations is one matrix and one offset per image."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["apply_affine_color", "channel_means", "channel_stretch", "color_matrices", "jitter_matrices"]

# RGB to YIQ, the color space of NTSC television: luma, a pixel's gray value, with the weights of ITU-R BT.601, and two
# components of chroma, in whose plane hue is an angle
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)

# A matrix product over this many pixels side by side is faster than one with three columns.
_PIXELS_AT_ONCE = 4
_ROW = 768  # numbers, a multiple of 3: long enough for fast additions per row, short enough to repeat the offset
_STRIP = 32768 // _ROW * _ROW  # numbers that fit into the cache


def color_matrices(images: Tensor, factors: Tensor, stretched: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the matrix and offset per image for contrast stretch followed by color jitter.

    Args:
        images: uint8 or float (N, 3, H, W), read for their mean colors and the range of each channel.
        factors: float64 (N, 4), on the CPU, as in `jitter_matrices`.
        stretched: bool (N,), on the CPU: images whose channels are first stretched to the full range.

    Returns:
        float32 (N, 3, 3) and (N, 3), on the device of `images`, for values in 0 to 1.
    """
    on_pixel, on_mean = (m.to(images.device, torch.float32) for m in jitter_matrices(factors))
    # only contrast uses the mean
    uses_mean = bool((factors[:, 1] != 1).any())
    mean = channel_means(images) if uses_mean else torch.zeros(len(images), 3, device=images.device)
    if not stretched.any():
        return on_pixel, _times(on_mean, mean)
    scale, shift = channel_stretch(images)
    unstretched = ~stretched.to(images.device)[:, None]
    scale, shift = scale.masked_fill(unstretched, 1), shift.masked_fill(unstretched, 0)
    return on_pixel * scale[:, None], _times(on_pixel, shift) + _times(on_mean, scale * mean + shift)


def jitter_matrices(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Returns P and Q per image: a pixel x becomes P x + Q m, with m the image's mean color.

    The mean enters through contrast, which scales colors around the mean gray value. In YIQ, brightness scales all
    components, contrast scales around the mean luma, saturation scales chroma, and hue rotates chroma: their order
    makes no difference.

    Args:
        factors: float64 (N, 4): factors of brightness, contrast and saturation, each 1 for no change, and hue in turns
            of the color circle, from red to green to blue to red, 0 for no change.

    Returns:
        Both float64 (N, 3, 3).
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
    return on_pixel, on_mean


def channel_means(images: Tensor) -> Tensor:
    """Returns the mean of each channel of `images` (N, 3, H, W): float32 (N, 3), in 0 to 1, where uint8 is 255ths."""
    if images.dtype != torch.uint8:
        return images.mean((-2, -1), dtype=torch.float32)

    def total(values: Tensor, axis: int) -> Tensor:
        if values.device.type != "cpu":
            return values.sum(axis, dtype=torch.int64)
        # torch would first copy the image in the wider type
        return torch.from_numpy(values.numpy().sum(axis, dtype=np.int64 if values.dtype == torch.int32 else np.int32))

    return _over_pixels(images, total).float() / (255 * images.shape[-2] * images.shape[-1])


def channel_stretch(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns scale and offset that map the minimum of each channel to 0 and the maximum to 1.

    Args:
        images: uint8 or float (N, 3, H, W).

    Returns:
        Both float32 (N, 3), for values in 0 to 1; 1 and 0 for a channel that holds a single value.
    """
    low, high = _over_pixels(images, torch.amin).float(), _over_pixels(images, torch.amax).float()
    if images.dtype == torch.uint8:
        low, high = low / 255, high / 255
    flat = high <= low
    scale = 1 / (high - low).masked_fill(flat, 1)
    return scale, (-low * scale).masked_fill(flat, 0)


def apply_affine_color(
    images: Tensor, matrix: Tensor, offset: Tensor, low: Sequence[float], high: Sequence[float], out: Tensor
) -> None:
    """Writes `matrix` times each pixel plus `offset`, clamped to `low` and `high`, into `out`.

    Args:
        images: uint8, of values in 0 to 255, or float32 (N, 3, H, W), contiguous in either memory format.
        matrix: float32 (N, 3, 3), of values in the range of `images`.
        offset: float32 (N, 3).
        low: smallest value per channel.
        high: largest value per channel.
        out: float32 of the shape and memory format of `images`.
    """
    bounds = torch.tensor([low, high], dtype=torch.float32, device=images.device)
    innermost, target = images.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    if images.device.type != "cpu":
        _apply_at_once(images, matrix, offset, bounds, out)
    elif innermost.is_contiguous():
        for index in range(len(images)):
            pixels, result = innermost[index].view(-1, 3), target[index].view(-1, 3)
            _apply_by_pixel(pixels, matrix[index], offset[index], bounds, result)
    else:
        for index in range(len(images)):
            planes, result = images[index].view(3, -1), out[index].view(3, -1)
            _apply_by_plane(planes, matrix[index], offset[index], bounds, result)


def _apply_at_once(images: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor, out: Tensor) -> None:
    """`apply_affine_color` for (N, 3, H, W), in few operations."""
    low, high = bounds[..., None]
    pixels = torch.baddbmm(offset[..., None], matrix, images.float().flatten(2))
    out.copy_(pixels.clamp_(low, high).view(images.shape))


def _apply_by_pixel(pixels: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor, out: Tensor) -> None:
    """`apply_affine_color` for (P, 3): several pixels per row, times a block-diagonal matrix."""
    wide_matrix = torch.kron(torch.eye(_PIXELS_AT_ONCE), matrix.mT.contiguous())
    offsets, lows, highs = (v.repeat(_ROW // 3) for v in (offset, *bounds))
    whole = pixels.numel() // _ROW * _ROW
    source, target = pixels.view(-1), out.view(-1)
    buffer = torch.empty(min(_STRIP, whole))
    for start in range(0, whole, _STRIP):
        strip = slice(start, min(start + _STRIP, whole))
        result = target[strip]
        floats = buffer[: len(result)].copy_(source[strip])
        torch.mm(floats.view(-1, len(wide_matrix)), wide_matrix, out=result.view(-1, len(wide_matrix)))
        rows = result.view(-1, _ROW)
        torch.clamp(rows.add_(offsets), lows, highs, out=rows)
    rest = pixels[whole // 3 :].float() @ matrix.mT + offset
    out[whole // 3 :] = rest.clamp_(bounds[0], bounds[1])


def _apply_by_plane(planes: Tensor, matrix: Tensor, offset: Tensor, bounds: Tensor, out: Tensor) -> None:
    """`apply_affine_color` for (3, P)."""
    columns = min(_STRIP // 3, planes.shape[1])
    limits = list(zip(*bounds.tolist(), strict=True))
    buffers = torch.empty(2, 3, columns)
    for left in range(0, planes.shape[1], columns):
        strip = slice(left, left + columns)
        floats, result = buffers[:, :, : planes[:, strip].shape[1]]
        torch.mm(matrix, floats.copy_(planes[:, strip]), out=result).add_(offset[:, None])
        for channel, (low, high) in enumerate(limits):
            torch.clamp(result[channel], low, high, out=out[channel, strip])


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Returns the products (N, 3) of `matrices` (N, 3, 3) and `vectors` (N, 3)."""
    return torch.einsum("nij,nj->ni", matrices, vectors)


def _over_pixels(images: Tensor, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Returns (N, 3): `images` (N, 3, H, W) reduced over rows first, which is fast in either memory format."""
    innermost = images.permute(0, 2, 3, 1)
    if innermost.is_contiguous():  # whole rows at once: a loop over three channels would be slow
        return reduce(reduce(innermost.flatten(2), 1).view(len(images), -1, 3), 1)
    return reduce(reduce(images, -2), -1)
