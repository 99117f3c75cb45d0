"""An exported file as a network: what it shares whatever its runtime."""

import os
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError, is_out_of_memory
from seg_core.model_files.reading import ModelInfo
from seg_core.transforms.preprocessing import value_scale
from seg_models.exporting.description import ExportDescription

__all__ = ["ExportedNetwork"]


_LONGEST_REASON = 300  # characters


class ExportedNetwork(nn.Module, ABC):
    """An exported file as a network: normalized images in, logits at their size out.

    It computes in its runtime, not in torch, and has no parameters. Of a file that normalizes images itself the
    `model_info` says so: its mean is 0 and its std is 1.

    Args:
        path: the file.
        description: the description in it.

    Attributes:
        path: the file.
        description: the description in it.
        model_info: classes, preprocessing and thresholds, for `Predictor`.
        build_spec: how the network was built that was exported.
        own_precision: number type that the file computes in, whatever type is asked for.
        min_size: minimum height and width of its inputs.
        mean_color: float32 (C, 1, 1), what small images are padded with; None for 0, of a file that does not normalize.
        note_of_padding: what a warning says of smaller ones.
    """

    def __init__(self, path: str | os.PathLike[str], description: ExportDescription) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.description = description
        self.model_info: ModelInfo = description.network_info
        self.build_spec = description.info.spec
        self.own_precision = description.precision
        self.min_size = description.min_size
        mean = torch.tensor(description.info.preprocessing.mean)[:, None, None]
        self.mean_color: Tensor | None = mean if description.normalizes else None
        self.note_of_padding = (
            f"and {self.path} was exported for {self.min_size} at least: it is padded with the mean color, and its "
            "labels may differ from those of the network itself"
        )
        lows, widths = value_scale(torch.uint8, self.model_info.metadata.channels)
        self._scale = (torch.tensor(widths)[:, None, None], torch.tensor(lows)[:, None, None])
        self.eval()

    @abstractmethod
    def run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the file.

        Args:
            images: float32 (N, C, H, W), contiguous, on the CPU, as the file takes them; N is 1 if the file is for one
                size.

        Returns:
            Logits: float32 (N, K, H, W).
            Labels: as `ExportGraph.forward` describes them; None if the file has none.
        """

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns logits and labels of normalized images, on the CPU.

        Args:
            images: float (N, C, H, W), as `model_info.preprocessing` normalizes them.

        Raises:
            InvalidArgumentError: if the file was not exported for this size or number of channels.
            CorruptFileError: if it fails, or computes something else than it describes.
        """
        size, channels = (images.shape[-2], images.shape[-1]), self.model_info.metadata.channels
        fixed = self.description.size
        if fixed is not None and size != fixed:
            raise InvalidArgumentError(
                f"{self.path} was exported for inputs of {fixed[0]}x{fixed[1]} pixels (height x width), got "
                f"{size[0]}x{size[1]}; predict in tiles of that size, tile=({fixed[0]}, {fixed[1]}) (--tile "
                f"{fixed[0]}x{fixed[1]}), without test-time augmentation, or resize images to it, "
                f"preprocessing=Preprocessing(size=({fixed[0]}, {fixed[1]})), or export the model for any size "
                "(dynamic=True, without --static)"
            )
        if images.shape[1] != channels.count:
            raise InvalidArgumentError(f"{self.path} takes {channels.count} channels, got {images.shape[1]}")
        inputs = images.detach().to("cpu", torch.float32)
        if self.description.normalizes:
            width, low = self._scale
            inputs = inputs * width + low
        inputs = inputs.contiguous()
        # of one size, the number of images is fixed too
        parts = [self._checked(part) for part in (torch.split(inputs, 1) if fixed is not None else [inputs])]
        labels = [part for _, part in parts if part is not None]
        return torch.cat([logits for logits, _ in parts]), torch.cat(labels) if labels else None

    def _checked(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns what the file computes, if it has the shape that the description says."""
        try:
            logits, labels = self.run(images)
        except UserError:
            raise
        except Exception as error:  # runtimes' errors have no common class; a damaged file may fail only here
            if is_out_of_memory(error):
                raise
            reason = next(iter(str(error).strip().splitlines()), "")[:_LONGEST_REASON]
            raise CorruptFileError(
                f"{self.path} fails for images of {images.shape[-2]}x{images.shape[-1]} pixels "
                f"({type(error).__name__}: {reason}): there is too little memory, or it is damaged; use a smaller "
                "--tile, or export the model again"
            ) from error
        expected = (len(images), self.model_info.metadata.num_classes, *images.shape[-2:])
        if tuple(logits.shape) != expected:
            raise CorruptFileError(
                f"{self.path} computes logits of shape {tuple(logits.shape)}, but its description says {expected}; "
                "export the model again"
            )
        return logits, labels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"`: float32 logits (N, K, H, W) on the device of the images (N, C, H, W)."""
        return {"out": self.outputs(images)[0].to(images.device)}

    def __reduce__(self) -> Any:
        # sessions of runtimes can be neither pickled nor copied
        return type(self), (self.path,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def close(self) -> None:
        """Lets go of the file, which some systems do not rename while it is open."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Returns the network itself, which computes where its runtime does.

        Raises:
            InvalidArgumentError: if another number type is asked for.
        """
        given = [*args, *kwargs.values()]
        if other := [kind for kind in given if isinstance(kind, torch.dtype) and kind != torch.float32]:
            raise InvalidArgumentError(
                f"{self.path} computes in {self.description.precision}, and cannot be changed to {other[0]}; leave out "
                "dtype, or export the model in float16: seg export --fp16"
            )
        return self
