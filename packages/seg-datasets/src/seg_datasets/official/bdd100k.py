"""BDD100K, the semantic segmentation of its 10K images: US street scenes from a driving car.

7000 training images, 1000 validation images and 2000 test images without masks, all 1280x720. The images are those
of `images/10k`; `images/100k` contains other images, without these masks. The masks already contain the train ids of
Cityscapes: 0 to 18, and 255 for pixels of none of the 19 classes. The list of 41 ids belongs to the polygons and
panoptic masks. The folders `colormaps` and `color_labels` are for display and are not read.

Archives from before mid-2021 have a few images without a mask and masks without an image (four of each for training,
two of each for validation). They are left out with a warning; `missing="error"` raises instead.

Expected on disk: see `TREE`. Download, after registration: https://bdd-data.berkeley.edu/

License: UC Regents, free for education, research and not-for-profit use. There is no automatic download.

Cite: F. Yu, H. Chen, X. Wang, W. Xian, Y. Chen, F. Liu, V. Madhavan, T. Darrell, "BDD100K: A Diverse Driving Dataset
for Heterogeneous Multitask Learning", CVPR 2020.
"""

import os
from collections.abc import Callable
from typing import Any

from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["BDD100K"]

TREE = """\
bdd100k/                                             root (or a folder above it)
  images/10k/train/0004a4c0-d4dff0ad.jpg
  labels/sem_seg/masks/train/0004a4c0-d4dff0ad.png   masks: 0..18 classes, 255 ignored
  images/10k/val/7d06fefd-f7be05a6.jpg
  labels/sem_seg/masks/val/7d06fefd-f7be05a6.png
  images/10k/test/....jpg                            no masks
the layout of 2018 works too:
  seg/images/train/0004a4c0-d4dff0ad.jpg
  seg/labels/train/0004a4c0-d4dff0ad_train_id.png
"""
UNKNOWN = 255

_IMAGE_ZIPS = ("bdd100k_images_10k", "10k_images_train", "10k_images_val", "10k_images_test")
_LABEL_ZIP = "bdd100k_sem_seg_labels_trainval"


def _split_files(split: str) -> SplitFiles:
    return SplitFiles(
        images=(f"images/10k/{split}/*.jpg", f"seg/images/{split}/*.jpg"),
        masks=() if split == "test" else (f"labels/sem_seg/masks/{split}/*.png", f"seg/labels/{split}/*_train_id.png"),
    )


class BDD100K(OfficialDataset):
    """BDD100K's 10K images with the 19 classes of Cityscapes; other pixels have the ignore value 255.

    Images and masks without a partner are left out with a warning, unless `missing="error"`. Otherwise arguments,
    attributes and errors are those of `OfficialDataset`. Test images have the mask None.
    """

    edition = Edition(
        layout=Layout(
            dataset="BDD100K",
            source="get '10K Images' and 'Segmentation' from https://bdd-data.berkeley.edu/ (after registration)",
            tree=TREE,
            splits={split: _split_files(split) for split in ("train", "val", "test")},
            examples={
                "train": ("0004a4c0-d4dff0ad", "00054602-3bf57337"),
                "val": ("7d06fefd-f7be05a6",),
                "test": ("ac6d4f42-7b2f9a10",),
            },
            # each zip creates a folder bdd100k
            prefixes=("", "bdd100k", *(f"{name}/bdd100k" for name in (*_IMAGE_ZIPS, _LABEL_ZIP))),
            top="bdd100k",
        ),
        classes="BDD100K",
        label_map=LabelMap.identity(19, UNKNOWN),
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        label_set: str | None = None,
        missing: str = "skip",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
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
