"""Faults of files: missing, empty, damaged, or two of one name."""

from pathlib import Path

from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.files.image_writing import save_image
from seg_datasets.doctor.tree import FREE, Tree, mask_of

__all__ = ["empty_file", "missing_image", "missing_mask", "name_collision", "unreadable_image", "unreadable_mask"]


def missing_mask(tree: Tree) -> str:
    """Removes a mask."""
    mask = mask_of(tree.take())
    tree.remove(mask)
    return f"removed the mask {mask.name}"


def missing_image(tree: Tree) -> str:
    """Removes an image."""
    image = tree.take().image
    tree.remove(image)
    return f"removed the image {image.name}"


def empty_file(tree: Tree) -> str:
    """Empties an image, and a mask of another pair."""
    image, mask = tree.take().image, mask_of(tree.take())
    tree.put(image, b"")
    tree.put(mask, b"")
    return f"emptied the image {image.name} and the mask {mask.name}"


def unreadable_image(tree: Tree) -> str:
    """Cuts an image in half, as an interrupted copy does."""
    return f"cut the image {_cut(tree, tree.take().image)} in half"


def unreadable_mask(tree: Tree) -> str:
    """Cuts a mask in half, as an interrupted copy does."""
    return f"cut the mask {_cut(tree, mask_of(tree.take()))} in half"


def name_collision(tree: Tree) -> str:
    """Adds a second image of a name: with another suffix, or where the suffix is fixed, with this in capitals."""
    image = tree.take().image
    second = image.with_suffix(".jpg" if tree.name == FREE else image.suffix.swapcase())
    if second.exists():
        raise InvalidArgumentError(
            f"name-collision cannot be planted: {second} is there already, or the file system does not tell upper and "
            "lower case apart; choose a folder on another one, or FolderDataset, whose suffixes differ"
        )
    tree.touch(second)
    if tree.name == FREE:
        with Image.open(image) as opened:
            save_image(second, opened.convert("RGB"), quality=95)
    else:
        tree.put(second, image.read_bytes())
    return f"added the image {second.name} beside {image.name}"


def _cut(tree: Tree, path: Path) -> str:
    content = path.read_bytes()
    tree.put(path, content[: len(content) // 2])
    return path.name
