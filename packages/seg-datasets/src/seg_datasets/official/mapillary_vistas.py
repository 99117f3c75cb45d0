"""Mapillary Vistas, research edition: street scenes from all over the world.

18000 training images, 2000 validation images and 5000 test images without masks, of up to about 22 megapixels: decoding
takes most of the time, so crop or resize the files before training. The masks are palette images whose indices are the
ids; several classes of v2.0 share a color, so ids cannot be recovered from colors.

The same images have two annotations with different ids and classes: v2.0 with 124 ids, 116 of them classes, and v1.2
with 66 ids, 65 of them classes. The option `version` selects masks, classes and config together. The config in the
dataset's folder defines names, colors and evaluated classes: if it differs from the built-in label set, it is used,
with a warning.

Expected on disk: see `TREE`. Download, after registration: https://www.mapillary.com/dataset/vistas

License: Mapillary Vistas Dataset Research Use License: research, no commercial use. There is no automatic download.

Cite: G. Neuhold, T. Ollmann, S. Rota Bulo, P. Kontschieder, "The Mapillary Vistas Dataset for Semantic Understanding of
Street Scenes", ICCV 2017.
"""

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.parsing import read_json
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles
from seg_datasets.reading.pairs import first_few

__all__ = ["CONFIGS", "NOT_EVALUATED", "MapillaryVistas"]

SITE = "https://www.mapillary.com/dataset/vistas"
TREE = """\
<any name>/                                           root
  config_v2.0.json, config_v1.2.json                  names, colors, what is evaluated
  training/images/__CRyFzoDOXn6unQ6a3DnQ.jpg
  training/v2.0/labels/__CRyFzoDOXn6unQ6a3DnQ.png     masks of v2.0: 0..123
  training/v1.2/labels/__CRyFzoDOXn6unQ6a3DnQ.png     masks of v1.2: 0..65
  validation/images/, validation/v2.0/labels/, validation/v1.2/labels/
  testing/images/                                     no masks
the older package, v1.1, holds the masks of v1.2 in training/labels/ and validation/labels/, and a config.json
"""
CONFIGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"v2.0": ("config_v2.0.json",), "v1.2": ("config_v1.2.json", "config.json")}
)
"""Version -> possible names of its config."""

NOT_EVALUATED: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "v2.0": {
            2: "Ambiguous Barrier",
            31: "Person Group",
            38: "Lane Marking - Ambiguous",
            79: "Signage - Ambiguous",
            86: "Pole Group",
            96: "Traffic Sign - Ambiguous",
            115: "Vehicle Group",
            123: "Unlabeled",
        },
        "v1.2": {65: "Unlabeled"},
    }
)
"""Version -> raw ids that are not classes -> their names."""

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_KEYS = ("readable", "evaluate", "color")  # of a label in a config; it has others too
_RESTORE = "restore the file from the package, or remove it to use the built-in classes"


def _label_map(num_ids: int, ignored: Collection[int]) -> LabelMap:
    """Returns the label map that numbers the ids that are not ignored from 0."""
    evaluated = [raw for raw in range(num_ids) if raw not in ignored]
    return LabelMap({**dict.fromkeys(ignored, IGNORE), **{raw: train for train, raw in enumerate(evaluated)}})


def _edition(version: str, classes: str) -> Edition:
    masks = {
        split: (f"{folder}/{version}/labels/*.png", *([f"{folder}/labels/*.png"] if version == "v1.2" else []))
        for split, folder in _FOLDERS.items()
        if split != "test"
    }
    ignored = NOT_EVALUATED[version]
    return Edition(
        layout=Layout(
            dataset="MapillaryVistas",
            source=f"get the package from {SITE} (after registration)",
            tree=TREE,
            splits={
                split: SplitFiles(images=(f"{folder}/images/*.jpg",), masks=masks.get(split, ()))
                for split, folder in _FOLDERS.items()
            },
            examples={
                "train": ("00qclUcInksIYnm19b1Xfw", "_1Gn_xkw7sa_i9GU4mkxxQ"),
                "val": ("__CRyFzoDOXn6unQ6a3DnQ",),
                "test": ("0ND0o6gHsAG6P-B6qzfGHQ",),
            },
            aliases={folder: split for split, folder in _FOLDERS.items()},
            prefixes=("", "mapillary-vistas-dataset_public_v2.0", "mapillary-vistas-dataset_public_v1.1"),
        ),
        classes=classes,
        label_map=_label_map(resolve_metadata(classes).num_classes + len(ignored), ignored),
    )


