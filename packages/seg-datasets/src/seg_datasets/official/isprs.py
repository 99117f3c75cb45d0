"""The two datasets of the ISPRS 2D Semantic Labeling Contest: `Potsdam` and `Vaihingen`, aerial images.

Potsdam, a town: 38 tiles of 6000x6000 pixels of 5 cm; 24 for training, 14 for testing. Vaihingen, a village: 33 tiles
with sides of 1281 to 3816 pixels of 9 cm; 16 for training, 17 for testing. Both splits have masks; mmsegmentation and
others call the second one val, which is an alias here.

Potsdam's images come as red, green, blue, as near infrared, red, green, and with four bands (4_Ortho_RGBIR), whose
channels are described: red, green, blue, nir. Vaihingen's are near infrared, red, green: the first channel of a sample
is not red, so normalizing with the mean and standard deviation of ordinary photographs is only a convention. Published
networks follow it, so the channels of three bands are described as red, green and blue in both datasets. With
`height=True` Vaihingen's surface model is a fourth channel, in meters above the sea, and the channels are described as
what they are.

The masks of both store the same six class colors. There are full masks, and masks with eroded boundaries (noBoundary),
where a black border around every object is ignored. Papers often evaluate on the eroded masks and often leave out
clutter: report both choices with every score. In the full masks black is not a class. The mask of Potsdam's tile 4_12
is faulty: it has other colors too. By default Potsdam's unknown colors cause a warning with counts and their pixels are
ignored; Vaihingen's are an error. Gray masks with these names are expected to contain the ids 0 to 5.

Tiles are large: train on random crops and evaluate with a sliding window. Vaihingen's images and full masks have the
same names, so they must not be unpacked into one folder. The archive of its eroded masks has one more mask, of area9,
which has no image and is left out.

Expected on disk: see `POTSDAM_TREE` and `VAIHINGEN_TREE`. Download, on request:
https://www.isprs.org/education/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx and .../2d-sem-label-vaihingen.aspx

License: research, on request from ISPRS; Vaihingen was provided by the German Society for Photogrammetry, Remote
Sensing and Geoinformation (DGPF). There is no automatic download.

Cite: F. Rottensteiner, G. Sohn, M. Gerke, J. D. Wegner, "ISPRS Semantic Labeling Contest", ISPRS 2014; Vaihingen also:
M. Cramer, "The DGPF-Test on Digital Airborne Camera Evaluation", PFG 2/2010.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from seg_core.errors import InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.channels import ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["Potsdam", "Vaihingen"]

SITE = "https://www.isprs.org/education/benchmarks/UrbanSemLab"
POTSDAM_TREE = """\
Potsdam/                                                            root (or a folder above it)
  2_Ortho_RGB/top_potsdam_2_10_RGB.tif                              images for bands="RGB"
  3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif                            images for bands="IRRG"
  4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif                          images for bands="RGBIR", four channels
  5_Labels_all/top_potsdam_2_10_label.tif                           masks: a color per class
  5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif     masks for eroded=True: black is ignored
label tifs may also be in Potsdam/ itself, where some archives put them
"""
VAIHINGEN_TREE = """\
Vaihingen/                                  root (or a folder above it)
  top/top_mosaic_09cm_area1.tif             images: infrared, red, green
  dsm/dsm_09cm_matching_area1.tif           height in meters, for height=True
  top_mosaic_09cm_area1.tif                 masks, same names: a color per class
  top_mosaic_09cm_area1_noBoundary.tif      masks for eroded=True: black is ignored
