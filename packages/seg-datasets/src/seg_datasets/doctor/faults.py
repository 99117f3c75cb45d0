"""Plants faults in a tree of a dataset, to try the doctor and one's own checks on."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from seg_core.errors import InvalidArgumentError, UserError, nearest
from seg_core.files.atomic import write_error
from seg_core.registry import DATASETS
from seg_datasets.doctor import fault_files, fault_images, fault_masks, fault_splits
from seg_datasets.doctor.kinds import KINDS
from seg_datasets.doctor.tree import FREE, Form, Tree, find_edition, find_tree

__all__ = ["FAULTS", "Fault", "Planted", "check_faults", "images_needed", "plant", "plant_all", "table", "why_not"]


@dataclass(frozen=True)
class Fault:
    """How a kind of fault is planted.

    Attributes:
        plant: changes the tree, and returns what it did.
        pairs: number of pairs of train that it takes for itself.
        images: number of images per split that it needs, if more than one beside its own.
        order: faults are planted in this order; those that change all files come before those that take some.
        all_masks: whether it changes the ids of all masks, so that it excludes other such faults.
    """

    plant: Callable[[Tree], str]
    pairs: int = 1
    images: int = 0
    order: int = 2
    all_masks: bool = False


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "missing-mask": Fault(fault_files.missing_mask),
        "missing-image": Fault(fault_files.missing_image),
        "empty-file": Fault(fault_files.empty_file, pairs=2),
        "unreadable-image": Fault(fault_files.unreadable_image),
        "unreadable-mask": Fault(fault_files.unreadable_mask),
        "name-collision": Fault(fault_files.name_collision),
        "size-mismatch": Fault(fault_masks.size_mismatch),
        "orientation": Fault(fault_images.orientation, pairs=2),
        "rgb-mask": Fault(fault_masks.rgb_mask),
        "color-mask": Fault(fault_masks.color_mask, order=3),
        "float-mask": Fault(fault_masks.float_mask),
        "binary-0-255": Fault(fault_masks.binary, pairs=0, order=1, all_masks=True),
        "off-by-one": Fault(fault_masks.off_by_one, pairs=0, order=1, all_masks=True),
        "id-out-of-range": Fault(fault_masks.id_out_of_range),
        "wrong-bit-depth": Fault(fault_images.wrong_bit_depth, pairs=2),
        "jpeg-mask": Fault(fault_masks.jpeg_mask),
        "duplicate-across-splits": Fault(fault_splits.duplicate),
        "all-ignored": Fault(fault_masks.all_ignored),
        "expanded-palette": Fault(fault_masks.expanded_palette),
        "permuted-palette": Fault(fault_masks.permuted_palette),
        "class-absent": Fault(fault_masks.class_absent, pairs=0, order=1, all_masks=True),
        "antialiased-mask": Fault(fault_masks.antialiased_mask),
        "mixed-channels": Fault(fault_images.mixed_channels),
        "alpha": Fault(fault_images.alpha),
        "near-duplicate-across-splits": Fault(fault_splits.near_duplicate),
        "frames-across-splits": Fault(fault_splits.frames, pairs=0, images=4, order=0),
        "size-outlier": Fault(fault_images.size_outlier, images=6),
    }
)
"""Kind -> how it is planted; the kinds are those of `seg_datasets.doctor.kinds.KINDS`."""


@dataclass(frozen=True)
class Planted:
    """A fault that was planted.

    Attributes:
        kind: name in `KINDS`.
        files: the files that were changed, added or removed, relative to the root, sorted.
        detail: what was done.
        root: folder of the dataset.
        before: file -> content before, None for one that was not there.
    """

    kind: str
    files: Sequence[str]
    detail: str
    root: Path
    before: Mapping[str, bytes | None] = field(repr=False)

    def undo(self) -> None:
        """Restores the files as they were; of several faults the last must be undone first.

        Raises:
            WriteError: if a file cannot be written.
        """
        for name, content in self.before.items():
            try:
                _restore(self.root / name, content)
            except OSError as error:
                raise write_error(f"restore {name}", error) from error


def plant(folder: str | os.PathLike[str], kind: str, name: str = FREE, edition: str | None = None) -> Planted:
    """Plants a fault in the tree of a dataset.

    Args:
        folder: the root of the dataset. Its files are changed: plant faults in fake trees and copies only.
        kind: name in `KINDS`.
        name: name of the dataset; `FolderDataset` for the tree that `fake` writes for it.
        edition: its version, None for the first.

    Raises:
        InvalidArgumentError: if there is no such kind, the dataset's files cannot have it, or there are too few files.
        UnknownNameError: if there is no such dataset.
        DatasetNotFoundError: if the folder does not hold this dataset, or already has a fault that hides its files.
        WriteError: as `plant_all`.
    """
    chosen = find_edition(name, edition)
    _check_kinds((kind,))
    tree = find_tree(name, folder, chosen)
    check_faults((kind,), tree.form)
    return plant_all(tree, (kind,))[0]


def plant_all(tree: Tree, kinds: Sequence[str]) -> list[Planted]:
    """Plants several faults, each in files of its own where it does not change all; see `check_faults`.

    Raises:
        WriteError: if a file cannot be written; what this fault has changed is restored, as far as the disk lets it.
    """
    done = []
    for kind in sorted(dict.fromkeys(kinds), key=lambda kind: FAULTS[kind].order):
        tree.before = {}
        try:
            detail = FAULTS[kind].plant(tree)
        except OSError as error:
            for path, content in reversed(tree.before.items()):
                with contextlib.suppress(OSError):
                    _restore(path, content)
            if isinstance(error, UserError):
                raise
            raise write_error(f"plant {kind} in {tree.root}", error) from error
        before = {path.relative_to(tree.root).as_posix(): content for path, content in tree.before.items()}
        done.append(Planted(kind, tuple(sorted(before)), detail, tree.root, before))
    return done


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def images_needed(kinds: Sequence[str]) -> int:
    """Returns the number of images per split that some faults need, with one without a fault."""
    chosen = [FAULTS[kind] for kind in dict.fromkeys(kinds)]
    return max([1 + sum(fault.pairs for fault in chosen), *(fault.images + fault.pairs for fault in chosen)])


def check_faults(kinds: Sequence[str], form: Form) -> None:
    """Checks that faults can be planted in a dataset, and together.

    Raises:
        InvalidArgumentError: if not; the message says why, and for what datasets the fault can be planted.
    """
    _check_kinds(kinds)
    for kind in kinds:
        if reason := why_not(kind, form):
            others = [name for name in _names() if not why_not(kind, _usual(name))]
            raise InvalidArgumentError(
                f"{form.name} cannot have the fault {kind}: {reason}. Datasets that can: {', '.join(others)}"
            )
    of_all = [
        kind
        for kind in dict.fromkeys(kinds)
        if FAULTS[kind].all_masks or (kind == "color-mask" and form.stored == "palette")
    ]
    if len(of_all) > 1:
        raise InvalidArgumentError(
            f"the faults {' and '.join(of_all)} exclude each other, as each changes all masks; write a folder for each"
        )


def why_not(kind: str, form: Form) -> str:
    """Returns why the files of a dataset cannot have a fault, or ""."""
    stored = form.stored
    if kind in ("rgb-mask", "color-mask", "binary-0-255", "off-by-one", "id-out-of-range"):
        if stored == "colors":
            return "its masks hold colors, not ids"
        if stored == "mat" and (kind in ("rgb-mask", "color-mask") or form.name == "PascalContext"):
            return "its masks are label maps in .mat files, which hold neither channels nor ids of its classes"
    if kind in ("expanded-palette", "permuted-palette") and stored != "palette":
        return "its masks have no palette"
    if kind == "all-ignored" and form.ignored is None:
        return "its masks hold no ignored pixels"
    if kind == "antialiased-mask" and stored != "colors" and len(form.run) < 3:
        return "there are no classes between two of its classes"
    if kind == "jpeg-mask" and stored == "mat":
        return "its masks are .mat files"
    if kind == "float-mask" and form.name != FREE and form.mask_suffix not in (".tif", ".tiff"):
        return f"its masks are {form.mask_suffix} files, which are read as integers"
    if (
        kind == "wrong-bit-depth"
        and form.image_suffix not in fault_images.LOSSLESS
        and stored not in ("ids", "palette")
    ):
        return f"neither its images ({form.image_suffix}) nor its masks ({form.mask_suffix}) hold 16 bits"
    if kind == "alpha" and form.image_suffix not in fault_images.LOSSLESS:
        return f"its images are {form.image_suffix} files, which hold no transparency"
    if kind == "frames-across-splits" and form.name not in fault_splits.SEQUENCES:
        return "its names do not number the frames of sequences"
    return ""


def table() -> str:
    """Returns the kinds of faults as a Markdown table: name, meaning, and the datasets that cannot have it."""
    lines = ["| kind | what it is | not in |", "|---|---|---|"]
    for kind, known in KINDS.items():
        without = [name for name in _names() if why_not(kind, _usual(name))]
        able = [name for name in _names() if name not in without]
        named = ", ".join(without) if len(without) <= len(able) else f"all but {', '.join(able)}"
        lines.append(f"| `{kind}` | {known.meaning} | {named} |")
    return "\n".join(lines) + "\n"


def _check_kinds(kinds: Sequence[str]) -> None:
    if isinstance(kinds, str):
        raise InvalidArgumentError(f"faults must be a sequence of kinds, such as ({kinds!r},), got {kinds!r}")
    for kind in kinds:
        if kind not in FAULTS:
            hint = nearest(kind, FAULTS) if isinstance(kind, str) else ""
            raise InvalidArgumentError(f"there is no fault {kind!r}.{hint} Allowed: {', '.join(FAULTS)}")


def _names() -> list[str]:
    """Returns the datasets of this package that have a layout on disk."""
    from seg_datasets.catalog import DATASETS as KNOWN

    return [name for name, entry in KNOWN.items() if entry.needs_root and DATASETS.entry(name) == entry]


def _usual(name: str) -> Form:
    """Returns the form of the first edition in its official layout."""
    edition = find_edition(name, None)
    train = edition.layout.splits["train"]
    return Form(name, edition, train.images[0], train.masks[0])
