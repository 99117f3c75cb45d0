"""A fake of the config that comes with Mapillary Vistas."""

import json
from pathlib import Path
from typing import Any

from seg_core.labels.metadata import resolve_metadata
from seg_datasets.official.mapillary_vistas import CONFIGS, NOT_EVALUATED, MapillaryVistas
from seg_datasets.reading.base import Edition

__all__ = ["write_config"]


def write_config(folder: Path, edition: Edition) -> None:
    """Writes the config of a version into `folder`.

    It has all raw ids and all keys of the official one. `name` repeats the readable name and `instances` is always
    false; both are never read.
    """
    version = next(name for name, known in MapillaryVistas.editions.items() if known.classes == edition.classes)
    metadata = resolve_metadata(edition.classes)
    labels: list[dict[str, Any]] = []
    for raw, train in sorted(edition.label_map.mapping.items(), key=lambda item: item[0]):
        evaluate = isinstance(train, int)
        readable = metadata.labels[train] if isinstance(train, int) else NOT_EVALUATED[version][raw]
        color = metadata.colors[train] if isinstance(train, int) else metadata.ignore_color
        labels.append(
            {
                "name": readable,
                "readable": readable,
                "instances": False,
                "evaluate": evaluate,
                "color": list(color),
            }
        )
    (folder / CONFIGS[version][0]).write_text(json.dumps({"labels": labels}, indent=2) + "\n", encoding="utf-8")