class MapillaryVistas(OfficialDataset):
    """Mapillary's street scenes with 116 classes (v2.0) or 65 (v1.2); ids that are not evaluated become 255.

    The metadata of v1.2 are the label set `MapillaryVistas_v1.2`. Networks of one version do not fit the other.

    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        version: version of the annotations, `"v2.0"` or `"v1.2"`.

    Raises:
        CorruptFileError: if the config exists and is damaged.
    """

    editions: ClassVar[Mapping[str, Edition]] = {
        "v2.0": _edition("v2.0", "MapillaryVistas"),
        "v1.2": _edition("v1.2", "MapillaryVistas_v1.2"),
    }
    edition = editions["v2.0"]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        version: str = "v2.0",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice("version", version, tuple(self.editions))
        self.edition = self.editions[version]
        if not download:  # there is no download: the base class raises before it looks at the folder
            found = (self.edition.layout.locate(root, name) for name in CONFIGS[version])
            config = next((path for path in found if path is not None), None)
            if config is not None:
                self.edition = _configured(self.edition, config)
        super().__init__(
            root,
            split,
            transforms,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )


def _configured(edition: Edition, path: Path) -> Edition:
    """Returns the edition with the classes of a config; warns if they differ from the known ones.

    Raises:
        CorruptFileError: if the config is damaged.
    """
    known, labels = resolve_metadata(edition.classes), _read_labels(path)
    evaluated = [label for label in labels if label["evaluate"]]
    ignored = [raw for raw, label in enumerate(labels) if not label["evaluate"]]
    try:
        metadata = replace(
            known,
            labels=tuple(label["readable"] for label in evaluated),
            colors=tuple(label["color"] for label in evaluated),
        )
    except InvalidArgumentError as error:
        raise CorruptFileError(f"the evaluated labels of {path} are damaged: {error}; {_RESTORE}") from error
    label_map = _label_map(len(labels), ignored)
    ours, theirs = _meanings(known, edition.label_map), _meanings(metadata, label_map)
    differences = [
        f"id {raw} is {theirs.get(raw, 'missing')} instead of {ours.get(raw, 'missing')}"
        for raw in sorted(ours.keys() | theirs.keys())
        if ours.get(raw) != theirs.get(raw)
    ]
    if not differences:
        return edition
    warnings.warn(
        f"{path} is not the known config of {known.name}: {first_few(differences)}; its classes are used",
        stacklevel=3,
    )
    if metadata.labels != known.labels:
        metadata = replace(metadata, name=f"{known.name}_config")  # other classes are another label set
    return replace(edition, classes=metadata, label_map=label_map)


def _read_labels(path: Path) -> list[dict[str, Any]]:
    """Returns the labels of a config in the order of their ids, each with `_KEYS`."""
    try:
        config = read_json(path)
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error.strerror or error}; {_RESTORE}") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; or {_RESTORE}") from error
    labels = config.get("labels") if isinstance(config, dict) else None
    if not isinstance(labels, list) or not labels:
        raise CorruptFileError(f"{path} has no list 'labels' of at least one label; {_RESTORE}")
    for raw, label in enumerate(labels):
        absent = [key for key in _KEYS if not isinstance(label, dict) or key not in label]
        if absent:
            raise CorruptFileError(f"label {raw} of {path} lacks {', '.join(map(repr, absent))}; {_RESTORE}")
        if not isinstance(label["evaluate"], bool):
            raise CorruptFileError(
                f"label {raw} of {path}: 'evaluate' must be true or false, got {label['evaluate']!r}; {_RESTORE}"
            )
    return labels


def _meanings(metadata: DatasetMetadata, label_map: LabelMap) -> dict[int, str]:
    """Returns raw id -> class name and color, for messages."""
    return {
        raw: f"{metadata.labels[train]!r} (rgb {','.join(map(str, metadata.colors[train]))})"
        if isinstance(train, int)
        else "not evaluated"
        for raw, train in label_map.mapping.items()
    }
