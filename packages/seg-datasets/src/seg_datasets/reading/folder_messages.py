"""Messages about the files of a split that were not found, with what to do."""

from dataclasses import replace
from pathlib import Path

from seg_core.errors import UserError
from seg_datasets.reading.advice import conversion_advice
from seg_datasets.reading.differences import Hint, find_hint, try_layout
from seg_datasets.reading.folder_layouts import MASK_FOLDERS, Files, FolderLayout, has_files, split_name
from seg_datasets.reading.guesses import search_folders
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES
from seg_datasets.reading.roles import split_template
from seg_datasets.reading.splits import SPLITS

__all__ = ["files_not_found", "options_of_split", "unlike_train"]


def files_not_found(root: Path, layout: FolderLayout, split: str, files: Files) -> str:
    """Returns the message that a split has no images or no masks."""
    kinds = f"images ({_kinds(IMAGE_SUFFIXES)}) and masks ({_kinds(MASK_SUFFIXES)}; lossy formats destroy ids)"
    message = f"FolderDataset {split}: found {files.looked_in}. Expected "
    if layout.images not in ("images", "{split}/images"):
        message += f"files that match images={layout.images!r} and masks={layout.masks!r} in {root}, "
    else:
        message += f"{root}/{split}/images and {root}/{split}/masks, or {root}/images and {root}/masks, with "
    message += f"{kinds} with the same names"
    if files.images and layout.mask_suffix:
        plain = replace(layout, mask_suffix="")
        every = plain.files(root, split)
        if every.masks:
            message = (
                f"FolderDataset {split}: no mask has a name that ends in mask_suffix={layout.mask_suffix!r}; found "
                f"{every.looked_in}"
            )
            hint = find_hint(root, plain, split, every) or try_layout(root, plain, split)
            return message if hint is None or not hint.pairs else f"{message}. {hint.sentence(layout)}"
    if told := _val_advice(root, layout, split, files):
        return f"{message}. {told}"
    if told := _swapped(root, layout, split, files):
        return f"{message}. {told}"
    hint, advice = search_folders(root)
    if hint is not None and hint.layout == layout:
        others = [other for other in SPLITS if other != split and layout.files(root, other).images]
        return f"{message}. There is no {split} split; there is {' and '.join(others)}" if others else message
    if hint is not None:
        return f"{message}. {hint.sentence(layout)}"
    advice = conversion_advice(root) or advice
    return f"{message}. {advice}" if advice else message


def unlike_train(root: Path, layout: FolderLayout, split: str, hint: Hint) -> str:
    """Returns a sentence if an option would pair the files of a split, but no longer those of train; else ""."""
    if split == "train" or not layout.has_split_folders:
        return ""
    now, then = (try_layout(root, one, "train") for one in (layout, hint.layout))
    if now is None or not now.is_complete or (then is not None and then.is_complete):
        return ""
    files = hint.layout.files(root, split)
    key = next(key for key in files.images if key in files.masks)
    name = Path(key).name + files.masks[key].suffix
    return (
        f"The names of {split} differ from those of train, which pair as they are, so no option fits both: rename the "
        f"masks of {split} like the images, as {files.masks[key].name} to {name}"
    )


def options_of_split(root: Path, layout: FolderLayout, split: str) -> str:
    """Returns how to read a split that the patterns of train leave out, or "" if it has no files."""
    (images, of, _), (masks, *_) = split_template(layout.images), split_template(layout.masks)
    if layout.has_split_folders or of != "train":
        return ""
    try:
        other = replace(layout, images=images, masks=masks)
        count = len(other.files(root, split).images)
    except UserError:
        return ""
    place = images.replace("{split}", split_name(root, other, split))
    return f"to read the {count} images of {split} in {place}, set images={images!r}, masks={masks!r}" if count else ""


def _val_advice(root: Path, layout: FolderLayout, split: str, files: Files) -> str:
    """Returns what to do if train has files and val has none, or no masks; else ""."""
    if split != "val" or not layout.has_split_folders or layout.split_file is not None:
        return ""
    trained = layout.files(root, "train")
    if not trained.images or not trained.masks:
        return ""
    name = split_name(root, layout, "train")
    images, masks = (pattern.replace("{split}", name) for pattern in (layout.images, layout.masks))
    again = f"To split the files of train into train and val, set images={images!r}, masks={masks!r}"
    if not files.images:
        return again
    own = split_name(root, layout, "val")
    place = layout.masks.replace("{split}", own)
    if "*" not in place:
        for other in MASK_FOLDERS:
            folder = (root / place).parent / other
            if folder.is_dir() and folder != root / place and has_files(folder, MASK_SUFFIXES):
                wanted = Path(place).name
                return f"The masks of val are in {folder}, those of train in {masks}: rename it to {wanted}. {again}"
    return f"val has {len(files.images)} images and no masks: add them as {place}. {again}; then val is not read"


def _swapped(root: Path, layout: FolderLayout, split: str, files: Files) -> str:
    """Returns what to do if images and masks are swapped: only the other way round they pair; else ""."""
    other = replace(layout, images=layout.masks, masks=layout.images)
    hint = None if files.images and files.masks else try_layout(root, other, split)
    return f"The folders of images and masks seem to be swapped. {hint.sentence(layout)}" if hint and hint.pairs else ""


def _kinds(suffixes: tuple[str, ...]) -> str:
    return " ".join(suffix[1:] for suffix in suffixes)
