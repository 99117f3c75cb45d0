"""The evaluation protocol that is stored with every score.

Scores are comparable only under the same protocol: the same images, at the same size, predicted in the same way, with
the same rule for absent classes.
"""

import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, nearest
from seg_core.interfaces import SegmentationDataset

__all__ = ["EvaluationProtocol", "digest_of_dataset", "digest_of_files"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """Which images were scored, and how.

    It is plain data: `to_dict` returns a dict for JSON and model files, `str` one sentence.

    Attributes:
        dataset: name of the dataset's label set, such as `"CamVid"`.
        split: split of the dataset.
        digest: digest of the list of images, see `digest_of_dataset`; `""` if unknown.
        num_images: images scored.
        classes: names of the classes, in the order of their ids.
        resize: resize of an image before the network: `{}` (nothing), `{"scale": 0.5}`, `{"shorter_side": 512}`,
            `{"longer_side": 1024}` or `{"size": [512, 1024]}` (height, width); lengths in pixels. Masks are never
            resized: logits are resized to the mask.
        tile: (height, width) in pixels of the tiles that images are predicted in; None if they are predicted whole.
        overlap: fraction 0 to below 1 of a tile that the next one overlaps; None without tiles.
        scales: factors of test-time augmentation; None without it.
        hflip: whether horizontally flipped images are predicted too.
        absent: rule for absent classes, see `seg_core.scores_from_confusion`.
        level: what one score is computed from: `"dataset"` is the confusion matrix of all images together.
        precision: `"fp32"`, `"bf16"` or `"fp16"`, of the network's arithmetic; of an exported file also `"int8"`.
        predictor: registered way of predicting, such as `"whole"`.
        predictor_params: its arguments that are not in `tile`, `overlap`, `scales` and `hflip`.
        thresholds: of a binary or multilabel task: probability per class above which a pixel has it; None for another.
        tuned: whether the thresholds are those of the highest IoU on this split.

    Raises:
        InvalidArgumentError: if a value has a type that is not allowed.
    """

    dataset: str
    split: str
    digest: str
    num_images: int
    classes: tuple[str, ...]
    resize: Mapping[str, Any] = field(default_factory=dict)
    tile: tuple[int, int] | None = None
    overlap: float | None = None
    scales: tuple[float, ...] | None = None
    hflip: bool = False
    absent: str = "skip"
    level: str = "dataset"
    precision: str = "fp32"
    predictor: str = "whole"
    predictor_params: Mapping[str, Any] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    tuned: bool = False

    def __post_init__(self) -> None:
        for name, kinds, allowed in _TYPES:
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise InvalidArgumentError(f"{name} of a protocol must be {allowed}, got {value!r}")
        for name in ("classes", "tile", "scales", "thresholds"):  # JSON has lists
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists, numbers and strings, for JSON and `torch.load(weights_only=True)`."""
        plain: dict[str, Any] = _plain(asdict(self))
        if self.thresholds is None:  # protocols of one class per pixel stay as they were
            del plain["thresholds"], plain["tuned"]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EvaluationProtocol":
        """Returns the protocol from a mapping like that of `to_dict`; a missing key gets its default.

        Raises:
            InvalidArgumentError: if a key is unknown, one without a default is missing, or a value is not allowed.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise InvalidArgumentError(
                    f"unknown key {key!r} of a protocol.{nearest(str(key), known)} Known: {', '.join(known)}"
                )
        try:
            return cls(**values)
        except TypeError as error:
            missing = [name for name in ("dataset", "split", "digest", "num_images", "classes") if name not in values]
            raise InvalidArgumentError(f"a protocol needs the keys {', '.join(missing)}") from error

    def __str__(self) -> str:
        images = f"{self.num_images} image{'' if self.num_images == 1 else 's'}"
        parts = [f"{self.split} split of {self.dataset} ({images})", _size_text(self.resize)]
        if self.tile is not None:
            overlap = "" if self.overlap is None else f" with overlap {self.overlap:g}"
            parts.append(f"tiles of {self.tile[0]}x{self.tile[1]} pixels{overlap}")
        if self.scales is not None or self.hflip:
            flips = " and horizontal flips" if self.hflip else ""
            scales = ", ".join(f"{scale:g}" for scale in self.scales or (1.0,))
            parts.append(f"test-time augmentation with scales {scales}{flips}")
        if self.tile is None and self.scales is None and not self.hflip:
            options = ", ".join(f"{name}={value}" for name, value in self.predictor_params.items())
            parts.append(f"predictor {self.predictor}" + (f"({options})" if options else ""))
        if self.thresholds is not None:
            shown = self.thresholds[:1] if len(set(self.thresholds)) == 1 else self.thresholds
            parts.append(
                f"threshold{'s' * (len(shown) > 1)} {', '.join(f'{value:.3g}' for value in shown)}"
                + " tuned on this split for the highest IoU" * self.tuned
            )
        parts += [self.precision, f"absent={self.absent}"]
        if self.level != "dataset":
            parts.append(f"averaged per {self.level}")
        return ", ".join(parts)


_TYPES: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("dataset", (str,), "a name"),
    ("split", (str,), "a name"),
    ("digest", (str,), "a string"),
    ("num_images", (int,), "an integer"),
    ("classes", (list, tuple), "a list of names"),
    ("resize", (Mapping,), 'a table, as {"scale": 0.5}'),
    ("tile", (list, tuple, type(None)), "[height, width] or None"),
    ("overlap", (int, float, type(None)), "a number or None"),
    ("scales", (list, tuple, type(None)), "a list of factors or None"),
    ("hflip", (bool,), "True or False"),
    ("absent", (str,), "a name"),
    ("level", (str,), "a name"),
    ("precision", (str,), "a name"),
    ("predictor", (str,), "a name"),
    ("predictor_params", (Mapping,), "a table"),
    ("thresholds", (list, tuple, type(None)), "a list of probabilities or None"),
    ("tuned", (bool,), "True or False"),
)


