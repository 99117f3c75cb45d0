"""Faults of masks: other ids, other sizes, other formats."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.files.image_writing import save_image
from seg_core.labels.label_map import IGNORE
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake_folder import write_classes
from seg_datasets.doctor.fake_masks import palette_of
from seg_datasets.doctor.tree import FREE, Form, Tree, mask_of
from seg_datasets.reading.color_masks import ColorReader

__all__ = [
    "all_ignored",
    "antialiased_mask",
    "binary",
    "class_absent",
    "color_mask",
    "expanded_palette",
    "float_mask",
    "foreign_id",
    "id_out_of_range",
    "jpeg_mask",
    "off_by_one",
    "permuted_palette",
    "rgb_mask",
    "scale_to_16_bits",
    "size_mismatch",
]

_NO_CLASS = 255  # programs that shift or stretch ids leave it as it is
_FOREIGN = 200  # an id of no dataset
_JPEG_QUALITY = 75
_ENLARGED = 4  # so that values in steps of a fourth lie on the edges


# ---- ids -------------------------------------------------------------------------------------------------------------


def off_by_one(tree: Tree) -> str:
    """Adds one to all ids but 255, in all masks."""
    masks = tree.masks()
    for mask in masks:
        ids = tree.read_ids(mask).astype(np.int64)
        tree.write_ids(mask, np.where(ids == _NO_CLASS, ids, ids + 1))
    return f"added one to the ids of all {len(masks)} masks, except 255"


def binary(tree: Tree) -> str:
    """Stores all masks as 0 and 255: where there are several classes, the first against the others."""
    masks = tree.masks()
    classes = [raw for raw, train in tree.edition.label_map.mapping.items() if train is not IGNORE]
    for mask in masks:
        ids = tree.read_ids(mask)
        stretched = np.where(np.isin(ids, classes[len(classes) // 2 :]), 255, 0).astype(np.uint8)
        if tree.form.stored == "mat":
            tree.write_ids(mask, stretched)
        else:
            _save(tree, mask, Image.fromarray(stretched))
    if tree.name == FREE:
        tree.touch(tree.root / "classes.toml")
        write_classes(tree.root, tree.edition, 2)
        return f"stored all {len(masks)} masks as 0 and 255, and left two classes in classes.toml"
    return f"stored all {len(masks)} masks as 0 and 255"


def class_absent(tree: Tree) -> str:
    """Replaces the last class by the first, in all masks of train."""
    mapping = tree.edition.label_map.mapping
    metadata = resolve_metadata(tree.edition.classes)
    last = metadata.num_classes - 1
    absent = [raw for raw, train in mapping.items() if train == last]
    first = min(raw for raw, train in mapping.items() if train == 0)
    masks = tree.masks("train")
    for mask in masks:
        ids = tree.read_ids(mask)
        tree.write_ids(mask, np.where(np.isin(ids, absent), first, ids))
    return f"replaced the class {metadata.labels[last]!r} by {metadata.labels[0]!r} in the {len(masks)} masks of train"


def id_out_of_range(tree: Tree) -> str:
    """Gives a few pixels an id that is neither a class nor ignored."""
    mask = mask_of(tree.take())
    ids = np.array(tree.read_ids(mask))
    height, width = ids.shape
    top, left = height // 4, width // 4
    value = foreign_id(tree.form)
    ids[top : top + 3, left : left + 4] = value
    count = int((ids == value).sum())
    tree.write_ids(mask, ids)
    return f"gave {count} pixels of {mask.name} the id {value}, from row {top}, column {left}"


def foreign_id(form: Form) -> int:
    """Returns an id of 8 bits that is neither a class nor ignored."""
    known = form.edition.label_map.mapping
    return next(raw for raw in (_FOREIGN, *range(254, 0, -1)) if raw not in known)


def all_ignored(tree: Tree) -> str:
    """Gives all pixels of a mask the ignored id."""
    mask, value = mask_of(tree.take()), tree.form.ignored
    assert value is not None
    tree.write_ids(mask, np.full_like(tree.read_ids(mask), value))
    return f"gave all pixels of {mask.name} the ignored id {value}"


def antialiased_mask(tree: Tree) -> str:
    """Replaces a mask by a large area of a class on another with smoothed edges, as a bilinear resize leaves them.

    In masks of ids all values on the edges are classes too, which is what makes the fault hard to see.
    """
    mask = mask_of(tree.take())
    height, width = tree.read_ids(mask).shape
    small = np.zeros((max(height // _ENLARGED, 1), max(width // _ENLARGED, 1)), bool)
    rows, columns = small.shape
    small[rows // 4 : rows // 4 + (rows + 1) // 2, columns // 4 : columns // 4 + (columns + 1) // 2] = True
    if tree.form.stored == "colors":
        reader = tree.edition.mask_reader
        assert isinstance(reader, ColorReader)
        colors = [reader.colors[raw] for raw in tree.form.run[:2]]
        table = np.array(colors, np.uint8)
        smooth = Image.fromarray(table[small.astype(np.uint8)]).resize((width, height), Image.Resampling.BILINEAR)
        _save(tree, mask, smooth)
    else:
        low, high = _ends(tree)
        values = np.where(small, high, low).astype(np.uint8)
        smooth = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
        tree.write_ids(mask, np.asarray(smooth))
    return f"drew {mask.name} with smoothed edges"


def _ends(tree: Tree) -> tuple[int, int]:
    """Returns two classes with only classes between them, both of which are in the masks, if they are in one."""
    run = tree.form.run
    sound = next((mask for mask in tree.masks("train") if mask not in tree.taken), None)
    ids = run if sound is None else np.unique(tree.read_ids(sound)).tolist()
    present = [raw for raw in run if raw in ids]
    return (present[0], present[-1]) if len(present) > 2 else (run[0], run[-1])


# ---- formats ---------------------------------------------------------------------------------------------------------


def size_mismatch(tree: Tree) -> str:
    """Scales a mask to twice the size by nearest neighbor."""
    mask = mask_of(tree.take())
    tree.write_ids(mask, tree.read_ids(mask).repeat(2, axis=0).repeat(2, axis=1))
    return f"scaled the mask {mask.name} to twice the size of its image"


def rgb_mask(tree: Tree) -> str:
    """Stores the ids of a mask in three equal channels."""
    mask = mask_of(tree.take())
    ids = tree.read_ids(mask).astype(np.uint8)
    _save(tree, mask, Image.fromarray(np.stack([ids] * 3, axis=-1)))
    return f"stored the ids of {mask.name} in three equal channels"


def color_mask(tree: Tree) -> str:
    """Stores a mask in the colors of the classes; where masks have palettes, all masks, as one alone was expanded."""
    metadata = resolve_metadata(tree.edition.classes)
    table = np.full((256, 3), metadata.ignore_color, np.uint8)
    for raw, train in tree.edition.label_map.mapping.items():
        if isinstance(train, int):
            table[raw] = metadata.colors[train]
    if tree.form.stored == "palette":
        masks = [mask for mask in tree.masks() if mask not in tree.taken]
        what = f"all {len(masks)} masks"
    else:
        masks = [mask_of(tree.take())]
        what = f"the mask {masks[0].name}"
    for mask in masks:
        _save(tree, mask, Image.fromarray(table[tree.read_ids(mask)]))
    return f"stored {what} in the colors of the classes"


def expanded_palette(tree: Tree) -> str:
    """Stores a palette mask in the colors of its palette, as editors do that know no palettes."""
    mask = mask_of(tree.take())
    _save(tree, mask, Image.fromarray(palette_of(tree.edition)[tree.read_ids(mask)]))
    return f"stored the palette mask {mask.name} in RGB; the others keep their palette"


def permuted_palette(tree: Tree) -> str:
    """Gives the used colors of a palette mask their indices in reverse; it looks the same as before.

    Optimizers of PNGs leave out indices that are not used too, which makes other ids than those of the dataset.
    """
    mask = mask_of(tree.take())
    ids = tree.read_ids(mask)
    used = np.unique(ids)
    order = np.zeros(256, np.uint8)
    order[used] = used[::-1]
    palette = palette_of(tree.edition)
    palette[used[::-1]] = palette[used]
    image = Image.fromarray(order[ids]).convert("P")
    image.putpalette(palette.tobytes())
    _save(tree, mask, image)
    return f"reordered the palette of {mask.name}, and its indices with it"


def jpeg_mask(tree: Tree) -> str:
    """Stores a mask as JPEG; where the suffix is fixed, under the same name.

    JPEG has blocks of 8 pixels, and keeps areas that happen to begin and end with these: so the areas are moved first.
    """
    mask = mask_of(tree.take())
    if tree.form.stored == "colors":
        with Image.open(mask) as opened:
            values = np.array(opened.convert("RGB"))
    else:
        values = tree.read_ids(mask).astype(np.uint8)
    image = Image.fromarray(np.roll(values, (3, 3), axis=(0, 1)))
    target = _renamed(tree, mask, ".jpg")
    content = BytesIO()
    image.save(content, "JPEG", quality=_JPEG_QUALITY)
    tree.put(target, content.getvalue())
    return f"stored the mask {mask.name} as JPEG" + ("" if target == mask else f", {target.name}")


def float_mask(tree: Tree) -> str:
    """Stores the ids of a mask as floating-point numbers of 32 bits in a TIFF."""
    mask = mask_of(tree.take())
    image = Image.fromarray(tree.read_ids(mask).astype(np.float32))
    target = _renamed(tree, mask, ".tif")
    content = BytesIO()
    image.save(content, "TIFF")
    tree.put(target, content.getvalue())
    return f"stored the ids of {mask.name} as 32-bit floats in {target.name}"


def scale_to_16_bits(tree: Tree, mask: Path) -> None:
    """Stores a mask in 16 bits, with ids times 257, as programs do that convert photos."""
    values: npt.NDArray[np.uint16] = tree.read_ids(mask).astype(np.uint16) * np.uint16(257)
    _save(tree, mask, Image.fromarray(values))


def _renamed(tree: Tree, mask: Path, suffix: str) -> Path:
    """Returns the name of a mask in another format, and removes the mask if that is another file."""
    if tree.name != FREE:
        return mask
    tree.remove(mask)
    return mask.with_suffix(suffix)


def _save(tree: Tree, mask: Path, image: Image.Image) -> None:
    tree.touch(mask)
    save_image(mask, image)
