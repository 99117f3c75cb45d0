"""The classes of a dataset: names, colors, the ignored value; and the channels of its images.

The known label sets are JSON files in the folder `label_sets`, one per set, with the fields of `to_dict`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from numbers import Integral
from pathlib import Path
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, UnknownNameError, nearest
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.palette import check_color, default_palette
from seg_core.labels.tasks import BINARY, MULTICLASS, check_task
from seg_core.parsing import read_json, read_toml
from seg_core.text import check_encodable, visible

__all__ = [
    "DatasetMetadata",
    "check_left_right_pairs",
    "list_label_sets",
    "resolve_metadata",
]

_MOST_NAMED = 20  # labels in a message
_LONGEST_NAME = 500  # characters
_LONGEST_TEXT = 100_000  # of a license or a citation
_MAX_ID = 65535  # label maps are stored in 8 or 16 bits


@dataclass(frozen=True)
class DatasetMetadata:
    """Names and colors of the classes of a dataset, and its channels. Class id i is `labels[i]`, drawn in `colors[i]`.

    Attributes:
        name: name of the label set.
        labels: class names in the order of their ids, all different.
        colors: one (red, green, blue), each 0 to 255, per class; by default `default_palette`.
        ignore_index: value of the pixels without a class, 0 to 65535, not a class id.
        ignore_color: color of those pixels.
        license: terms under which the data may be used.
        citation: what to cite.
        source: origin of the data.
        left_right_pairs: pairs of class ids for the left and right instance of an object, such as arms; swapped in a
            mirrored image.
        channels: the channels of the images, as `ImageChannels` or a mapping with its fields; by default three of 8
            bits, red, green and blue.
        task: `"multiclass"`: a pixel has one of the classes. `"binary"`: there is one class, the object; masks hold 1
            for it and 0 for the background. `"multilabel"`: a pixel has any number of the classes; masks hold one plane
            of 0 and 1 per class.

    Raises:
        InvalidArgumentError: if a value is not as described above.
    """

    name: str
    labels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] = ()
    ignore_index: int = 255
    ignore_color: tuple[int, int, int] = (0, 0, 0)
    license: str = ""
    citation: str = ""
    source: str = ""
    left_right_pairs: tuple[tuple[int, int], ...] = ()
    channels: ImageChannels = RGB_CHANNELS
    task: str = MULTICLASS

    def __post_init__(self) -> None:
        for key in ("name", "license", "citation", "source"):
            value = getattr(self, key)
            if not isinstance(value, str):
                raise InvalidArgumentError(f"{key} must be a string, got {value!r}")
            check_encodable(key, value, _LONGEST_NAME if key == "name" else _LONGEST_TEXT)
        if not self.name.strip():
            raise InvalidArgumentError("name must not be empty; give the label set a name")
        labels = _check_labels(self.labels)
        colors = _check_colors(self.colors, len(labels)) if len(self.colors) else default_palette(len(labels))
        # the dataclass is frozen; lists from JSON and TOML are converted to tuples
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "ignore_color", check_color("ignore_color", self.ignore_color))
        if not is_integer(self.ignore_index) or not 0 <= self.ignore_index <= _MAX_ID:
            raise InvalidArgumentError(
                f"ignore_index must be an integer from 0 to {_MAX_ID}, got {self.ignore_index!r}"
            )
        check_task(self.task)
        if self.task == BINARY and len(labels) > 1:
            raise InvalidArgumentError(
                f"a binary task has one label, that of the object, got {list(labels)}; the background has none"
            )
        if self.task != MULTICLASS and not 2 <= self.ignore_index <= 255:
            raise InvalidArgumentError(
                f"ignore_index must be 2 to 255 for a {self.task} task, whose masks hold 0 and 1, got "
                f"{self.ignore_index}"
            )
        if self.task == MULTICLASS and self.ignore_index < len(labels):
            raise InvalidArgumentError(
                f"ignore_index {self.ignore_index} is the id of class {labels[self.ignore_index]!r}; choose a value "
                f"from {len(labels)} to {_MAX_ID}"
            )
        pairs = check_left_right_pairs(self.left_right_pairs)
        if any(index >= len(labels) for pair in pairs for index in pair):
            raise InvalidArgumentError(
                f"left_right_pairs must hold class ids, 0 to {len(labels) - 1}, got {self.left_right_pairs!r}"
            )
        object.__setattr__(self, "left_right_pairs", pairs)
        if not isinstance(self.channels, ImageChannels):
            object.__setattr__(self, "channels", ImageChannels.from_dict(self.channels))

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored value: the channels of a network's logits."""
        return len(self.labels)

    @property
    def num_ids(self) -> int:
        """Number of values of a mask, without the ignored one: the classes, or 0 and 1 if the task is another."""
        return self.num_classes if self.task == MULTICLASS else 2

    def class_id(self, name: str | int) -> int:
        """Returns the id of a class.

        Args:
            name: the class's name; an id (of Python's or numpy's types) is checked and returned.

        Raises:
            UnknownNameError: if no class has that name; the message names the nearest ones.
            InvalidArgumentError: if it is an integer but no class id, or of another type.
        """
        if isinstance(name, str):
            if name not in self.labels:
                more = self.num_classes - _MOST_NAMED
                raise UnknownNameError(
                    f"unknown class {name!r} of {self.name}.{nearest(name, self.labels)} "
                    f"{'Classes' if self.num_classes > 1 else 'The only class'}: {', '.join(self.labels[:_MOST_NAMED])}"
                    + (f" and {more} more" if more > 0 else "")
                )
            return self.labels.index(name)
        if isinstance(name, bool) or not isinstance(name, Integral) or not 0 <= name < self.num_classes:
            raise InvalidArgumentError(
                f"a class must be a name or an id from 0 to {self.num_classes - 1} of {self.name}, got {name!r}"
            )
        return int(name)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain strings, numbers and lists, for JSON and TOML."""
        plain = asdict(self)
        plain["labels"] = list(self.labels)
        plain["colors"] = [list(color) for color in self.colors]
        plain["ignore_color"] = list(self.ignore_color)
        plain["left_right_pairs"] = [list(pair) for pair in self.left_right_pairs]
        del plain["channels"]
        if self.channels != RGB_CHANNELS:  # files of color images stay as they were
            plain["channels"] = self.channels.to_dict()
        if self.task == MULTICLASS:
            del plain["task"]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DatasetMetadata":
        """Returns metadata from a mapping with the fields of `to_dict`; only `labels` is required.

        Without `name` the label set is called `"custom"`.

        Raises:
            InvalidArgumentError: if a key is unknown, `labels` is missing, or a value is not allowed.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                hint = nearest(str(key), known)
                raise InvalidArgumentError(f"unknown key {key!r} in the metadata.{hint} Known: {', '.join(known)}")
        if "labels" not in values:
            raise InvalidArgumentError(
                f"the metadata have no 'labels', the class names in the order of their ids; got {sorted(values)}"
            )
        return cls(**{"name": "custom", **values})


