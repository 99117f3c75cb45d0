"""Looks at a folder of one's own data: which options of `FolderDataset` fit, what it holds, and what is odd."""

import inspect
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, UserError, id_ranges, nearest
from seg_core.files.images import read_header
from seg_core.files.scan import MaskSummary, OnProgress, scan_masks
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.palette import default_palette
from seg_core.labels.raw_ids import suggest_label_map
from seg_datasets.reading.class_files import check_has_colors, resolve_classes
from seg_datasets.reading.folder_search import FolderSearch
from seg_datasets.reading.mask_kinds import MOST_COLOR_MASKS, MOST_COLORS, colors_of, kind_of, suggested_classes
from seg_datasets.reading.pairs import first_few

__all__ = ["FolderReport", "inspect_folder"]

_MOST_HEADERS = 2000
_MOST_IDS = 300
_NOT_OURS = ("root", "split", "transforms")


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds.

    Attributes:
        root: the folder.
        fits: whether `FolderDataset(root, **options)` reads it.
        options: options of `FolderDataset` that fit; without those that are as by default.
        counts: split -> number of images; splits without files are left out.
        image_suffixes, mask_suffixes: suffix -> number of files in train and val.
        sizes: smallest, median and largest (height, width) of images, each of height and width alone.
        kind: what the masks hold: `"ids"`, `"ids in three equal channels"`, `"palette"`, `"0 and 255"`, `"1 bit"` or
            `"colors"`; "" if they were not read.
        ids: id in the masks -> its share of all pixels; of masks in colors the ids of the classes.
        metadata: the classes: given, from a file in the root, or suggested; None if they are not known.
        suggested: whether names or colors of `metadata` are a suggestion.
        oddities: sentences about what is odd.
    """

    root: Path
    fits: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    image_suffixes: Mapping[str, int] = field(default_factory=dict)
    mask_suffixes: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    kind: str = ""
    ids: Mapping[int, float] = field(default_factory=dict)
    metadata: DatasetMetadata | None = None
    suggested: bool = False
    oddities: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns the report as lines of text."""
        lines = [str(self.root)]
        if self.counts:
            lines.append("  images   " + ", ".join(f"{count} {split}" for split, count in self.counts.items()))
        if self.image_suffixes:
            kinds = (" ".join(sorted(found)) for found in (self.image_suffixes, self.mask_suffixes))
            lines.append("  files    images {}, masks {}".format(*kinds))
        if self.sizes:
            sizes = dict(zip(("smallest", "median", "largest"), self.sizes, strict=True))
            texts = (f"{name} {width}x{height}" for name, (height, width) in sizes.items())
            same = len(set(self.sizes)) == 1
            lines.append(
                f"  sizes    {'all ' if same else ''}" + (next(texts).split()[1] if same else ", ".join(texts))
            )
        if self.kind:
            shares = [f"{raw} ({share:.1%})" for raw, share in self.ids.items()]
            more = f" and {len(shares) - 20} more" if len(shares) > 20 else ""
            lines.append(f"  masks    {self.kind}: {', '.join(shares[:20])}{more}")
        lines += [f"  odd      {sentence}" for sentence in self.oddities]
        return "\n".join(lines)


def inspect_folder(
    dataset: Callable[..., Any], root: Path, options: Mapping[str, Any], progress: OnProgress | None = None
) -> FolderReport:
    """Returns the report on a folder, see `FolderDataset.inspect`.

    Args:
        dataset: the class `FolderDataset`.
        root: the folder.
        options: options that are known.
        progress: called with the number of masks read and their total.

    Raises:
        InvalidArgumentError: if there is no such option.
    """
    known = [name for name in inspect.signature(dataset).parameters if name not in _NOT_OURS]
    for name in options:
        if name not in known:
            raise InvalidArgumentError(f"FolderDataset has no option {name!r}.{nearest(name, known)} It has: {known}")
    return _Inspection(dataset, root, dict(options), progress).report()


