"""Looks at a folder of one's own data: which options of `FolderDataset` fit, what it holds, and what is odd."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, UserError, nearest
from seg_core.files.images import MAX_PIXELS
from seg_core.files.scan import OnProgress
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.reading.channel_advice import suggest_channels
from seg_datasets.reading.channel_text import channel_table
from seg_datasets.reading.folder_layouts import find_layout
from seg_datasets.reading.folder_search import FolderSearch
from seg_datasets.reading.image_sizes import ImageSizes, spread
from seg_datasets.reading.mask_report import MaskFindings, MaskInspection, describe_masks
from seg_datasets.reading.task_report import binary_advice

__all__ = ["FolderReport", "inspect_folder"]

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
        ids: id in the masks -> its share of all pixels; of masks in colors the ids of the classes, and the ignored
            value.
        metadata: the classes: given, from a file in the root, or suggested; None if they are not known.
        suggested: whether names or colors of `metadata` are a suggestion.
        oddities: sentences about what is odd.
        choices: options of which the user has to add one to `options`, as only he or she knows what is right -> their
            value; the folder fits then. Empty if it fits, or if no option helps.
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
    choices: Mapping[str, Any] = field(default_factory=dict)

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
            masks = describe_masks(self.kind, self.ids, self.metadata, self.options, self.suggested)
            lines.append(f"  masks    {masks}")
        if self.suggested and self.fits and (told := binary_advice(self.root, self.ids, self.options)):
            lines.append(f"  task     {told}")  # nothing odd: both are right
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
            splits = self._described_splits()
        except UserError as error:
            self.odd.append(str(error))
            return FolderReport(self.root, oddities=tuple(self.odd))
        found["counts"] = {split: len(opened) for split, opened in splits.items()}
        used = [opened for split, opened in splits.items() if split != "test"]
        if "val" not in splits:
            return FolderReport(self.root, options=self.options, oddities=tuple(self.odd), **found)
        names = [opened.file_names(index) for opened in used for index in range(len(opened))]
        found["image_suffixes"] = Counter(Path(pair[0]).suffix.lower() for pair in names)
        found["mask_suffixes"] = Counter(Path(pair[-1]).suffix.lower() for pair in names)
        try:
            channels = self._any_classes().channels
            max_pixels = self.options.get("max_pixels", MAX_PIXELS)
            images = ImageSizes([Path(pair[0]) for pair in names], max_pixels, channels)
            orientation = self.options.get("orientation", "apply")
            found["sizes"] = spread(list(images.sizes(orientation).values()))
            masks = self._masks(used, [Path(pair[-1]) for pair in names])
            found |= {key: getattr(masks, key) for key in ("kind", "ids", "metadata", "suggested")}
            problem, other = images.problem(names, masks.summaries, orientation, self.root)
            if problem:
                self.odd.append(problem)
            if other:
                self.options["orientation"] = other
                found["sizes"] = spread(list(images.sizes(other).values()))
            fits = masks.fits and (not problem or bool(other))
        except UserError as error:
            self.odd.append(str(error))
            fits = False
        options = {name: value for name, value in self.options.items() if name not in self.choices}
        return FolderReport(
            self.root,
            fits=fits and not self.choices,
            options=options,
            oddities=tuple(dict.fromkeys(self.odd)),
            choices=self.choices if fits else {},
            **found,
        )

    # ---- channels ----------------------------------------------------------------------------------------------------

    def _described_splits(self) -> dict[str, Any]:
        """Opens all splits; describes the channels of the images by the files if nobody has.

        Raises:
            UserError: if splits cannot be opened, or images have different channels.
        """
        try:
            splits = self._splits()
        except UserError:
            if self._is_described() or not self._find_arrays():
                raise
            return self._splits()
        if self._any_classes().channels != RGB_CHANNELS:
            return splits
        used = [opened for split, opened in splits.items() if split != "test"]
        files = [Path(opened.file_names(index)[0]) for opened in used for index in range(len(opened))]
        found = suggest_channels([[path] for path in files])
        if found is None:
            return splits
        self._describe(found)
        return {split: self._open(split) for split in splits}

    def _find_arrays(self) -> bool:
        """Describes the channels of arrays, if images are such files; returns whether they are."""
        layout = replace(self._layout(), with_arrays=True)
        if "images" not in self.options:
            layout = find_layout(self.root, with_arrays=True)
        found = suggest_channels([[path] for path in layout.files(self.root, "train", first=True).images.values()])
        if found is not None:
            self._describe(found)
        return found is not None

    def _describe(self, channels: ImageChannels) -> None:
        self.options["channels"] = channels.to_dict()
        self.odd.append(
            f"images are not red, green and blue of 8 bits, and nothing describes their channels. By the files it is "
            f"channels = {channel_table(channels)}; correct the names and the range, the values that become 0 and 1"
        )

    # ---- images and masks --------------------------------------------------------------------------------------------

    def _masks(self, used: Sequence[Any], paths: Sequence[Path]) -> MaskFindings:
        return MaskInspection(
            self.dataset, self.root, self.metadata, self.masks_as, self.options, self.odd, self._noted, self.progress
        ).look(used, paths)
