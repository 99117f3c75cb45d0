"""What an exported file says of itself, so that the file alone is enough to predict with it."""

import os
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, reading_file
from seg_core.files.json_text import to_json
from seg_core.model_files.reading import ModelInfo, description_of, parse_description
from seg_core.parsing import parse_json

__all__ = ["DESCRIPTION_KEY", "ExportDescription", "Precision", "not_described"]

Precision = Literal["fp32", "fp16", "int8"]
"""Number type of the weights and of the computation; images and logits are float32."""

DESCRIPTION_KEY = "seg"
"""Name of the description in a file: the key of ONNX's metadata and OpenVINO's rt_info, the extra file of pt2."""

_FORMAT_VERSION = 1
_LONGEST_SIDE = 2**16  # pixels


@dataclass(frozen=True)
class ExportDescription:
    """The description in an exported file.

    Attributes:
        info: classes, preprocessing and thresholds, as in a model file. `preprocessing` is that of the original
            network, even if the file normalizes images itself.
        size: (height, width) in pixels that all inputs must have; None if the file takes any.
        min_size: minimum height and width of the inputs of a file that takes any; smaller images are padded.
        normalizes: whether the file takes the values of the images as they are, 0 to 255 of 8-bit channels, and
            normalizes them; else it takes normalized images.
        labels: whether its second output is the labels.
        precision: number type of the weights.
        opset: version of ONNX's operators, None for pt2.
    """

    info: ModelInfo
    size: tuple[int, int] | None = None
    min_size: int = 1
    normalizes: bool = False
    labels: bool = False
    precision: Precision = "fp32"
    opset: int | None = None

    @property
    def network_info(self) -> ModelInfo:
        """What a `Predictor` has to know of the file as a network: a file that normalizes takes values of 0 to 1."""
        if not self.normalizes:
            return self.info
        count = self.info.metadata.channels.count
        return replace(
            self.info, preprocessing=replace(self.info.preprocessing, mean=(0.0,) * count, std=(1.0,) * count)
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "format_version": _FORMAT_VERSION,
            "size": None if self.size is None else list(self.size),
            "min_size": self.min_size,
            "normalizes": self.normalizes,
            "labels": self.labels,
            "precision": self.precision,
            "opset": self.opset,
            "task": self.info.metadata.task,
            **description_of(self.info),
        }

    def to_json(self) -> str:
        """Returns the description as JSON."""
        return to_json(self.to_dict())

    @classmethod
    def from_json(cls, path: str | os.PathLike[str], text: str) -> "ExportDescription":
        """Returns the description in a file.

        Args:
            path: path of the file, for messages.
            text: as `to_json` returns it.

        Raises:
            CorruptFileError: if it is not such a text.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise CorruptFileError(f"{path}: its description is damaged ({error}); export the model again") from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if not is_integer(version, 1):
            raise not_described(path)
        if version > _FORMAT_VERSION:
            raise CorruptFileError(f"{path} was exported by a newer seg-models; upgrade seg-models")
        size, least = values.get("size"), values.get("min_size")
        is_size = isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))
        allowed = {
            "size": size is None or is_size,
            "min_size": _is_side(least),
            "normalizes": isinstance(values.get("normalizes"), bool),
            "labels": isinstance(values.get("labels"), bool),
            "precision": values.get("precision") in ("fp32", "fp16", "int8"),
            "opset": values.get("opset") is None or is_integer(values.get("opset"), 1),
        }
        for key, fits in allowed.items():
            if not fits:
                shown = repr(values.get(key))[:80]
                raise CorruptFileError(f"{path}: {key} = {shown} in its description; export the model again")
        with reading_file(path, "export the model again"):
            info = parse_description(path, values)
        return cls(
            info,
            size=None if size is None else (size[0], size[1]),
            **{key: values.get(key) for key in allowed if key != "size"},
        )


def _is_side(value: object) -> TypeGuard[int]:
    return is_integer(value, 1) and value <= _LONGEST_SIDE


def not_described(path: str | os.PathLike[str]) -> CorruptFileError:
    """Returns the error for a file that another tool exported: nothing says what its classes are."""
    return CorruptFileError(
        f"{path} was not exported by this toolkit: it does not describe its classes and its preprocessing; export the "
        "model by seg export or seg_models.export"
    )