class _Inspection(FolderSearch):
    def report(self) -> FolderReport:
        """Returns the report; it ends early where nothing further can be said."""
        found: dict[str, Any] = {}
        try:
            splits = self._splits()
        except UserError as error:
            self.odd.append(str(error))
            return FolderReport(self.root, oddities=tuple(self.odd))
        found["counts"] = {split: len(opened) for split, opened in splits.items()}
        used = [opened for split, opened in splits.items() if split != "test"]
        if "val" not in splits:
            return FolderReport(self.root, options=self.options, oddities=tuple(self.odd), **found)
        names = [opened.file_names(index) for opened in used for index in range(len(opened))]
        found["image_suffixes"] = Counter(Path(pair[0]).suffix.lower() for pair in names)
        found["mask_suffixes"] = Counter(Path(pair[1]).suffix.lower() for pair in names)
        try:
            sizes = self._image_sizes([Path(pair[0]) for pair in names])
            found["sizes"] = _spread(list(sizes.values()))
            masks = self._masks(used, [Path(pair[1]) for pair in names])
            found |= {key: masks[key] for key in ("kind", "ids", "metadata", "suggested")}
            fits = masks["fits"] and self._same_sizes(names, sizes, masks["summaries"])
        except UserError as error:
            self.odd.append(str(error))
            fits = False
        return FolderReport(
            self.root, fits=fits, options=self.options, oddities=tuple(dict.fromkeys(self.odd)), **found
        )

    # ---- images and masks --------------------------------------------------------------------------------------------

    def _image_sizes(self, paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
        """Returns height and width of images as they are read; of a spread sample if there are many."""
        step = -(-len(paths) // _MOST_HEADERS)
        sizes = {}
        for path in paths[::step]:
            header = read_header(path)
            turned = header.orientation >= 5 and self.options.get("orientation", "apply") == "apply"
            sizes[path] = (header.width, header.height) if turned else (header.height, header.width)
        return sizes

    def _same_sizes(
        self,
        names: Sequence[Sequence[str]],
        sizes: Mapping[Path, tuple[int, int]],
        summaries: Mapping[str, MaskSummary],
    ) -> bool:
        unlike = [
            (Path(image), (summaries[mask].height, summaries[mask].width))
            for image, mask in names
            if mask in summaries
            and sizes.get(Path(image)) not in (None, (summaries[mask].height, summaries[mask].width))
        ]
        if unlike:
            image, (height, width) = unlike[0]
            own_height, own_width = sizes[image]
            self.odd.append(
                f"{len(unlike)} masks have another size than their image: the mask of {image} has {width}x{height} "
                f"pixels, the image {own_width}x{own_height}"
            )
        return not unlike

    def _masks(self, used: Sequence[Any], paths: Sequence[Path]) -> dict[str, Any]:
        metadata = None
        try:
            metadata = resolve_classes(self.root, self.metadata)
        except InvalidArgumentError as error:
            if not str(error).startswith("metadata is missing: dataset 'FolderDataset' needs"):
                raise
        kind = kind_of(paths)
        if kind == "colors" or self.masks_as.get("colors"):
            return self._color_masks(used, paths, metadata)
        with self._noted():
            files = [opened.mask_file(index) for opened in used for index in range(len(opened))]
            scanned = scan_masks(files, self.progress)
        summaries = {str(file.path): summary for file, summary in zip(files, scanned, strict=True)}
        pixels: Counter[int] = Counter()
        for summary in scanned:
            pixels.update(summary.counts)
        suggested = metadata is None
        if metadata is None:
            metadata = suggested_classes(pixels.keys())
        if kind in ("ids", "palette") and set(pixels) == {0, 255}:
            kind = "0 and 255"
        if len(pixels) > _MOST_IDS and suggested:
            self.odd.append(f"masks contain {len(pixels)} different ids: are they images, or numbers of objects?")
            metadata = None
        fits = metadata is not None and self._ids_fit(set(pixels), metadata, suggested)
        if metadata is not None and self.metadata is not None:
            self.options["metadata"] = self.metadata
        elif metadata is not None and suggested:
            self.options["metadata"] = {"labels": list(metadata.labels)}
        total = sum(pixels.values())
        return {
            "fits": fits,
            "kind": kind,
            "ids": {raw: count / max(total, 1) for raw, count in sorted(pixels.items())},
            "metadata": metadata,
            "suggested": suggested,
            "summaries": summaries,
        }

    def _ids_fit(self, ids: set[int], metadata: DatasetMetadata, suggested: bool) -> bool:
        """Finds the label map for the ids, and says what is odd about them."""
        allowed = {*range(metadata.num_classes), metadata.ignore_index}
        targets: Mapping[int, Any] = {raw: raw for raw in allowed}
        if "label_map" in self.masks_as:
            self.options["label_map"] = given = self.masks_as["label_map"]
            targets = given.mapping if isinstance(given, LabelMap) else {int(raw): to for raw, to in given.items()}
            allowed = set(targets)
        elif (label_map := suggest_label_map(ids, metadata.num_classes, metadata.ignore_index)) is not None:
            table = {raw: to if isinstance(to, int) else "ignore" for raw, to in label_map.mapping.items()}
            self.options["label_map"] = table
            if not suggested or ids != {0, 255}:
                self.odd.append(
                    f"masks contain the ids {id_ranges(ids)} for {metadata.num_classes} classes, 0 to "
                    f"{metadata.num_classes - 1}; the label map is a guess, check it"
                )
            allowed, targets = set(table), table
        if wrong := ids - allowed:
            self.odd.append(
                f"masks contain the ids {id_ranges(wrong)}, which are no class ({metadata.num_classes} classes, 0 to "
                f"{metadata.num_classes - 1}) and not {metadata.ignore_index}: correct the classes, or give a label_map"
            )
            return False
        present = {targets[raw] for raw in ids}
        if absent := [label for index, label in enumerate(metadata.labels) if index not in present]:
            self.odd.append(f"no mask contains {first_few(absent)}")
        if metadata.num_classes < 2:
            self.odd.append("there is one class; two are needed, such as background and object")
            return False
        return True

    def _color_masks(
        self, used: Sequence[Any], paths: Sequence[Path], metadata: DatasetMetadata | None
    ) -> dict[str, Any]:
        suggested = False
        given = self.metadata if self.metadata is not None else (metadata and metadata.to_dict())
        if metadata is None or metadata.colors == default_palette(metadata.num_classes):
            colors = colors_of(paths)
            if len(colors) > MOST_COLORS:
                self.odd.append(
                    f"masks contain {len(colors)} different colors: their edges are smoothed or compressed, or they "
                    "are images; a mask has one color per class"
                )
                return {**_NO_MASKS, "kind": "colors", "metadata": metadata}
            if metadata is not None:
                self.odd.append(
                    "masks contain colors, and the classes have none: add to the metadata the color of each class; the "
                    f"masks contain {', '.join(str(list(color)) for color in colors)}"
                )
                return {**_NO_MASKS, "kind": "colors", "metadata": metadata}
            suggested = True
            metadata = DatasetMetadata("custom", tuple(f"class_{i}" for i in range(len(colors))), tuple(colors))
            given = {"labels": list(metadata.labels), "colors": [list(color) for color in metadata.colors]}
            if len(paths) > MOST_COLOR_MASKS:
                self.odd.append(f"colors were collected from {MOST_COLOR_MASKS} masks; others are an error when met")
        check_has_colors(metadata, given)
        self.options["colors"] = True
        if suggested or self.metadata is not None:
            self.options["metadata"] = given
        with self._noted():
            opened = [self.dataset(self.root, given, found.split, **self._without_metadata()) for found in used]
            files = [found.mask_file(index) for found in opened for index in range(len(found))]
            scanned = scan_masks(files, self.progress)
        pixels: Counter[int] = Counter()
        for summary in scanned:
            pixels.update(summary.counts)
        total = sum(pixels.values())
        if absent := [label for index, label in enumerate(metadata.labels) if not pixels[index]]:
            self.odd.append(f"no mask contains {first_few(absent)}")
        fits = metadata.num_classes >= 2
        if not fits:
            self.odd.append("there is one class; two are needed, such as background and object")
        return {
            "fits": fits,
            "kind": "colors",
            "ids": {raw: count / max(total, 1) for raw, count in sorted(pixels.items())},
            "metadata": metadata,
            "suggested": suggested,
            "summaries": {str(file.path): summary for file, summary in zip(files, scanned, strict=True)},
        }

    def _without_metadata(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "metadata"}


_NO_MASKS: Mapping[str, Any] = {
    "fits": False,
    "kind": "",
    "ids": {},
    "metadata": None,
    "suggested": False,
    "summaries": {},
}


def _spread(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    heights, widths = ([size[axis] for size in sizes] for axis in (0, 1))
    ways: tuple[Callable[[list[int]], int], ...] = (min, statistics.median_low, max)
    return tuple((way(heights), way(widths)) for way in ways)
