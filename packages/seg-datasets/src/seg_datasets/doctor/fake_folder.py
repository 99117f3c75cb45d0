"""A fake of a folder of one's own, as `FolderDataset` reads it."""

from pathlib import Path

from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.reading.base import Edition
from seg_datasets.reading.channel_text import channel_lines
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["FOLDER", "write_classes"]

_IGNORED = 255
_EXAMPLES = {
    "train": ("photo_000012", "photo_000345", "photo_000790"),
    "val": ("photo_000101", "photo_000876"),
    "test": ("photo_000533",),
}

FOLDER = Edition(
    layout=Layout(
        dataset="FolderDataset",
        source="put your own images and masks there",
        tree="train/images/, train/masks/, val/, test/, classes.toml",
        splits={split: SplitFiles((f"{split}/images/*.png",), (f"{split}/masks/*.png",)) for split in _EXAMPLES},
        examples=_EXAMPLES,
    ),
    classes=DatasetMetadata(
        "custom",
        ("sky", "building", "road", "plant", "car"),
        ((70, 130, 180), (220, 20, 60), (128, 64, 128), (107, 142, 35), (0, 0, 142)),
    ),
    label_map=LabelMap.identity(5, _IGNORED),
)
"""A folder per split with five classes, whose masks are palette images."""


def write_classes(folder: Path, edition: Edition, count: int | None = None) -> Path:
    """Writes `classes.toml` with the first `count` classes, None for all, and returns its path.

    Channels stand in it if they are not red, green and blue of 8 bits, and the task if it is not multiclass.
    """
    metadata = resolve_metadata(edition.classes)
    labels = ", ".join(f'"{label}"' for label in metadata.labels[:count])
    colors = ", ".join(str(list(color)) for color in metadata.colors[:count])
    path = folder / "classes.toml"
    channels = "" if metadata.channels == RGB_CHANNELS else f"\n[channels]\n{channel_lines(metadata.channels)}\n"
    task = "" if metadata.task == MULTICLASS else f'task = "{metadata.task}"\n'
    path.write_text(f"labels = [{labels}]\ncolors = [{colors}]\n{task}{channels}", encoding="utf-8")
    return path