def digest_of_files(paths: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str]) -> str:
    """Returns a digest of a list of files: hexadecimal sha256 of their sorted paths relative to `root`.

    Paths have `/` as separator, are normalized to Unicode NFC, and are listed one per line, so that a dataset keeps
    its digest when it is moved or copied to another system. Files outside of `root` (of a second dataset concatenated
    with it) are taken relative to their common folder. The content of the files does not matter.

    Args:
        paths: absolute, or relative to the current folder.
        root: folder of the dataset.
    """
    # abspath and not resolve(), which would follow links: files may be linked from elsewhere
    top = os.path.abspath(root)  # noqa: PTH100 - see above
    files = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - see above
    inside = [os.path.relpath(path, top) for path in files if _is_below(path, top)]
    outside = [path for path in files if not _is_below(path, top)]
    if outside:
        shared = _common_folder(outside)
        inside += [os.path.relpath(path, shared) for path in outside]
    names = sorted(unicodedata.normalize("NFC", Path(path).as_posix()) for path in inside)
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def digest_of_dataset(dataset: SegmentationDataset) -> str:
    """Returns a digest of the list of images of a dataset, which moving the data does not change.

    For a dataset with files it is `digest_of_files` of the first of `file_names` of each sample, relative to
    `dataset.root` (without that attribute, to their common folder). For one without files it is a digest of its name,
    its `params` and its length.

    Args:
        dataset: one split.
    """
    first_files = [next(iter(dataset.file_names(index)), "") for index in range(len(dataset))]
    root = getattr(dataset, "root", None)
    if root is None and first_files and os.path.isabs(first_files[0]):  # noqa: PTH117 - a string
        root = _common_folder(first_files)
    if root is None:
        what = {
            "name": dataset.metadata.name,
            "params": _plain(getattr(dataset, "params", {})),
            "length": len(dataset),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return digest_of_files(first_files, root)


def _is_below(path: str, folder: str) -> bool:
    return os.path.splitdrive(path)[0] == os.path.splitdrive(folder)[0] and os.path.commonpath([path, folder]) == folder


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - strings


def _size_text(resize: Mapping[str, Any]) -> str:
    if not resize:
        return "each image at its own size"
    (form, value), *_ = resize.items()
    if form == "scale":
        return f"images resized by {value:g}, scored at the size of the masks"
    if form == "size":
        return f"images resized to {value[0]}x{value[1]} pixels, scored at the size of the masks"
    return f"images resized to a {form.replace('_', ' ')} of {value} pixels, scored at the size of the masks"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)
