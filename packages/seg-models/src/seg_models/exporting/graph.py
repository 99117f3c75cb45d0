"""What is exported: a network from images to logits at their size, as a program of torch.export."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.argmax import logit_thresholds
from seg_core.metrics.thresholds import DEFAULT_THRESHOLD
from seg_core.model_files.reading import ModelInfo
from seg_core.modes import set_eval
from seg_core.transforms.preprocessing import value_scale
from seg_models.inference.adapted import min_size_of
from seg_models.inference.outputs import find_logits

__all__ = ["INPUT", "LABELS", "LOGITS", "ExportGraph", "trace"]

INPUT, LOGITS, LABELS = "images", "logits", "labels"
"""Names of the input and the outputs in every exported file."""

# A side of one feature has another meaning to torch.export (it would be repeated), so that a program for all sizes is
# one from two features on: of networks whose coarsest stride is 16, 32 and so on.
_MIN_SIZES = (33, 65, 129, 257)
_MAX_SIDE = 2**15
_MAX_BATCH = 2**10


class ExportGraph(nn.Module):
    """A network with what an exported file computes besides: normalization before it, labels behind it.

    Args:
        network: on the CPU, in eval mode; not changed.
        info: its classes, preprocessing and thresholds.
        normalizes: whether it takes the values of the images as they are.
        labels: whether it returns the labels as well.
        half: whether weights and computation are float16; input and logits stay float32.
    """

    factor: Tensor
    offset: Tensor
    limits: Tensor

    def __init__(self, network: nn.Module, info: ModelInfo, *, normalizes: bool, labels: bool, half: bool) -> None:
        super().__init__()
        # a copy, since a network may be trained on after it was exported
        self.network = copy.deepcopy(network).to("cpu", torch.float16 if half else torch.float32)
        self._half = half
        self._normalizes, self._labels = normalizes, labels
        self._is_multiclass = info.metadata.task == MULTICLASS
        self._label_type = torch.uint8 if not self._is_multiclass or info.metadata.num_classes <= 256 else torch.int32
        lows, widths = value_scale(torch.uint8, info.metadata.channels)
        mean, std = info.preprocessing.mean, info.preprocessing.std
        factors = [1 / (width * s) for width, s in zip(widths, std, strict=True)]
        offsets = [m / s + low * f for low, m, s, f in zip(lows, mean, std, factors, strict=True)]
        thresholds = (DEFAULT_THRESHOLD,) if info.thresholds is None else info.thresholds
        limits = logit_thresholds(thresholds, len(thresholds))
        for name, numbers in (("factor", factors), ("offset", offsets), ("limits", limits)):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None])
        set_eval(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the logits, and the labels if asked for.

        Args:
            images: float32 (N, C, H, W), normalized, or the values of the images as they are.

        Returns:
            Logits: float32 (N, K, H, W).
            Labels: ids (N, H, W), uint8, or int32 for more than 256 classes; of binary and multilabel tasks uint8
                (N, K, H, W), 1 where a class is above its threshold.
        """
        size = images.shape[-2:]
        if self._normalizes:
            images = images * self.factor - self.offset
        logits = find_logits(self.network(images.half() if self._half else images), images).float()
        # known without a condition on the size, which a program for all sizes cannot have
        same = [statically_known_true(one == other) for one, other in zip(logits.shape[-2:], size, strict=True)]
        if not all(same):
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        if not self._labels:
            return logits
        if self._is_multiclass:
            return logits, logits.argmax(1).to(self._label_type)
        return logits, (logits > self.limits).to(self._label_type)


def trace(
    graph: ExportGraph, channels: int, size: tuple[int, int] | None, batch: int = 2
) -> tuple[torch.export.ExportedProgram, int]:
    """Returns a graph as a program, and the minimum height and width of its inputs.

    Args:
        graph: what is exported.
        channels: number of channels of the images.
        size: the one (height, width) that it is for; None for any height, width and number of images.
        batch: number of images of the example of a program for any.

    Raises:
        InvalidArgumentError: if the network cannot be exported; the message has torch's reason.
    """
    if size is not None:
        return _exported(graph, torch.zeros(1, channels, *size), None), 1
    least = min_size_of(graph.network)
    sizes = [side for side in _MIN_SIZES if side >= least]
    for side in sizes:
        dims = {
            0: torch.export.Dim("batch", min=1, max=_MAX_BATCH),
            2: torch.export.Dim("height", min=side, max=_MAX_SIDE),
            3: torch.export.Dim("width", min=side, max=_MAX_SIDE),
        }
        # neither side a multiple of the strides: their remainders stay part of the program
        example = torch.zeros(batch, channels, side + 38, side + 62)
        try:
            return _exported(graph, example, {INPUT: dims}), side
        except InvalidArgumentError as error:
            if side == sizes[-1] or "onstraint" not in str(error.__cause__):
                raise
    raise InvalidArgumentError(f"the network needs images of at least {least} pixels; export it for one size: size=")


def _exported(
    graph: ExportGraph, example: Tensor, dims: dict[str, dict[int, Any]] | None
) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(graph, (example,), dynamic_shapes=dims)
    except UserError:  # such as a network that returns no logits
        raise
    except Exception as error:  # torch.export raises whatever the network's code meets
        lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
        name = type(graph.network).__name__
        advice = "" if dims is None else "; export it for one size: size=(height, width), dynamic=False"
        raise InvalidArgumentError(f"torch.export cannot export {name}: {lines[0]}{advice}") from error
