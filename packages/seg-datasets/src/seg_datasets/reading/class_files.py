"""The classes of a folder of one's own: given, or from `classes.toml` or `classes.json` in the folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError, nearest
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.labels.palette import default_palette
from seg_core.parsing import read_json, read_toml

__all__ = ["CLASS_FILES", "Metadata", "check_has_colors", "find_classes", "known_classes", "resolve_classes"]

CLASS_FILES = ("classes.toml", "classes.json")
Metadata = str | os.PathLike[str] | Mapping[str, Any] | DatasetMetadata


def find_classes(root: Path) -> Path | None:
    """Returns the file with the classes in a folder, or None.

    Raises:
        InvalidArgumentError: if there are two.
    """
    found = [root / name for name in CLASS_FILES if (root / name).is_file()]
    if len(found) > 1:
        raise InvalidArgumentError(
            f"metadata is missing: dataset 'FolderDataset' found both {found[0]} and {found[1].name}; remove one"
        )
    return found[0] if found else None


def known_classes(root: str | os.PathLike[str], metadata: Metadata | None) -> DatasetMetadata | None:
    """Returns the classes as `resolve_classes` does; None if nobody has given any.

    Raises:
        InvalidArgumentError: if they are not valid metadata, as with an unknown key.
        CorruptFileError: if their file is not readable TOML or JSON.
    """
    if metadata is None and find_classes(Path(root).expanduser()) is None:
        return None
    return resolve_classes(root, metadata)


def resolve_classes(root: str | os.PathLike[str] | None, metadata: Metadata | None) -> DatasetMetadata:
    """Returns the classes: `metadata`, or those of the file in the root.

    The file holds `labels` and optionally `colors`, `ignore_index` and the other fields of `DatasetMetadata`, or a list
    of classes, each a name or a table with `name` and optionally `color` and `id`.

    Raises:
        InvalidArgumentError: if neither is there, or the contents are not valid metadata.
        CorruptFileError: if the file is not readable TOML or JSON.
    """
    if metadata is not None:
        return resolve_metadata(metadata)
    folder = Path(root).expanduser() if isinstance(root, str | os.PathLike) else None
    path = None if folder is None else find_classes(folder)
    if path is None:
        missing = "metadata is missing: dataset 'FolderDataset'"
        if folder is not None and not folder.is_dir():
            raise InvalidArgumentError(
                f"{missing} reads it from classes.toml in the root, {folder} (no such folder){_instead_of(folder)}"
            )
        where = "the root" if folder is None else str(folder)
        raise InvalidArgumentError(
            f"{missing} needs the names of your classes. {_classes_above(folder)}Give metadata = {{ labels = "
            f'["ground", "thing"] }}, or write classes.toml into {where} with such a line: labels = ["ground", "thing"]'
        )
    try:
        values = (read_toml if path.suffix == ".toml" else read_json)(path, "metadata file")
    except OSError as error:
        raise CorruptFileError(f"metadata file {path} cannot be read: {error.strerror or error}") from error
    try:
        return DatasetMetadata.from_dict(_fields(values))
    except InvalidArgumentError as error:
        text = f"metadata file {path}: {error}"
        if str(error).startswith("ignore_index 255 is the id of class") and "ignore_index" not in str(values):
            # nobody wrote 255: more classes than 255 need another value
            line = "ignore_index = 65535 beside labels = [...]"
            text += f"; write {line if path.suffix == '.toml' else _LARGE_JSON}"
        raise InvalidArgumentError(text) from None


def _instead_of(folder: Path) -> str:
    """Returns what to do about a root that does not exist, as the end of a sentence."""
    names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
    hint = nearest(folder.name, names, limit=1)
    return f"; correct the root (current folder: {Path.cwd()}).{hint}"


def _classes_above(folder: Path | None) -> str:
    """Returns a sentence if the folder above the root has the classes, as if a split were given as root; else ""."""
    above = None if folder is None else find_classes(folder.parent)
    if above is None:
        return ""
    return f"If the root is a part of the dataset of {above}, set it to {above.parent}. "


def check_has_colors(metadata: DatasetMetadata, source: Metadata | None) -> None:
    """Checks that the classes have colors of the user, each its own, as masks in colors need.

    Raises:
        InvalidArgumentError: if colors are missing or two classes have the same, or there are too many classes.
    """
    generated = metadata.colors == default_palette(metadata.num_classes)
    if generated and not (isinstance(source, Mapping) and source.get("colors")):
        raise InvalidArgumentError(
            "colors = true needs the color of each class in the masks: add them to the metadata, as in { labels = "
            '["ground", "thing"], colors = [[80, 60, 40], [255, 200, 0]] }'
        )
    if metadata.num_classes > _MAX_COLORS:
        raise InvalidArgumentError(
            f"colors = true: masks in colors have at most {_MAX_COLORS} classes, the metadata {metadata.name!r} have "
            f"{metadata.num_classes}; convert the masks to ids"
        )
    seen: dict[tuple[int, int, int], int] = {}
    for index, color in enumerate(metadata.colors):
        if color in seen:
            raise InvalidArgumentError(
                f"colors = true: classes {metadata.labels[seen[color]]!r} and {metadata.labels[index]!r} have the same "
                f"color {list(color)}, so masks do not tell them apart; give each class its own"
            )
        seen[color] = index


_LARGE_JSON = '{"labels": [...], "ignore_index": 65535}'
_MAX_COLORS = 253  # one id is needed for ignored pixels, and one for unknown colors


def _fields(values: Any) -> Mapping[str, Any]:
    """Returns the fields of metadata from the content of a file."""
    if isinstance(values, Mapping) and isinstance(values.get("classes"), Sequence) and "labels" not in values:
        others = {key: value for key, value in values.items() if key != "classes"}
        return {**_fields(values["classes"]), **others}
    if isinstance(values, Mapping):
        return values
    if not isinstance(values, list) or not values:
        raise InvalidArgumentError(f"must hold a table with 'labels' or a list of classes, got {values!r}")
    if all(isinstance(value, str) for value in values):
        return {"labels": values}
    known = {"name", "color", "id"}
    for place, value in enumerate(values):
        if not isinstance(value, Mapping) or "name" not in value or not value.keys() <= known:
            raise InvalidArgumentError(
                f"class {place} must be a table with 'name' and optionally 'color' and 'id', got {value!r}"
            )
    if any("id" in value for value in values):
        ids = [value.get("id") for value in values]
        if not all(is_integer(number) for number in ids) or sorted(ids) != list(range(len(ids))):
            raise InvalidArgumentError(
                f"the ids of classes must be 0 to {len(values) - 1}, each once, got {ids}; use label_map for masks "
                "with other ids"
            )
        values = sorted(values, key=lambda value: int(value["id"]))
    fields: dict[str, Any] = {"labels": [value["name"] for value in values]}
    colors = [value.get("color") for value in values]
    if any(colors):
        if not all(colors):
            raise InvalidArgumentError(f"class {values[colors.index(None)]['name']!r} has no color, but others have")
        fields["colors"] = colors
    return fields