def resolve_metadata(source: "str | os.PathLike[str] | Mapping[str, Any] | DatasetMetadata") -> DatasetMetadata:
    """Returns the metadata given by name, file, mapping or object.

    Names that begin alike have different classes, and a network of one does not fit another. `"Cityscapes"` has the 34
    ids of the masks, `"CityscapesClass"` the 19 of them that the benchmark scores, `"CityscapesBackground"` these and a
    background, `"CityscapesCategory"` their 7 categories, `"CityscapesCategory8"` also void. `"PascalContext"` has 59
    classes, in `"PascalContext60"` the background comes before them; `"iSAID"` has the background before the 15 of
    `"iSAID15"`. `"MapillaryVistas"` is v2.0 with 116 classes, `"MapillaryVistas_v1.2"` has 65. `"COCOStuff"` has 171,
    `"COCOStuff27"` groups them. The same classes are in `"VOC"` and `"SBD"` (21, background first), and in
    `"CityscapesClass"`, `"BDD100K"` and `"Street"`.

    Args:
        source: name of a known label set (see `list_label_sets`; upper and lower case as listed), a path that ends in
            `.toml` or `.json`, a mapping with at least `labels`, or metadata, which are returned unchanged. A file or
            mapping may omit the name (for a file its stem is used) and the colors (see `default_palette`).

    Raises:
        UnknownNameError: if no label set has that name; the message names the nearest ones.
        DatasetNotFoundError: if the file does not exist.
        CorruptFileError: if the file is not readable TOML or JSON, or not in UTF-8 or UTF-16 with its mark.
        InvalidArgumentError: if the contents are not valid metadata, or `source` is of another type.
    """
    if isinstance(source, DatasetMetadata):
        return source
    if isinstance(source, Mapping):
        return DatasetMetadata.from_dict(source)
    if not isinstance(source, str | os.PathLike):
        raise InvalidArgumentError(
            f"metadata must be a name, a path to a .toml or .json file, a mapping or DatasetMetadata, got {source!r}"
        )
    path = Path(source)
    if isinstance(source, os.PathLike) or path.suffix.lower() in (".toml", ".json"):
        return _from_file(path)
    return _known_label_set(source)


