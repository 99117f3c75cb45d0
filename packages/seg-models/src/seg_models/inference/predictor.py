"""From a picture to its label map, at the picture's own size."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.argmax import argmax_labels
from seg_core.atomic import atomic_path
from seg_core.drawing import colorize, overlay
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError
from seg_core.metadata import DatasetMetadata
from seg_core.model_file import ModelInfo, load_model
from seg_core.preprocessing import Preprocessing, as_rgb_tensor
from seg_models.inference.whole import predict_whole

__all__ = ["PictureNotFoundError", "Prediction", "Predictor", "read_picture"]

_PALETTE_SIZE = 256


@dataclass(frozen=True)
class Prediction:
    """The label map of one picture.

    Attributes:
        labels: uint8 (H, W), class ids; uint16 for more than 256 classes. The picture's own size, upright.
        metadata: names and colours of the classes.
        image: uint8 (H, W, 3), RGB, the picture, upright.
    """

    labels: npt.NDArray[Any]
    metadata: DatasetMetadata
    image: npt.NDArray[np.uint8]

    def colorize(self) -> npt.NDArray[np.uint8]:
        """Returns the label map in the colours of its classes, uint8 (H, W, 3)."""
        return colorize(self.labels, self.metadata)

    def overlay(self, alpha: float = 0.5) -> npt.NDArray[np.uint8]:
        """Returns the picture with its classes laid over it, uint8 (H, W, 3).

        Args:
            alpha: weight of the colours, 0 (picture alone) to 1 (colours alone).
        """
        return overlay(self.image, self.labels, self.metadata, alpha)

    def areas(self) -> dict[str, int]:
        """Returns the pixels of each class that occurs, by its name, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=self.metadata.num_classes)
        order = np.argsort(-counts, kind="stable")
        return {self.metadata.labels[i]: int(counts[i]) for i in order if counts[i]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the label map as PNG whose values are the class ids, whole or not at all.

        Up to 256 classes it has the palette of the classes, so viewers show colours; with more it is 16-bit grey.

        Raises:
            InvalidArgumentError: if `path` does not end in .png: other formats would change the ids.
            WriteError: if it cannot be written.
        """
        if Path(path).suffix.lower() != ".png":
            raise InvalidArgumentError(f"path must end in .png, which keeps the class ids, got {os.fspath(path)!r}")
        picture = Image.fromarray(self.labels)
        if self.labels.dtype == np.uint8:
            picture.putpalette(_palette(self.metadata))
        with atomic_path(path) as temporary:
            picture.save(temporary)

    def save_overlay(self, path: str | os.PathLike[str], alpha: float = 0.5) -> None:
        """Writes the picture with its classes laid over it, whole or not at all; the suffix chooses the format.

        Raises:
            InvalidArgumentError: if Pillow knows no format of that suffix.
            WriteError: if it cannot be written.
        """
        if Path(path).suffix.lower() not in Image.registered_extensions():
            raise InvalidArgumentError(f"path must end in .png, .jpg or the like, got {os.fspath(path)!r}")
        picture = Image.fromarray(self.overlay(alpha))
        with atomic_path(path) as temporary:
            picture.save(temporary, quality=92)  # formats without loss ignore it


class Predictor:
    """Predicts label maps of pictures with one network.

    Example:
        ```python
        predictor = Predictor("runs/shapes/model.pt")
        prediction = predictor("street.jpg")
        prediction.save("street_labels.png")
        ```

    Args:
        model: a network (it is put in eval mode and on `device`), or the path of a model file.
        metadata: names and colours of the classes; None takes what the network's weights or file say.
        preprocessing: from a picture to the network's input; None takes what the network's weights or file say.
        device: where to compute.

    Raises:
        InvalidArgumentError: if the network does not say what is left out here, takes no RGB pictures, has another
            number of classes than the metadata, or there is no such device.
        FileNotFoundError: if there is no such model file.
        CorruptFileError: if the model file is damaged.
    """

    def __init__(
        self,
        model: nn.Module | str | os.PathLike[str],
        *,
        metadata: DatasetMetadata | None = None,
        preprocessing: Preprocessing | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = _usable_device(device)
        network = model if isinstance(model, nn.Module) else load_model(model)
        info = getattr(network, "model_info", None)
        self.metadata = metadata or _from_info(info, "metadata")
        self.preprocessing = preprocessing or _from_info(info, "preprocessing")
        spec = getattr(network, "build_spec", None)
        if spec is not None:
            if spec.arguments.get("num_classes") != self.metadata.num_classes:
                raise InvalidArgumentError(
                    f"metadata {self.metadata.name!r} has {self.metadata.num_classes} classes but the model was built "
                    f"with num_classes={spec.arguments.get('num_classes')}; pass the metadata that it was trained on"
                )
            if spec.arguments.get("in_channels", 3) != 3:
                raise InvalidArgumentError(
                    f"the model takes {spec.arguments['in_channels']} channels, and Predictor gives it RGB pictures; "
                    "call the model itself"
                )
        self.model = network.to(self.device).eval()

    def __call__(self, image: str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor) -> Prediction:
        """Predicts one picture.

        Args:
            image: path, PIL picture, array (H, W, 3) or (H, W), or tensor (3, H, W); uint8 in 0 to 255 or float in 0 to
                1. A file and a PIL picture are turned upright by their EXIF orientation.

        Raises:
            FileNotFoundError: if there is no such file.
            CorruptFileError: if the file cannot be read as a picture.
            InvalidArgumentError: if it is not one picture.
        """
        if isinstance(image, str | os.PathLike):
            image = read_picture(image)
        elif isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)
        pixels = as_rgb_tensor(image)
        if pixels.ndim != 3:
            raise InvalidArgumentError(
                f"image must be one picture (3, H, W), got a batch of shape {tuple(pixels.shape)}; call once for each"
            )
        height, width = pixels.shape[-2:]
        logits = predict_whole(self.model, self.preprocessing(pixels).to(self.device))
        if logits.shape[-2:] != (height, width):
            logits = F.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)
        labels = argmax_labels(logits)[0].cpu().numpy()
        return Prediction(labels, self.metadata, _as_bytes(pixels))


class PictureNotFoundError(UserError, FileNotFoundError):
    """There is no picture where one was named."""

    # FileNotFoundError would format its arguments in its own way
    def __str__(self) -> str:
        return str(self.args[0])


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Returns a picture file decoded and upright.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read as a picture.
    """
    if not Path(path).is_file():
        raise PictureNotFoundError(f"there is no picture {os.fspath(path)}; check the path")
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    # Pillow raises SyntaxError for some damaged PNGs and plain errors of the decoders for other files
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise CorruptFileError(
            f"{os.fspath(path)} cannot be read as a picture: {error}; replace it or leave it out"
        ) from error


def _from_info(info: ModelInfo | None, name: str) -> Any:
    if info is None:
        raise InvalidArgumentError(
            f"the model does not say its {name}: pass {name}=, or use a model file (save_model writes one) or "
            "published weights"
        )
    return getattr(info, name)


def _usable_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # what torch raises depends on how it was built
        reason = str(error).partition("\n")[0]
        raise InvalidArgumentError(f"device {str(device)!r} cannot be used: {reason}; 'cpu' always can") from error


def _as_bytes(pixels: Tensor) -> npt.NDArray[np.uint8]:
    if pixels.dtype != torch.uint8:
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = pixels.cpu().permute(1, 2, 0).contiguous().numpy()
    return array


def _palette(metadata: DatasetMetadata) -> list[int]:
    """Returns the PNG palette: red, green, blue of each of the 256 ids."""
    colors = [*metadata.colors, *[(0, 0, 0)] * (_PALETTE_SIZE - metadata.num_classes)]
    if metadata.ignore_index < _PALETTE_SIZE:
        colors[metadata.ignore_index] = metadata.ignore_color
    return [channel for color in colors for channel in color]
