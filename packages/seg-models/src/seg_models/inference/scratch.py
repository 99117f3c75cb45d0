"""Bilinear resizing into reused memory.

On a CPU, newly allocated memory for a large result costs more than twice as much time as the resize itself, because the
operating system provides it page by page, filled with zeros.
"""

import torch
from torch import Tensor

from seg_models.inference.adapted import AnySize

__all__ = ["Scratch", "logits_into"]


class Scratch:
    """Memory for one tensor at a time; each result overwrites the previous one."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def resize(self, logits: Tensor, size: tuple[int, int], align_corners: bool = False, room: int = 0) -> Tensor:
        """Returns the result of torch's `interpolate` in mode `"bilinear"`, valid until the next call.

        Args:
            logits: floating point (N, K, h, w).
            size: height and width of the result, in pixels.
            align_corners: as in `torch.nn.functional.interpolate`.
            room: pixels of the largest result that will follow; memory for it is allocated at once.
        """
        count = logits.shape[0] * logits.shape[1]
        memory, wanted = self._memory, count * size[0] * size[1]
        if memory is None or len(memory) < wanted or (memory.dtype, memory.device) != (logits.dtype, logits.device):
            self._memory = None  # freed before the new memory is allocated
            del memory
            memory = self._memory = logits.new_empty(max(wanted, count * room))
        result = memory[:wanted].view(*logits.shape[:2], *size)
        # called by interpolate; only this variant takes the memory of the result
        torch.ops.aten.upsample_bilinear2d.out(logits, list(size), align_corners, None, None, out=result)
        return result


def logits_into(scratch: Scratch, model: AnySize, images: Tensor, room: int = 0) -> Tensor:
    """Returns the logits of whole images at their size, in `scratch` if the network leaves a bilinear resize to do.

    Args:
        scratch: memory, which is overwritten.
        model: a network in eval mode.
        images: float (N, C, H, W), normalized RGB if C is 3, on the model's device.
        room: pixels of the largest images that will follow.

    Returns:
        Floating point (N, K, H, W), the same as the network's output.
    """
    logits, corners = model.logits_before_resize(images)
    size = (images.shape[-2], images.shape[-1])
    return logits if tuple(logits.shape[-2:]) == size else scratch.resize(logits, size, corners, room)
