"""Findings about masks: files that hold no ids, and ids that are no classes."""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

import numpy as np

from seg_core.errors import counted, id_ranges
from seg_core.labels.raw_ids import find_ids_fault, label_map_line, mixed_map, mixed_masks
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL
from seg_datasets.doctor.checked import PARAMS, WITH_FILE, CheckedSplit, finding, told_apart
from seg_datasets.doctor.classes import Classes
from seg_datasets.doctor.findings_colors import color_findings
from seg_datasets.doctor.findings_object import object_finding
from seg_datasets.doctor.findings_planes import all_ignored, plane_findings, present_in, unknown_planes
from seg_datasets.doctor.kinds import ERROR, WARNING
from seg_datasets.doctor.mask_files import MaskPixels
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.known_ids import known_label_map, two_readings
from seg_datasets.reading.mask_kinds import PaletteFile
from seg_datasets.reading.mask_regions import describe_smoothed_ids
from seg_datasets.reading.pairs import first_few
from seg_datasets.reading.plane_masks import PlanesReader

__all__ = ["mask_findings", "unreadable_masks"]

_MOST_READ = 200  # masks of wrong ids that are read again for their pixels and positions
_MANY = 0.2  # share of masks with an id from which it is meant
_UNKNOWN_SHARE = 0.01  # of masks that cannot be read, below which classes may be called absent
_FROM_WHITE = "save it with the ids of the classes: Image.fromarray((mask == 255).astype('uint8')).save(OUT)"
_BITS = (
    "if each bit of an id is a class, read the masks with this line; else save a page or band per class, or a file per "
    "class, for masks = 'masks/{class}'"
)
_SAVE_ONE = "save one of the channels: Image.open(IN).getchannel(0).save(OUT)"


class _Place(NamedTuple):
    """A mask, or of one with a file per class one of these files."""

    split: CheckedSplit
    row: int
    plane: int | None = None

    @property
    def path(self) -> str:
        return self.split.mask(self.row) if self.plane is None else self.split.plane(self.row, self.plane)


_REMEDIES = {
    "empty-file": "replace the file, or move it and its image away",
    "unreadable-mask": "replace the file by a gray PNG of its ids, or move it and its image away",
    "jpeg-mask": "save the mask as PNG from the original ids; if these are lost, round each pixel to the nearest id "
    "first",
    "size-mismatch": "save it with the size of its image; to resize a mask, Image.Resampling.NEAREST keeps its ids",
    "float-mask": "if the values are whole ids, save them as integers: Image.fromarray(ids.astype('uint8')).save(OUT)",
    "wrong-bit-depth": "save the ids with 8 or 16 bits: Image.fromarray(ids.astype('uint8')).save(OUT)",
    "orientation": "save the mask upright without the tag: ImageOps.exif_transpose(Image.open(IN)).save(OUT); or, if "
    "it fits the image as stored, without turning it",
}


def mask_findings(
    source: Source,
    splits: Sequence[CheckedSplit],
    classes: Classes,
    palettes: dict[PaletteFile, int],
    stops: bool = True,
) -> list[DataFinding]:
    """Returns what is wrong with the masks of a dataset.

    Args:
        source: the dataset.
        splits: what was read of its files.
        classes: its classes.
        palettes: number of each palette of masks.
        stops: whether ids or colors of no class end a training, rather than being ignored.
    """
    return [*_MaskRules(source, splits, classes, palettes, stops).findings()]


def unreadable_masks(source: Source, split: CheckedSplit) -> Iterator[DataFinding]:
    """Yields masks that hold no ids, other than colors, and those that hold them three times."""
    for row, path, kind, text in split.mask_faults():
        if kind == "rgb-mask":
            detail = "the mask is an RGB image whose three channels are equal: its values are read as ids, each three "
            yield finding(source, kind, [path], f"{detail}times", _SAVE_ONE)
        elif kind == "size-mismatch":
            image = source.shown(split.image(row))
            yield finding(source, kind, [path], f"the mask {text}; its image is {image}", _REMEDIES[kind])
        elif kind != "color-mask":
            detail, remedy = told_apart("mask", kind, text, _REMEDIES[kind])
            config = ""
            if isinstance(source.dataset.mask_reader, PlanesReader) and "but 1 band. " in detail:
                detail, remedy, config = detail.partition(". ")[0], _BITS, f'{PARAMS}.masks_as = "bits"'
            yield finding(source, kind, [path], detail, remedy, config)