@cache
def list_label_sets() -> tuple[str, ...]:
    """Returns the names of the known label sets, sorted."""
    names = (json.loads(file.read_text("utf-8"))["name"] for file in _label_set_files().values())
    return tuple(sorted(names, key=str.lower))


def check_left_right_pairs(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Returns pairs of class ids as tuples.

    Raises:
        InvalidArgumentError: if they are not pairs of ids >= 0, each id in only one pair.
    """
    is_list = isinstance(pairs, Sequence) and not isinstance(pairs, str)
    ids: list[object] = [index for pair in pairs if isinstance(pair, Sequence) for index in pair] if is_list else []
    if (
        not is_list
        or not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs)
        or not all(is_integer(index, 0) for index in ids)
        or len(set(ids)) < len(ids)
    ):
        raise InvalidArgumentError(
            "left_right_pairs must be pairs of class ids (left, right), each id in only one pair, such as "
            f"[[14, 15], [16, 17]], got {pairs!r}"
        )
    return tuple((left, right) for left, right in pairs)


@cache
def _known_label_set(name: str) -> DatasetMetadata:
    # files have the lower-case name; the name inside decides, so that the file system's rules for case do not matter
    file = _label_set_files().get(f"{name.lower()}.json")
    if file is not None:
        values = json.loads(file.read_text("utf-8"))
        if values["name"] == name:
            return DatasetMetadata.from_dict(values)
    known = list_label_sets()
    raise UnknownNameError(
        f"unknown label set {name!r}.{nearest(name, known)} Known: {', '.join(known)}; for your own classes give a "
        ".toml or .json file or a mapping with 'labels'"
    )


def _label_set_files() -> dict[str, Any]:
    folder = resources.files("seg_core") / "labels" / "label_sets"
    return {file.name: file for file in folder.iterdir() if file.name.endswith(".json")}


def _from_file(path: Path) -> DatasetMetadata:
    suffix = path.suffix.lower()
    if suffix not in (".toml", ".json"):
        raise InvalidArgumentError(f"metadata file {path} must end in .toml or .json")
    try:
        values = (read_toml if suffix == ".toml" else read_json)(path, "metadata file")
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"metadata file {path} does not exist; check the path") from error
    except OSError as error:
        raise CorruptFileError(f"metadata file {path} cannot be read: {error.strerror or error}") from error
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(
            f"metadata file {path} must hold a table with 'labels', got a {type(values).__name__}"
        )
    try:
        return DatasetMetadata.from_dict({"name": visible(path.stem), **values})
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"metadata file {path}: {error}") from error


def _check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not labels:
        raise InvalidArgumentError(f"labels must be a list of at least one class name, got {labels!r}")
    if len(labels) > _MAX_ID:
        raise InvalidArgumentError(f"labels must be at most {_MAX_ID} names, got {len(labels)}")
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InvalidArgumentError(f"labels[{index}] must be a name that is not empty, got {label!r}")
        check_encodable(f"labels[{index}]", label, _LONGEST_NAME)
        if label in seen:
            raise InvalidArgumentError(
                f"labels[{index}] {label!r} is also labels[{seen[label]}]; class names must be unique"
            )
        seen[label] = index
    return tuple(labels)


def _check_colors(colors: Sequence[Sequence[int]], count: int) -> tuple[tuple[int, int, int], ...]:
    if len(colors) != count:
        raise InvalidArgumentError(
            f"colors must hold one color per class: {count} labels but {len(colors)} colors; omit colors for "
            "the default palette"
        )
    return tuple(check_color(f"colors[{index}]", color) for index, color in enumerate(colors))
