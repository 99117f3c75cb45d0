"""Geometric augmentation: flips, perspective, zoom and rotation composed into one homography per image.

`warp` applies it to images and masks in a single resampling.

Coordinates are in pixels from the middle of the image, x to the right and y down; a pixel is a square of side 1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.checks import is_number

__all__ = ["flip_matrices", "mask_fill_of", "perspective_matrices", "rotation_matrices", "warp"]

# Beyond the horizon of a perspective the divisor would be zero or negative; such pixels are far outside of the image.
_MIN_DIVISOR = 1e-3


def flip_matrices(across: Tensor, down: Tensor) -> Tensor:
    """Returns float64 (N, 3, 3) that flip left-right where `across` (N,) and top-bottom where `down` (N,) is true."""
    matrices = torch.eye(3, dtype=torch.float64).repeat(len(across), 1, 1)
    matrices[:, 0, 0] -= 2.0 * across
    matrices[:, 1, 1] -= 2.0 * down
    return matrices


def rotation_matrices(degrees: Tensor, zoom: Tensor) -> Tensor:
    """Returns float64 (N, 3, 3) that rotate counter-clockwise by `degrees` (N,) and enlarge by `zoom` (N,)."""
    angle = degrees * (math.pi / 180)
    matrices = torch.zeros(len(degrees), 3, 3, dtype=torch.float64)
    matrices[:, 0, 0] = matrices[:, 1, 1] = zoom * torch.cos(angle)
    matrices[:, 0, 1] = zoom * torch.sin(angle)
    matrices[:, 1, 0] = -matrices[:, 0, 1]
    matrices[:, 2, 2] = 1
    return matrices


def perspective_matrices(shifts: Tensor, height: int, width: int) -> Tensor:
    """Returns float64 (N, 3, 3) that move the corners of the image inwards.

    A square is mapped to four given corners in closed form (P. Heckbert: "Fundamentals of texture mapping and image
    warping", 1989, section 2.2.3).

    Args:
        shifts: float64 (N, 4, 2): how far the top left, top right, bottom right and bottom left corner move, along x
            and y, as fraction of half the side; 1 would be the middle of the image.
        height: height of the image, in pixels.
        width: width of the image, in pixels.
    """
    half = shifts.new_tensor([width / 2, height / 2])
    corners = shifts.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (
        corner.unbind(1) for corner in (corners * (1 - shifts)).unbind(1)
    )  # each (N,)
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    g, h = (sum_x * dy2 - dx2 * sum_y) / area, (dx1 * sum_y - sum_x * dy1) / area
    rows = [
        [x1 - x0 + g * x1, x3 - x0 + h * x3, x0],
        [y1 - y0 + g * y1, y3 - y0 + h * y3, y0],
        [g, h, torch.ones_like(g)],
    ]
    from_unit_square = torch.stack([torch.stack(row, 1) for row in rows], 1)
    to_unit_square = shifts.new_tensor([[1 / width, 0, 0.5], [0, 1 / height, 0.5], [0, 0, 1]])
    return from_unit_square @ to_unit_square


def warp(images: Tensor, masks: Tensor | None, matrices: Tensor, mask_fill: int) -> tuple[Tensor, Tensor | None]:
    """Returns images and masks transformed by `matrices`; pixels outside of the image are 0 and `mask_fill`.

    Images are interpolated bilinearly, masks by the nearest pixel.

    Args:
        images: float32 (N, 3, H, W).
        masks: uint8 or int64 (N, H, W), or (N, K, H, W) of planes.
        matrices: float64 (N, 3, 3), on the CPU, from coordinates in `images` to those in the result.
        mask_fill: a value that the type of `masks` can represent.

    Returns:
        New tensors of the same shapes and types; images in contiguous memory.
    """
    height, width = images.shape[-2:]
    grid = _sampling_grid(torch.linalg.inv(matrices), height, width, images.device)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if masks is None:
        return moved, None
    # float32 holds every id (at most 65535) exactly; pixels from outside are 0, which then becomes the fill
    planes = masks if masks.ndim == 4 else masks[:, None]
    from_fill = planes.float().sub_(mask_fill)
    taken = F.grid_sample(from_fill, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, taken.add_(mask_fill).view(masks.shape).to(masks.dtype)


def _sampling_grid(inverse: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Returns float32 (N, H, W, 2): the source coordinates of each pixel of the result, on `device`.

    They are those of `torch.nn.functional.grid_sample`: -1 to 1 from edge to edge.

    Args:
        inverse: float64 (N, 3, 3), on the CPU, from coordinates in the result to those in the image.
        height: height of both, in pixels.
        width: width of both, in pixels.
        device: device of the result.
    """
    to_unit = inverse.new_tensor([2 / width, 2 / height, 1])
    m = (inverse * to_unit[:, None]).to(device, torch.float32)[..., None, None]  # (N, 3, 3, 1, 1)
    x = torch.arange(width, dtype=torch.float32, device=device) - (width - 1) / 2
    y = (torch.arange(height, dtype=torch.float32, device=device) - (height - 1) / 2)[:, None]
    # x and y in separate planes: writing interleaved pairs takes twice as long
    grid = torch.empty(len(inverse), 2, height, width, device=device)
    for axis in (0, 1):
        torch.add(m[:, axis, 0] * x + m[:, axis, 2], m[:, axis, 1] * y, out=grid[:, axis])
    if inverse[:, 2, :2].any():  # a perspective; otherwise the last row is 0, 0, 1
        divisor = torch.add(m[:, 2, 0] * x + m[:, 2, 2], m[:, 2, 1] * y)
        grid /= divisor.clamp_(min=_MIN_DIVISOR)[:, None]
    return grid.permute(0, 2, 3, 1)


def mask_fill_of(transform: object) -> float | None:
    """Returns the number that a transform of torchvision fills masks with where it moves the image away.

    None for other transforms, and for those that fill with several numbers.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    fill = getattr(transform, "fill", None) if isinstance(transform, v2.Transform) else None
    if isinstance(fill, dict):
        fill = fill.get(tv_tensors.Mask, fill.get("others", 0))
    return fill if is_number(fill) else None