class _MaskRules:
    def __init__(
        self,
        source: Source,
        splits: Sequence[CheckedSplit],
        classes: Classes,
        palettes: dict[PaletteFile, int],
        stops: bool,
    ) -> None:
        self.stops = stops
        self.source = source
        self.splits = [split for split in splits if split.has_masks]
        self.classes = classes
        self.palettes = palettes
        self.pixels = MaskPixels(source, classes, list(palettes))
        self.by_color = isinstance(source.dataset.mask_reader, ColorReader)
        every = [ids for split in self.splits for ids in split.id_sets.sets]
        every += [ids for split in self.splits for planes in split.examined.planes.values() for ids in planes]
        self.is_odd = {ids: bool(classes.wrong(ids)) for ids in every}
        self.stopped: dict[str, list[str]] = {}  # split -> masks with ids of smoothed edges or of a palette's colors

    def findings(self) -> Iterator[DataFinding]:
        """Yields what is wrong."""
        for split in self.splits:
            yield from unreadable_masks(self.source, split)
        yield from color_findings(self.source, self.splits, self.pixels, self.palettes)
        yield from self._bits()
        if self.classes.metadata is None:
            return
        told = list(self._whole())
        yield from told
        if not told:
            yield from self._black_and_white()
            yield from self._wrong()
            yield from self._stopped()
            yield from self._soft()
            for split in self.splits:
                yield from self._classes_of(split)

    # ---- bits --------------------------------------------------------------------------------------------------------

    def _bits(self) -> Iterator[DataFinding]:
        """Yields masks of one bit among others, and of 16 bits whose ids were multiplied."""
        count = 0 if self.classes.metadata is None else self.classes.metadata.num_ids
        rows = [(split, split.rows("mask", "ok")) for split in self.splits]
        bits = np.concatenate([split.examined.rows["bits"][found] for split, found in rows] or [np.zeros(0)])
        are_few = 2 * (bits == 1).sum() <= len(bits)
        for split, found in rows:
            record = split.examined.rows
            for row in found[(record["bits"][found] == 1) & record["gray"][found]].tolist():
                if count == 2 and not are_few:
                    continue
                why = "the others have more" if are_few else f"there are {count} classes"
                yield finding(
                    self.source,
                    "wrong-bit-depth",
                    self.pixels.of_1_bit(split.masks(row)),
                    f"the mask has 1 bit, so that it holds the ids 0 and 1 alone, and {why}: programs that compress "
                    "PNG files write 0 and 255 so",
                    "save it with 8 bits and the ids that are meant: Image.fromarray(ids.astype('uint8')).save(OUT)",
                )

    # ---- ids of all masks --------------------------------------------------------------------------------------------

    def _masks(self) -> Iterator[tuple[_Place, frozenset[int]]]:
        for split in self.splits:
            files = split.examined.planes if split.pairs.has_planes else {}
            for row, ids in split.id_sets:
                if row in files:
                    held = ((place, own) for place, own in enumerate(files[row]) if own)
                    yield from ((_Place(split, row, place), own) for place, own in held)
                else:
                    yield _Place(split, row), ids

    def _whole(self) -> Iterator[DataFinding]:
        """Yields what is wrong with the ids of all masks alike, which a label map mends."""
        metadata = self.classes.metadata
        assert metadata is not None
        count, ignored, task = metadata.num_ids, metadata.ignore_index, metadata.task
        union: set[int] = set().union(*self.is_odd)
        if self.classes.is_black_and_white(union):
            yield object_finding(self.source, metadata, [place.path for place, ids in self._masks() if 255 in ids])
            return
        if not self.classes.is_identity and (self.by_color or union != {0, 255} or count < 3):
            return
        if self.classes.is_suggested and union != {0, 255}:
            return  # where classes are not known, no id is wrong
        masks = [ids for _, ids in self._masks()]
        fault = find_ids_fault(union, count, ignored, task) if union else None
        if fault is None and task == MULTILABEL:
            yield from plane_findings(self.source, self.splits, self.classes)
            return
        if fault is None:
            yield from self._mixed(masks)
            return
        of_known = None if self.classes.is_suggested or task != MULTICLASS else known_label_map(metadata, union)
        name, known = of_known or ("", None)
        are_two = task == MULTICLASS and two_readings(fault.label_map, known, union, count)
        if known is not None and not are_two and self.classes.is_identity and self.classes.wrong(union):
            places = [place for place, ids in self._masks() if self.classes.wrong(ids)]
            text = f"the masks hold the ids {id_ranges(union, 10)}, as those of {name}, which has these classes"
            line = f"{PARAMS}.{label_map_line(known)}"
            yield self._of(places, fault.kind, text, f"read them with the label_map of {name}", line)
            return
        mends = fault.label_map is not None and self.classes.is_identity
        line = "" if fault.label_map is None or not mends else f"{PARAMS}.{label_map_line(fault.label_map)}"
        what = f"the masks hold the ids {id_ranges(union, 10)}, and there are {counted(count, 'class', 'classes')}, "
        what += f"0 to {count - 1}"
        if task != MULTICLASS:
            what = f"the masks hold the ids {id_ranges(union, 10)}, and those of a {task} task are 0 and 1"
        if fault.kind == "binary-0-255":
            places = [place for place, ids in self._masks() if 255 in ids]
            text = "the masks hold 0 and 255 alone, as image editors write black and white, and 255 is "
            text += "ignored" if ignored == 255 else "no class"
            remedy = (
                f"read 255 as {'class ' * (task == MULTICLASS)}1 with this label_map"
                if line
                else "save masks with the ids of the classes"
            )
            yield self._of(places, fault.kind, text, remedy, line)
        elif fault.kind == "off-by-one" and self._are_shifted(masks, count):
            places = [place for place, ids in self._masks() if count in ids]
            text, remedy = f"{what}: they are one too high", "read them with this label_map"
            if are_two:
                text = f"{what}: either 0 has no class and the others are one too high, or {count} is one id too many"
                remedy = (
                    f"look at the pixels of 0 and {count}. If 0 has no class, read the masks with this label_map; if "
                    f"{count} is the ignored value, set ignore_index = {count} in the classes; else add the class that "
                    "is missing"
                )
            yield self._of(places, fault.kind, text, remedy, line)
        elif fault.kind == "id-out-of-range" and fault.label_map is not None and not self.pixels.are_soft(masks):
            places = [place for place, ids in self._masks() if self.classes.wrong(ids)]
            remedy = (
                "if the ids are the classes in ascending order, read them with this label_map; else correct the masks"
            )
            yield self._of(places, fault.kind, what, remedy, line)
        elif fault.kind == "class-absent":
            places = [place for place, ids in self._masks() if ignored in ids]
            one = "of one class" if task == MULTICLASS else "background"
            text = f"{what}; {ignored} is ignored, so every pixel is {one} or ignored"
            remedy = f"if {ignored} is the other class, read it with this label_map"
            yield self._of(places, "binary-0-255", text, remedy, line)

    def _of(self, places: Sequence[_Place], kind: str, detail: str, remedy: str, line: str) -> DataFinding:
        paths = [place.path for place in places]
        return finding(self.source, kind, paths, f"{detail} ({counted(len(paths), 'mask')})", remedy, line)

    def _are_shifted(self, masks: Sequence[Set[int]], count: int) -> bool:
        """Returns whether the ids of all masks are one too high, rather than those of a few."""
        high = [ids for ids in masks if count in ids]
        if not any(0 in ids for ids in masks):
            return True
        return any(0 in ids for ids in high) and len(high) >= _MANY * len(masks)

    def _mixed(self, masks: Sequence[Set[int]]) -> Iterator[DataFinding]:
        """Yields masks that store the object as 255, beside others that store it as 1."""
        metadata = self.classes.metadata
        if metadata is None or metadata.num_ids != 2 or (found := mixed_masks(masks, metadata.ignore_index)) is None:
            return
        numbers = set(found[1])
        chosen = [place for number, (place, _) in enumerate(self._masks()) if number in numbers]
        text = f"there is no 1 but {metadata.ignore_index} in these masks, and 1 in {len(found[0])} others"
        remedy = f"if {metadata.ignore_index} is class 1 in these, read both with this label_map, or save them with 1"
        line = f"{PARAMS}.{label_map_line(mixed_map(metadata.ignore_index))}"
        yield self._of(chosen, "binary-0-255", text, remedy, line)

    # ---- ids of single masks -----------------------------------------------------------------------------------------

    def _black_and_white(self) -> Iterator[DataFinding]:
        """Yields masks of 0 and 255 alone among masks of classes none of which holds 255, the ignored value."""
        targets = self.classes.targets
        if self.by_color or self.classes.is_suggested or targets.get(255, 0) is not None or targets.get(0) is None:
            return
        alone, others = [], 0
        for place, ids in self._masks():
            if ids == {0, 255}:
                alone.append(place)
            elif 255 in ids:
                return
            others += ids != {0, 255}
        if len(alone) >= others:
            return
        for place in alone:
            yield finding(
                self.source,
                "binary-0-255",
                [place.path],
                "the mask holds 0 and 255 alone, and no other mask has 255: its objects are read as ignored",
                _FROM_WHITE,
            )

    def _wrong(self) -> Iterator[DataFinding]:
        """Yields masks with ids that are neither a class nor ignored, by what is probably the cause."""
        number = 0
        for place, ids in self._masks():
            if not self.is_odd[ids]:
                continue
            number += 1
            split, row, path, wrong = place.split, place.row, place.path, self.classes.wrong(ids)
            bits = int(split.examined.rows["bits"][row])
            listed = f"the mask holds the ids {id_ranges(ids, 10)}"
            if ids <= {0, 255} and not self.by_color:
                text = "the mask holds 0 and 255 alone, where ids are expected"
                yield finding(self.source, "binary-0-255", [path], text, _FROM_WHITE)
            elif bits == 16 and (factor := self._factor(ids)):
                text = f"{listed}, all multiples of {factor}: 8-bit ids that were scaled to 16 bits"
                remedy = f"divide them: Image.fromarray((ids // {factor}).astype('uint8')).save(OUT)"
                yield finding(self.source, "wrong-bit-depth", [path], text, remedy)
            elif not self.by_color and self._has_classes and self.classes.is_shifted(ids):
                text = f"{listed}, which are one too high: {id_ranges(wrong, 10)} is no class, and 0 is not there"
                remedy = "subtract 1 from each id: Image.fromarray(ids - 1).save(OUT)"
                yield finding(self.source, "off-by-one", [path], text, remedy)
            else:
                found = self._by_pixels(path, ids, wrong, number <= _MOST_READ)
                yield found
                if found.severity != ERROR and self.stops:
                    self.stopped.setdefault(split.name, []).append(path)

    def _stopped(self) -> Iterator[DataFinding]:
        """Yields the masks of each split that nothing can be trained on, although their kind is a warning."""
        what = "colors" if self.by_color else "ids"
        for name, paths in self.stopped.items():
            yield finding(
                self.source,
                "id-out-of-range",
                paths,
                f"{counted(len(paths), 'mask')} of {name} hold{'s' * (len(paths) == 1)} {what} that are no class: "
                "training stops at them; the warnings about the same files say why",
                "correct the masks as these warnings say",
            )

    def _by_pixels(self, path: str, ids: Set[int], wrong: Set[int], is_read: bool) -> DataFinding:
        """Returns the finding about a mask whose pixels have to be looked at."""
        source, pixels = self.source, self.pixels
        if self.by_color:
            kind, text, remedy = pixels.wrong_colors(path)
            return finding(source, kind, [path], text, remedy)
        if pixels.are_luminances(ids):
            text = f"the mask holds the values {id_ranges(ids, 10)}, the gray values of the colors of the classes: "
            text += "a palette image was converted to gray, which loses its indices"
            remedy = "save the palette image itself, or map each gray value to its id, if all differ"
            return finding(source, "expanded-palette", [path], text, remedy)
        if is_read and (found := pixels.smoothed(path)):
            text = describe_smoothed_ids(*found).replace("masks contain", "the mask contains", 1)
            text, _, advice = text.partition(". ")
            if self.classes.metadata is not None and self.classes.metadata.task == BINARY and self.classes.is_identity:
                advice = "read the masks with this threshold, or save them without smoothing"
                return finding(source, "antialiased-mask", [path], text, advice, f"{PARAMS}.threshold = 128")
            return finding(source, "antialiased-mask", [path], text, advice)
        allowed = id_ranges(self.classes.targets, 10)
        where = pixels.first(path, wrong) if is_read else f"the ids {id_ranges(wrong, 10)}"
        text = f"the mask has {where}; allowed are {allowed}"
        return finding(
            source, "id-out-of-range", [path], text, "correct the mask or the classes, or map the id with label_map"
        )

    @property
    def _has_classes(self) -> bool:
        """Whether the ids are those of the classes, rather than 0 and 1."""
        return self.classes.metadata is None or self.classes.metadata.task == MULTICLASS

    def _factor(self, ids: Set[int]) -> int:
        for factor in (257, 256):
            if max(ids) > 255 and all(raw % factor == 0 and raw // factor in self.classes.targets for raw in ids):
                return factor
        return 0

    def _soft(self) -> Iterator[DataFinding]:
        """Yields masks whose edges are smoothed although all their ids are classes."""
        for split in self.splits:
            record = split.examined.rows
            for row, ids in split.id_sets if record["soft"].any() else ():
                if record["soft"][row] and not self.is_odd[ids]:
                    yield finding(
                        self.source,
                        "antialiased-mask",
                        [split.mask(row)],
                        "at the edges between two classes the mask holds the ids between them: it was resized or drawn "
                        "with smoothed edges, and such pixels are of wrong classes",
                        "save the mask without smoothing, and resize with Image.Resampling.NEAREST",
                    )

    # ---- splits ------------------------------------------------------------------------------------------------------

    def _classes_of(self, split: CheckedSplit) -> Iterator[DataFinding]:
        """Yields masks that are ignored as a whole, and the classes that no mask of a split has."""
        metadata, targets = self.classes.metadata, self.classes.targets
        assert metadata is not None
        rows = split.id_sets
        classes = {ids: {t for raw in ids if (t := targets.get(raw)) is not None} for ids in rows.sets}
        present: set[int] = set().union(*classes.values())
        if not self._has_classes:
            present = present_in(split, targets, present)
        ignored = [row for row, ids in rows if not classes[ids] and not self.is_odd[ids]]
        unknown = len(split.rows("mask", *WITH_FILE)) - len(rows) + sum(self.is_odd[ids] for _, ids in rows)
        remedy = "check how ignored pixels are stored, and draw the classes, or move the mask and its image away"
        if ignored and len(ignored) == len(rows):
            yield finding(
                self.source,
                "all-ignored",
                [split.mask(row) for row in ignored],
                f"all pixels of all masks of {split.name} are ignored, so nothing can be learned or scored",
                remedy,
                severity=ERROR,
                place=split.name,
            )
            return
        for row in ignored:
            yield finding(
                self.source,
                "all-ignored",
                [split.mask(row)],
                "all pixels of the mask are ignored",
                remedy,
                severity=WARNING,
            )
        expected = set(range(metadata.num_classes))
        if self.classes.is_suggested:
            # of ids that no mask has it is not known whether they are classes, nor of those of smoothed edges
            held = {t for ids in self.is_odd for raw in ids if (t := targets.get(raw)) is not None}
            expected &= set() if any(one.examined.rows["soft"].any() for one in self.splits) else held
        unknown_classes = [] if self._has_classes else unknown_planes(split, targets)
        if unknown_classes:
            yield all_ignored(self.source, split, metadata, unknown_classes, remedy)
        absent = sorted(expected - present - set(unknown_classes))
        if absent and rows and unknown <= _UNKNOWN_SHARE * len(rows):
            names = first_few(f"{index} ({metadata.labels[index]})" for index in absent)
            noun, they = ("class", "it") if len(absent) == 1 else ("classes", "they")
            are_ignored = any(targets.get(raw, 0) is None for ids in classes for raw in ids)
            is_alone = are_ignored and (len(present) == 1 if self._has_classes else not present)
            why = "all pixels of other classes are ignored"
            if not self._has_classes:
                why = f"all pixels are background or ignored: if {metadata.ignore_index} is the object in these masks, "
                why += "save them with 1"
            yield finding(
                self.source,
                "class-absent",
                [],
                f"{noun} {names} occur{'s' * (len(absent) == 1)} in none of {counted(len(rows), 'mask')} of "
                f"{split.name}, so {they} cannot be {'learned' if split.name == 'train' else 'scored'}"
                + f"; {why}"
                * is_alone,
                "add images with it, divide the files in another way, or leave the class out",
                severity=ERROR if is_alone else "",
                place=split.name,
            )
