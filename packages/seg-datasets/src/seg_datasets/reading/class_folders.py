"""Finds masks with a folder per class: folders beside each other that hold files with the names of the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seg_core.errors import UserError
from seg_datasets.reading.file_table import FileTable, matched
from seg_datasets.reading.folder_layouts import FolderLayout, split_name
from seg_datasets.reading.pairs import MASK_SUFFIXES, files_by_stem, first_few
from seg_datasets.reading.text import same_name

__all__ = ["ClassFolders", "find_class_folders"]

_FEWEST = 2  # folders, where nothing says which classes there are
_MOST = 200


@dataclass(frozen=True)
class ClassFolders:
    """Masks with a folder per class.

    Attributes:
        images, masks: options of `FolderDataset`; `masks` holds `{class}`.
        labels: the names of the folders, sorted.
    """

    images: str
    masks: str
    labels: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What the folders are, and how they are read."""
        return (
            f"The folders {first_few(self.labels)} hold masks of the same names, as of a folder per class: classes "
            f'that may overlap are read with task = "multilabel" beside labels = [{_quoted(self.labels)}], and '
            f"images = '{self.images}', masks = '{self.masks}'"
        )


def _quoted(labels: Sequence[str]) -> str:
    return ", ".join(f'"{label}"' for label in labels)


def find_class_folders(
    root: Path, layout: FolderLayout, images: FileTable, labels: Sequence[str] = ()
) -> ClassFolders | None:
    """Returns the folders per class below that of the masks, or None.

    Each must hold masks of images of one split by the same names, and all images must have one of them.

    Args:
        root: the folder.
        layout: where images and masks are otherwise.
        images: the images of train, or of all splits.
        labels: the classes, if they are known; then folders of other names do not count.
    """
    if not images or "*" in layout.masks or "{class}" in layout.masks or layout.mask_suffix:
        return None
    if not layout.has_split_folders:
        of_splits = replace(layout, images=f"{layout.images}/{{split}}")
        own_images = of_splits.files(root, "train", first=True).images
        if own_images and (found := find_class_folders(root, of_splits, own_images, labels)) is not None:
            return found
    split = split_name(root, layout, "train") if layout.has_split_folders else ""
    patterns = [f"{layout.masks}/{{class}}"]
    if layout.masks.endswith("/{split}"):
        patterns.append(layout.masks.replace("{split}", "{class}/{split}"))
    elif "{split}" in layout.images and "{split}" not in layout.masks:
        patterns = [f"{layout.masks}/{{class}}/{{split}}", f"{layout.masks}/{{split}}/{{class}}"]
    for pattern in patterns:
        filled = pattern.replace("{split}", split)
        above, _, below = filled.partition("/{class}")
        names = _folders(root / above)
        masks = {name: _masks_in(root / above / f"{name}{below}") for name in names[:_MOST]}
        own = {name: matched(images, table)[0] for name, table in masks.items() if table}
        own = {name: rows for name, rows in own.items() if rows.any() and 2 * rows.sum() >= len(masks[name])}
        if labels:
            wanted = {same_name(label).casefold() for label in labels}
            own = {name: rows for name, rows in own.items() if same_name(name).casefold() in wanted}
        if len(own) >= min(_FEWEST, len(labels) or _FEWEST) and sum(own.values()).all():  # type: ignore[union-attr]
            return ClassFolders(layout.images, pattern, tuple(sorted(own)))
    return None


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _masks_in(folder: Path) -> FileTable:
    try:
        return files_by_stem(folder, MASK_SUFFIXES, first=True) if folder.is_dir() else FileTable()
    except UserError:
        return FileTable()
