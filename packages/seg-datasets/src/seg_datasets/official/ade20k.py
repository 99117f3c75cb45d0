"""ADE20K, MIT Scene Parsing Benchmark: SceneParse150 (ADEChallengeData2016).

Indoor and outdoor scenes with 150 classes: 20210 training images, 2000 validation images, and test images without
masks. The shorter side is from about 100 to over 2000 pixels; some images are gray.

Masks contain 1 to 150 for the classes and 0 for everything else, which training and evaluation ignore. They are
converted to 0 to 149 and 255: 0 is not a background class. The full ADE20K release, with color masks, is not read.

Expected on disk: see `TREE`. Download: http://sceneparsing.csail.mit.edu/

License: images for non-commercial research and education; annotations BSD-3.

Cite: B. Zhou, H. Zhao, X. Puig, S. Fidler, A. Barriuso, A. Torralba, "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from seg_core.labels.label_map import IGNORE, LabelMap
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["ADE20K"]

TREE = """\
ADEChallengeData2016/                              root (or a folder above it)
  images/training/ADE_train_00000001.jpg
  annotations/training/ADE_train_00000001.png      masks: 1..150 classes, 0 ignored
  images/validation/ADE_val_00000001.jpg
  annotations/validation/ADE_val_00000001.png
release_test/testing/ADE_test_00000001.jpg         test images, next to it or inside; no masks
"""
SITE = "http://data.csail.mit.edu/places/ADEchallenge"


class ADE20K(OfficialDataset):
    """ADE20K's scenes with 150 classes; pixels of no class (0 on disk) become the ignore value 255.

    Arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.
    """

    edition = Edition(
        layout=Layout(
            dataset="ADE20K",
            source=f"get ADEChallengeData2016.zip (test: release_test.zip) from {SITE}/",
            tree=TREE,
            splits={
                "train": SplitFiles(images=("images/training/*.jpg",), masks=("annotations/training/*.png",)),
                "val": SplitFiles(images=("images/validation/*.jpg",), masks=("annotations/validation/*.png",)),
                "test": SplitFiles(images=("release_test/testing/*.jpg", "testing/*.jpg", "images/testing/*.jpg")),
            },
            examples={
                "train": ("ADE_train_00000001", "ADE_train_00000970"),
                "val": ("ADE_val_00000001", "ADE_val_00000002"),
                "test": ("ADE_test_00000001",),
            },
            aliases={"training": "train", "validation": "val", "testing": "test"},
            prefixes=("", "ADEChallengeData2016"),
            top="ADEChallengeData2016",
            archives=(
                Archive(f"{SITE}/ADEChallengeData2016.zip", splits=("train", "val")),
                Archive(f"{SITE}/release_test.zip", splits=("test",)),
            ),
        ),
        classes="ADE20K",
        label_map=LabelMap({0: IGNORE, **{raw: raw - 1 for raw in range(1, 151)}}),
    )
