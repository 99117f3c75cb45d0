"""LIP, Look Into Person: body parts and clothes of one person per image, 20 classes.

Small crops of people, of varying size: 30462 training images, 10000 validation images and 10000 test images without
masks. Some images are gray; they are converted to RGB. Masks contain 0 to 19. The background, 0, is a class and counts
in the mean. No value is ignored, so 255 comes only from padding.

Left and right are from the person's point of view: a horizontal flip must swap the classes of
`metadata.left_right_pairs` (arms, legs and shoes), which `SegmentationAugment(left_right_pairs=...)` does. The authors'
flipped masks are not needed.

Expected on disk: see `TREE`. Download: https://lip.sysuhcp.com/overview.php

License: non-commercial research and education. There is no automatic download.

Cite: K. Gong, X. Liang, D. Zhang, X. Shen, L. Lin, "Look into Person: Self-supervised Structure-sensitive Learning and
a New Benchmark for Human Parsing", CVPR 2017.
"""

from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["LIP"]

TREE = """\
LIP/                                     root (or a folder above it)
  train_images/1000_1234574.jpg
  train_segmentations/1000_1234574.png   masks: 0..19 classes
  val_images/100034_483681.jpg
  val_segmentations/100034_483681.png
  testing_images/....jpg                 no masks
  train_id.txt, val_id.txt               optional: which files belong to a split
the zips are nested: each folder and list may also be below TrainVal_images/, TrainVal_parsing_annotations/ or
Testing_images/, or those twice or, for the masks, three times
"""

_IMAGES, _MASKS, _TEST = "TrainVal_images", "TrainVal_parsing_annotations", "Testing_images"
_NESTINGS = (
    "",
    _IMAGES,
    f"{_IMAGES}/{_IMAGES}",
    _MASKS,
    f"{_MASKS}/{_MASKS}",
    f"{_MASKS}/{_MASKS}/{_MASKS}",
    _TEST,
    f"{_TEST}/{_TEST}",
)


def _split_files(split: str) -> SplitFiles:
    return SplitFiles(
        images=(f"{split}_images/*.jpg",), masks=(f"{split}_segmentations/*.png",), listing=f"{split}_id.txt"
    )


class LIP(OfficialDataset):
    """LIP's people with 20 classes including the background; `metadata.left_right_pairs` lists those to swap in a flip.

    If a split has a list (`train_id.txt`), it has the listed files, and each of them must exist; otherwise it has all
    files of the folder. Arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask
    None.
    """

    edition = Edition(
        layout=Layout(
            dataset="LIP",
            source=(
                "get TrainVal_images.zip and TrainVal_parsing_annotations.zip (test: Testing_images.zip) from "
                "https://lip.sysuhcp.com/overview.php"
            ),
            tree=TREE,
            splits={
                "train": _split_files("train"),
                "val": _split_files("val"),
                "test": SplitFiles(images=("testing_images/*.jpg",)),
            },
            examples={
                "train": ("1000_1234574", "77_471474"),
                "val": ("100034_483681",),
                "test": ("100012_501646",),
            },
            prefixes=(*_NESTINGS, *(f"LIP/{nesting}".rstrip("/") for nesting in _NESTINGS)),
        ),
        classes="LIP",
        label_map=LabelMap.identity(20),
    )