masks may also be in a folder named like their archive, or, for the training tiles, in gts_for_participants/
"""
POTSDAM_TILES = {
    "train": (
        *("2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12"),
        *("6_7", "6_8", "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12"),
    ),
    "test": (
        *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
        *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
    ),
}
VAIHINGEN_TILES = {
    split: tuple(f"area{number}" for number in numbers)
    for split, numbers in {
        "train": (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37),
        "test": (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38),
    }.items()
}
BANDS = ("RGB", "IRRG", "RGBIR")
POTSDAM_CHANNELS = ImageChannels(("red", "green", "blue", "nir"), bands=(1, 2, 3, 4))
"""Of the images with four bands; the fourth is one whatever the files call it."""
VAIHINGEN_CHANNELS = ImageChannels(
    ("nir", "red", "green", "height"), range=((0, 255), (0, 255), (0, 255), (240, 360)), rgb=(0, 1, 2)
)
"""Of the images with their heights; these are about 240 to 360 m."""
BORDER = 6
"""The id of black in eroded masks."""

_COLORS = dict(enumerate(resolve_metadata("Potsdam").colors))  # the same as Vaihingen's
_POTSDAM_IMAGES = {"RGB": "2_Ortho_RGB", "IRRG": "3_Ortho_IRRG", "RGBIR": "4_Ortho_RGBIR"}
_POTSDAM_LABELS = {
    False: ("5_Labels_all", "", "5_Labels_for_participants"),
    True: ("5_Labels_all_noBoundary", "", "5_Labels_for_participants_no_Boundary"),
}
_VAIHINGEN_ARCHIVE = "ISPRS_semantic_labeling_Vaihingen"
_VAIHINGEN_LABELS = {
    False: ("", f"{_VAIHINGEN_ARCHIVE}_ground_truth_COMPLETE", "gts_for_participants"),
    True: (
        "",
        f"{_VAIHINGEN_ARCHIVE}_ground_truth_eroded_COMPLETE",
        f"{_VAIHINGEN_ARCHIVE}_ground_truth_eroded_for_participants",
    ),
}


def _potsdam(bands: str, eroded: bool) -> Edition:
    image = f"top_potsdam_*_{bands}.tif"
    mask = f"top_potsdam_*_label{'_noBoundary' if eroded else ''}.tif"
    return _edition(
        "Potsdam",
        tree=POTSDAM_TREE,
        source=f"get {_POTSDAM_IMAGES[bands]}.zip and {_POTSDAM_LABELS[eroded][0]}.zip, on request, from "
        f"{SITE}/2d-sem-label-potsdam.aspx",
        tiles=POTSDAM_TILES,
        images=(f"{_POTSDAM_IMAGES[bands]}/{image}", image),
        masks=_in_folders(_POTSDAM_LABELS[eroded], mask),
        eroded=eroded,
        unknown_colors="warn",
        prefixes=("", "Potsdam"),
        channels=POTSDAM_CHANNELS if bands == "RGBIR" else None,
    )


def _vaihingen(eroded: bool, height: bool) -> Edition:
    return _edition(
        "Vaihingen",
        tree=VAIHINGEN_TREE,
        source=f"get {_VAIHINGEN_ARCHIVE}.zip and {_VAIHINGEN_LABELS[eroded][1]}.zip, on request, from "
        f"{SITE}/2d-sem-label-vaihingen.aspx",
        tiles=VAIHINGEN_TILES,
        images=("top/top_mosaic_09cm_*.tif",),
        masks=_in_folders(_VAIHINGEN_LABELS[eroded], f"top_mosaic_09cm_*{'_noBoundary' if eroded else ''}.tif"),
        eroded=eroded,
        unknown_colors="error",
        prefixes=("", "Vaihingen", _VAIHINGEN_ARCHIVE),
        more_images=("dsm/dsm_09cm_matching_*.tif",) if height else (),
        channels=VAIHINGEN_CHANNELS if height else None,
    )


def _in_folders(folders: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" if folder else name for folder in folders)


def _edition(
    dataset: str,
    *,
    tree: str,
    source: str,
    tiles: Mapping[str, tuple[str, ...]],
    images: tuple[str, ...],
    masks: tuple[str, ...],
    eroded: bool,
    unknown_colors: str,
    prefixes: tuple[str, ...],
    more_images: tuple[str, ...] = (),
    channels: ImageChannels | None = None,
) -> Edition:
    metadata = resolve_metadata(dataset)
    return Edition(
        layout=Layout(
            dataset=dataset,
            source=source,
            tree=tree,
            # the images of both splits are in one folder: the lists of tiles tell them apart
            splits={
                split: SplitFiles(images, masks, keys=keys, more_images=more_images) for split, keys in tiles.items()
            },
            examples=tiles,
            aliases={"val": "test"},
            prefixes=prefixes,
        ),
        classes=dataset if channels is None else replace(metadata, channels=channels),
        label_map=LabelMap.identity(len(_COLORS), *((BORDER, UNKNOWN) if eroded else (UNKNOWN,))),
        mask_reader=_reader(eroded, unknown_colors),
    )


def _reader(eroded: bool, unknown_colors: str) -> ColorReader:
    return ColorReader({**_COLORS, BORDER: (0, 0, 0)} if eroded else _COLORS, unknown_colors)


def _check_eroded(eroded: bool) -> None:
    if not isinstance(eroded, bool):
        raise InvalidArgumentError(
            f"eroded must be False (full masks) or True (noBoundary masks, black ignored), got {eroded!r}"
        )


class Potsdam(OfficialDataset):
    """Potsdam's tiles with six classes.

    Every tile of the split must exist. Other arguments, attributes and errors are those of `OfficialDataset`.

    Args:
        bands: bands of the images: `"RGB"`, `"IRRG"` (near infrared, red, green), or `"RGBIR"` (red, green, blue, near
            infrared), whose samples have four channels.
        eroded: whether to read the masks with eroded boundaries, which are ignored, instead of the full masks.
        unknown_colors: how to handle colors that are not a class: `"warn"` ignores their pixels with a warning that
            names the file, the colors and their pixel counts, `"error"` raises.
    """

    editions = {  # noqa: RUF012 - not changed
        bands + ending: _potsdam(bands, eroded)
        for bands in BANDS
        for ending, eroded in (("", False), ("-eroded", True))
    }
    edition = editions["RGB"]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        bands: str = "RGB",
        eroded: bool = False,
        unknown_colors: str = "warn",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        _check_eroded(eroded)
        check_choice("bands", bands, BANDS)
        edition = self.editions[bands + ("-eroded" if eroded else "")]
        self.edition = replace(edition, mask_reader=_reader(eroded, unknown_colors))
        super().__init__(
            root,
            split,
            transforms,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )


class Vaihingen(OfficialDataset):
    """Vaihingen's tiles with six classes; the channels of its images are near infrared, red, green.

    Every tile of the split must exist. Other arguments, attributes and errors are those of `OfficialDataset`.

    Args:
        height: whether to read the surface model too, as a fourth channel: samples are then float32.
        eroded: whether to read the masks with eroded boundaries, which are ignored, instead of the full masks.
        unknown_colors: how to handle colors that are not a class: `"error"` raises, `"warn"` ignores their pixels with
            a warning that names the file, the colors and their pixel counts.
    """

    editions = {  # noqa: RUF012 - not changed
        name + ending: _vaihingen(eroded, height)
        for ending, height in (("", False), ("-height", True))
        for name, eroded in (("full", False), ("eroded", True))
    }
    edition = editions["full"]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        height: bool = False,
        eroded: bool = False,
        unknown_colors: str = "error",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        _check_eroded(eroded)
        if not isinstance(height, bool):
            raise InvalidArgumentError(f"height must be False or True (a fourth channel, from dsm/), got {height!r}")
        edition = self.editions[("eroded" if eroded else "full") + "-height" * height]
        self.edition = replace(edition, mask_reader=_reader(eroded, unknown_colors))
        super().__init__(
            root,
            split,
            transforms,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )
