"""iSAID: objects in aerial images, 15 classes and the background, on the images of DOTA-v1.0.

1411 training images, 458 validation images and 937 test images without masks, with sides from about 800 to 13000
pixels. The masks store a color per class, some of them very similar: never resize them or save them as JPEG before
they are decoded. A color that is not a class is an error unless `unknown_colors="warn"`.

Reads whole images or patches of them, depending on the folder. The largest images take seconds and more than a
gigabyte to decode, so crop them to patches before training. The authors' development kit crops patches of 800x800
pixels with names such as P0002_0_0_800_800.png, and the mask P0002_0_0_800_800_instance_color_RGB.png in the same
folder. mmsegmentation's converter crops patches of 896x896 into img_dir and ann_dir; its masks have the same kind of
name but contain the ids 0 to 15 instead of colors. The instance masks, *_instance_id_RGB.png, are not read.

There are two conventions, so report which one you use: `iSAID` has 16 classes, the first of which is the background;
with `label_set="iSAID15"` the background is ignored and the 15 classes of the development kit remain.

Expected on disk: see `TREE`. Download: https://captain-whu.github.io/iSAID/ (masks), and
https://captain-whu.github.io/DOTA/dataset.html (images).

License: academic use only; images under the terms of Google Earth and others. There is no automatic download.

Cite: S. Waqas Zamir, A. Arora, A. Gupta, S. Khan, G. Sun, F. Shahbaz Khan, F. Zhu, L. Shao, G.-S. Xia, X. Bai, "iSAID:
A Large-scale Dataset for Instance Segmentation in Aerial Images", CVPR Workshops 2019; G.-S. Xia et al., "DOTA: A
Large-scale Dataset for Object Detection in Aerial Images", CVPR 2018.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["iSAID"]

TREE = """\
iSAID/                                           root (or a folder above it), as in the development kit
  train/images/P0002.png
  train/images/P0002_instance_color_RGB.png      masks: a color per class, black is background
  val/images/P0003.png, val/images/P0003_instance_color_RGB.png
  test/images/P0006.png                          no masks
patches of the development kit: the same in iSAID_patches/
or as downloaded: the masks in train/Semantic_masks/images/, the images in train/images/ or train/images/images/
or as cropped by mmsegmentation:
  img_dir/train/P0000_0_896_0_896.png
  ann_dir/train/P0000_0_896_0_896_instance_color_RGB.png    masks: ids 0..15
"""
COLORS = dict(enumerate(resolve_metadata("iSAID").colors))

_SEMANTIC = "_instance_color_RGB.png"
_INSTANCES = "_instance_id_RGB.png"


def _split_files(split: str) -> SplitFiles:
    return SplitFiles(
        images=(f"{split}/images/*.png", f"{split}/images/images/*.png", f"img_dir/{split}/*.png"),
        masks=()
        if split == "test"
        else tuple(
            f"{folder}/*{_SEMANTIC}"
            for folder in (f"{split}/images", f"{split}/Semantic_masks/images", f"ann_dir/{split}")
        ),
        exclude=(_SEMANTIC, _INSTANCES),
    )


class iSAID(OfficialDataset):  # noqa: N801 (the name of the dataset)
    """iSAID's aerial images with 16 classes, of which the first is the background.

    With `label_set="iSAID15"` the background is ignored, and every id is one lower; networks of one do not fit the
    other.

    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        unknown_colors: how to handle colors that are not a class: `"error"` raises, `"warn"` ignores their pixels with
            a warning that names the file, the colors and their pixel counts.
    """

    edition = Edition(
        layout=Layout(
            dataset="iSAID",
            source=(
                "get Semantic_masks from https://captain-whu.github.io/iSAID/ and the images of DOTA-v1.0 from "
                "https://captain-whu.github.io/DOTA/dataset.html"
            ),
            tree=TREE,
            splits={split: _split_files(split) for split in ("train", "val", "test")},
            examples={"train": ("P0002", "P0010"), "val": ("P0003", "P0004"), "test": ("P0006",)},
            prefixes=("", "iSAID", "iSAID_patches"),
        ),
        classes="iSAID",
        label_map=LabelMap.identity(len(COLORS), UNKNOWN),
        mask_reader=ColorReader(COLORS, "error"),
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        unknown_colors: str = "error",
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.edition = replace(self.edition, mask_reader=ColorReader(COLORS, unknown_colors))
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
