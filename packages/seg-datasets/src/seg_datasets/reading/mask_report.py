"""Looks at the masks of a folder of one's own data: the classes that fit them, and what is odd about them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_core.errors import counted, id_ranges
from seg_core.files.scan import MaskFile, MaskSummary, OnProgress, scan_masks
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.palette import Color, default_palette
from seg_core.labels.raw_ids import label_map_line, mixed_map, mixed_masks, suggest_label_map
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.reading.class_files import check_has_colors, known_classes
from seg_datasets.reading.class_names import describe_names
from seg_datasets.reading.known_ids import known_label_map, two_readings, with_void
from seg_datasets.reading.mask_kinds import MOST_COLOR_MASKS, MOST_COLORS, colors_of, find_kinds, suggested_classes
from seg_datasets.reading.mask_regions import (
    Regions,
    describe_smoothed_ids,
    middle,
    object_channel,
    object_numbers,
    smoothed,
)
from seg_datasets.reading.pairs import first_few
from seg_datasets.reading.palette_orders import PaletteConflict, find_conflict
from seg_datasets.reading.samples import load_mask
from seg_datasets.reading.task_report import find_task_options

__all__ = ["MaskFindings", "MaskInspection", "describe_masks"]

_MOST_IDS = 300
_MOST_SHOWN = 20  # ids in a line
_LOOKED_AT = 50  # masks whose areas are measured


@dataclass(frozen=True)
class MaskFindings:
    """What masks hold; the attributes are those of `FolderReport`.

    Attributes:
        kind, ids, metadata, suggested: as there.
        fits: whether a dataset reads them.
        summaries: path of a mask -> its size and ids.
    """

    kind: str
    metadata: DatasetMetadata | None
    ids: Mapping[int, float] = field(default_factory=dict)
    suggested: bool = False
    fits: bool = False
    summaries: Mapping[str, MaskSummary] = field(default_factory=dict)


@dataclass
class MaskInspection:
    """Looks at masks.

    Attributes:
        dataset: the class `FolderDataset`.
        root: the folder.
        metadata: classes that were given, or None.
        masks_as: options that were given of `label_map` and `colors`.
        options: options that fit so far; those for the masks are added.
        odd: sentences about what is odd; others are added.
        noted: context in which warnings become such sentences.
        progress: called with the number of masks read and their total.
    """

    dataset: Callable[..., Any]
    root: Path
    metadata: Any
    masks_as: Mapping[str, Any]
    options: dict[str, Any]
    odd: list[str]
    noted: Callable[[], AbstractContextManager[None]]
    progress: OnProgress | None

    def look(self, used: Sequence[Any], paths: Sequence[Path]) -> MaskFindings:
        """Returns what masks hold.

        Args:
            used: the opened splits.
            paths: their masks, in the same order.

        Raises:
            UserError: if a mask cannot be read, or the classes are not valid.
        """
        metadata = known_classes(self.root, self.metadata)
        if metadata is not None and metadata.task != MULTICLASS:
            return self._of_task(used, metadata)
        kinds = find_kinds(paths, self.root)
        if kinds.problem and "colors" not in self.masks_as:
            self.odd.append(kinds.problem)
            return MaskFindings(kinds.kind, metadata)
        if kinds.kind == "colors" or self.masks_as.get("colors"):
            return self._color_masks(used, paths, metadata)
        with self.noted():
            files = [opened.stored_mask(index) for opened in used for index in range(len(opened))]
            scanned = scan_masks(files, self.progress)
        indices = {file.path: summary.counts for file, summary in zip(files, scanned, strict=True)}
        conflict = find_conflict(kinds.palettes, indices, self.root)
        if conflict is not None and (found := self._reordered(conflict, used, paths, metadata, len(kinds.palettes))):
            return found
        return self._id_masks(files, scanned, kinds.kind, metadata)

    def _of_task(self, used: Sequence[Any], metadata: DatasetMetadata) -> MaskFindings:
        """Returns what masks of 0 and 1 hold, as the scan before a run finds it."""
        self.options |= self.masks_as

        def opened(**options: Any) -> list[Any]:
            others = {name: value for name, value in self.options.items() if name != "metadata"} | options
            with self.noted():
                return [self.dataset(self.root, self.metadata, found.split, **others) for found in used]

        found = find_task_options(opened, metadata, self.options, self.progress)
        self.odd += found.odd
        if self.metadata is not None:
            self.options["metadata"] = self.metadata
        return MaskFindings(metadata.task, metadata, found.shares, False, found.fits, found.summaries)

    # ---- ids ---------------------------------------------------------------------------------------------------------

    def _id_masks(
        self, files: Sequence[MaskFile], scanned: Sequence[MaskSummary], kind: str, metadata: DatasetMetadata | None
    ) -> MaskFindings:
        pixels: Counter[int] = Counter()
        for summary in scanned:
            pixels.update(summary.counts)
        suggested = metadata is None
        if metadata is None:
            metadata = suggested_classes(pixels.keys())
        if kind in ("ids", "palette") and set(pixels) == {0, 255}:
            kind = "0 and 255"
        ignored = 255 if metadata is None else metadata.ignore_index
        if set(pixels) == {ignored} and "label_map" not in self.masks_as:
            self.odd.append(
                f"all pixels of {counted(len(files), 'mask')} are ignored ({ignored}): nothing can be learned"
            )
            fits = False
        elif problem := self._no_classes(files, pixels, metadata, suggested):
            self.odd.append(problem)
            fits, metadata = False, None if suggested else metadata
        else:
            fits = metadata is not None and self._ids_fit(files, scanned, set(pixels), metadata, suggested)
        if metadata is not None and self.metadata is not None:
            self.options["metadata"] = self.metadata
        elif metadata is not None and suggested:
            self.options["metadata"] = {"labels": list(metadata.labels)}
            if metadata.ignore_index != 255:
                self.options["metadata"]["ignore_index"] = metadata.ignore_index
            self._name_classes(metadata, with_colors=False)
        return self._findings(files, scanned, kind, pixels, metadata, suggested, fits)

    def _no_classes(
        self, files: Sequence[MaskFile], pixels: Mapping[int, int], metadata: DatasetMetadata | None, suggested: bool
    ) -> str:
        """Returns why the ids of masks are no classes; "" if they may be, or were given as such."""
        ids = set(pixels)
        known = set() if suggested or metadata is None else {*range(metadata.num_classes), metadata.ignore_index}
        if "label_map" in self.masks_as or len(ids) < 4 or ids <= known:
            return ""
        regions = Regions()
        for file in _spread(files):
            regions.add(middle(file.read(file.path)))
        if found := smoothed(regions):
            return describe_smoothed_ids(*found)
        if regions.are_images:
            return (
                f"masks contain {len(ids)} values that form no areas: these are images, not masks; give the folder of "
                "the masks with images=... and masks=..."
            )
        if len(ids) > _MOST_IDS and suggested:
            return f"masks contain {len(ids)} different ids: are they images, or numbers of objects?"
        return ""

    def _ids_fit(
        self,
        files: Sequence[MaskFile],
        scanned: Sequence[MaskSummary],
        ids: set[int],
        metadata: DatasetMetadata,
        suggested: bool,
    ) -> bool:
        """Finds the label map for the ids, and says what is odd about them."""
        count, ignored = metadata.num_classes, metadata.ignore_index
        if count < 2:
            line = "" if suggested else f': labels = ["background", "{metadata.labels[0]}"]'
            self.odd.append(
                f"there is one class, and masks contain {'the id' if len(ids) == 1 else 'the ids'} {_ranges(ids)}; two "
                f'are needed, such as background and object{line}; or write task = "binary" beside the label'
            )
            return False
        allowed = {*range(count), ignored}
        targets: Mapping[int, Any] = {raw: raw for raw in allowed}
        objects = object_numbers([summary.counts.keys() for summary in scanned], ignored)
        if objects and (suggested or not ids <= allowed) and "label_map" not in self.masks_as:
            self.odd.append(objects)
            if max(ids - {ignored}) >= 100:
                return False
        mixed = mixed_masks([summary.counts.keys() for summary in scanned], ignored) if count == 2 else None
        label_map = suggest_label_map(ids, count, ignored)
        name, known = (None if suggested or ids <= allowed else known_label_map(metadata, ids)) or ("", None)
        if "label_map" in self.masks_as:
            self.options["label_map"] = given = self.masks_as["label_map"]
            targets = given.mapping if isinstance(given, LabelMap) else {int(raw): to for raw, to in given.items()}
            allowed = set(targets)
        elif mixed is not None and ids <= allowed:
            ones, others = mixed
            targets = self.options["label_map"] = dict(mixed_map(ignored).mapping)
            self.odd.append(
                f"masks store the object in two ways: as 1 in {counted(len(ones), 'mask')} (the first is "
                f"{self._first(files, ones)}), as {ignored} in {len(others)} (the first is "
                f"{self._first(files, others)}); the label map reads both, if {ignored} is not ignored: check it"
            )
        elif two_readings(label_map, known, ids, count):
            assert label_map is not None
            void = known or with_void(count, ids, ignored)
            self.odd.append(
                f"masks contain the ids {_ranges(ids)} for {_classes(count)}, which can be read in two ways: if 0 has "
                f"no class and the others are one too high, set {label_map_line(label_map)}; if {count} has no class"
                f"{f', as in {name}' if name else ''}, set {label_map_line(void)}. If {count} is a class, add it to "
                "the classes"
            )
            return False
        elif known is not None:
            self.options["label_map"] = table = _table(known)
            self.odd.append(
                f"masks contain the ids {_ranges(ids)} for {_classes(count)}; the label map is that of {name}, which "
                "has these classes: check it"
            )
            allowed, targets = set(table), table
        elif label_map is not None:
            self.options["label_map"] = table = _table(label_map)
            if not suggested or ids != {0, 255}:
                self.odd.append(
                    f"masks contain the ids {_ranges(ids)} for {_classes(count)}; the label map is a guess, check it"
                )
            allowed, targets = set(table), table
        elif ignored in ids and len(ids) == 2 and ids <= allowed:
            only = next(iter(ids - {ignored}))
            self.odd.append(
                f"masks contain the ids {_ranges(ids)} alone, of which {ignored} is ignored: every pixel is "
                f"{metadata.labels[only]} or ignored, so nothing can be learned. Save masks with the ids of the classes"
            )
            return True
        if wrong := ids - allowed:
            self.odd.append(
                f"masks contain the ids {_ranges(wrong)}, which are no class ({_classes(count)}) and not {ignored}: "
                "correct the classes, or give a label_map"
            )
            return False
        present = {targets[raw] for raw in ids}
        if absent := [label for index, label in enumerate(metadata.labels) if index not in present]:
            self.odd.append(f"no mask contains {first_few(absent)}")
        return True

    # ---- colors ------------------------------------------------------------------------------------------------------

    def _reordered(
        self,
        conflict: PaletteConflict,
        used: Sequence[Any],
        paths: Sequence[Path],
        metadata: DatasetMetadata | None,
        count: int,
    ) -> MaskFindings | None:
        """Reads masks by their colors, as their palettes differ; None if they are to be read by index."""
        if self.masks_as.keys() & {"label_map", "colors"}:
            self.odd.append(f"{conflict.text}. They are read by index, as given: check that this is right")
            return None
        if count < len(paths):
            self.odd.append(
                f"{conflict.text}, and other masks have no palette: which class an index is cannot be told. Save all "
                "masks with one palette"
            )
            return MaskFindings("palette", metadata)
        self.odd.append(f"{conflict.text}. So they are read by their colors")
        return self._color_masks(used, paths, metadata, conflict.colors)

    def _color_masks(
        self,
        used: Sequence[Any],
        paths: Sequence[Path],
        metadata: DatasetMetadata | None,
        order: Sequence[Color] = (),
    ) -> MaskFindings:
        suggested = False
        given = self.metadata if self.metadata is not None else (metadata and metadata.to_dict())
        if metadata is None or metadata.colors == default_palette(metadata.num_classes):
            colors = list(order) or colors_of(paths)
            if problem := _no_color_classes(paths, colors):
                self.odd.append(problem)
                return MaskFindings("colors", metadata)
            if metadata is not None:
                self.odd.append(
                    "masks contain colors, and the classes have none: add to the metadata the color of each class; the "
                    f"masks contain {', '.join(str(list(color)) for color in colors)}"
                    + (", in this order in most masks" if order else "")
                )
                return MaskFindings("colors", metadata)
            suggested = True
            metadata = DatasetMetadata("custom", tuple(f"class_{i}" for i in range(len(colors))), tuple(colors))
            given = {"labels": list(metadata.labels), "colors": [list(color) for color in metadata.colors]}
            if len(paths) > MOST_COLOR_MASKS and not order:
                self.odd.append(f"colors were collected from {MOST_COLOR_MASKS} masks; others are an error when met")
        check_has_colors(metadata, given)
        self.options["colors"] = True
        if suggested or self.metadata is not None:
            self.options["metadata"] = given
        others = {name: value for name, value in self.options.items() if name != "metadata"}
        with self.noted():
            opened = [self.dataset(self.root, given, found.split, **others) for found in used]
            files = [found.stored_mask(index) for found in opened for index in range(len(found))]
            scanned = scan_masks(files, self.progress)
        pixels: Counter[int] = Counter()
        for summary in scanned:
            pixels.update(summary.counts)
        if absent := [label for index, label in enumerate(metadata.labels) if not pixels[index]]:
            self.odd.append(f"no mask contains {first_few(absent)}")
        if ignored := pixels.pop(metadata.num_classes, 0):
            pixels[metadata.ignore_index] = ignored
            self.odd.append(
                f"the color {list(metadata.ignore_color)} ({_percent(ignored / pixels.total())} of the pixels) is that "
                "of no class, so its pixels are ignored: is it a class, such as the background? Then add it to the "
                "classes"
            )
        fits = metadata.num_classes >= 2
        if not fits:
            self.odd.append("there is one class; two are needed, such as background and object")
        if suggested:
            self._name_classes(metadata, with_colors=True)
        return self._findings(files, scanned, "colors", pixels, metadata, suggested, fits)

    # ---- result ------------------------------------------------------------------------------------------------------

    def _name_classes(self, metadata: DatasetMetadata, *, with_colors: bool) -> None:
        if sentence := describe_names(self.root, metadata.num_classes, with_colors):
            self.odd.append(sentence)

    def _findings(
        self,
        files: Sequence[MaskFile],
        scanned: Sequence[MaskSummary],
        kind: str,
        pixels: Mapping[int, int],
        metadata: DatasetMetadata | None,
        suggested: bool,
        fits: bool,
    ) -> MaskFindings:
        total = max(sum(pixels.values()), 1)
        shares = {raw: count / total for raw, count in sorted(pixels.items())}
        summaries = {str(file.path): summary for file, summary in zip(files, scanned, strict=True)}
        return MaskFindings(kind, metadata, shares, suggested, fits, summaries)

    def _first(self, files: Sequence[MaskFile], places: Sequence[int]) -> str:
        """Returns the first file by name, relative to the root."""
        path = min(files[place].path for place in places)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def describe_masks(
    kind: str, ids: Mapping[int, float], metadata: DatasetMetadata | None, options: Mapping[str, Any], suggested: bool
) -> str:
    """Returns the line of a report about what masks hold.

    Args:
        kind: of the report.
        ids: of the report.
        metadata: of the report.
        options: of the report; ids that their label map ignores are named as ignored.
        suggested: of the report.
    """
    label_map = options.get("label_map")
    table = label_map.mapping if isinstance(label_map, LabelMap) else label_map
    ignored = set()
    if table is not None:
        ignored = {int(raw) for raw, to in table.items() if not isinstance(to, int)}
    elif metadata is not None:
        ignored = {metadata.ignore_index}
    texts = []
    for raw, share in [*ids.items()][:_MOST_SHOWN]:
        text = f"{raw} ({'ignored, ' if raw in ignored else ''}{_percent(share)})"
        if kind == "colors" and metadata is not None:
            is_class = raw < metadata.num_classes
            color = metadata.colors[raw] if is_class else metadata.ignore_color
            name = f"{metadata.labels[raw]} " if is_class and not suggested else ""
            text = text.replace(" (", f" {name}{list(color)} (", 1)
        texts.append(text)
    more = f" and {len(ids) - _MOST_SHOWN} more" if len(ids) > _MOST_SHOWN else ""
    return f"{kind}: {', '.join(texts)}{more}" if texts else kind


def _no_color_classes(paths: Sequence[Path], colors: Sequence[Color]) -> str:
    """Returns why the colors of masks are no classes, or ""."""
    if len(colors) < 4:
        return ""
    regions = Regions()
    for path in _spread(paths):
        pixels = np.asarray(load_mask(path).image.convert("RGBA").convert("RGB")).astype(np.int64)
        regions.add(middle(pixels @ np.array([1 << 16, 1 << 8, 1])))
    number = f"more than {10 * MOST_COLORS}" if len(colors) > 10 * MOST_COLORS else str(len(colors))
    remedy = "save the masks without smoothing, as PNG, and resize them with Image.Resampling.NEAREST"
    if found := smoothed(regions, channels=3):
        solid = ", ".join(str([value >> 16, value >> 8 & 255, value & 255]) for value in sorted(found[0])[:10])
        return (
            f"masks contain {number} different colors, and only {solid} form areas: the edges are smoothed or "
            f"compressed; {remedy}"
        )
    if sentence := object_channel(colors):
        return f"masks contain {number} different colors; {sentence}"
    if len(colors) > MOST_COLORS:
        return (
            f"masks contain {number} different colors: their edges are smoothed or compressed, or they are images; a "
            f"mask has one color per class: {remedy}"
        )
    return ""


def _table(label_map: LabelMap) -> dict[int, Any]:
    """Returns a label map as it stands in a config."""
    return {raw: to if isinstance(to, int) else "ignore" for raw, to in label_map.mapping.items()}


def _spread(files: Sequence[Any]) -> Sequence[Any]:
    return files[:: max(-(-len(files) // _LOOKED_AT), 1)]


def _ranges(ids: set[int]) -> str:
    return id_ranges(ids, _MOST_SHOWN)


def _classes(count: int) -> str:
    return f"{counted(count, 'class', 'classes')}, 0 to {count - 1}"


def _percent(share: float) -> str:
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
