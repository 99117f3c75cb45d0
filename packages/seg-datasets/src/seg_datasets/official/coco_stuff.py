"""COCO-Stuff: everyday scenes, 80 thing and 91 stuff classes, 118287 training images and 5000 validation images.

These are the images of COCO 2017 with the "stuffthingmaps", one PNG per image. A mask contains the number of the class
in `labels.txt` minus one, 0 to 181, and 255 for unlabeled pixels, which are ignored. Eleven of the values never occur,
because COCO dropped their classes (hat, shoe, plate, ...). The other 171 are converted to 0 to 170; one of the eleven
in a mask is an error. Some images are gray.

`label_set="COCOStuff27"` gives the 27 supercategories (12 of things, then 15 of stuff), in the order used by papers on
unsupervised segmentation, which evaluate on a subset of val. `label_set="VOC"` gives the 20 object classes of VOC, with
all other labeled pixels as background, so that models trained on VOC can be evaluated on it.

mmsegmentation's converter writes `X_labelTrainIds.png`, with the ids 0 to 170, beside `X.png`; these are left out.

The stuff annotations of the COCO API (ids 92 to 183) and COCO-Stuff 10k (.mat files) are not read.

Expected on disk: see `TREE`. Download: https://github.com/nightrome/cocostuff

License: annotations CC BY 4.0; images under the terms of Flickr.

Cite: H. Caesar, J. Uijlings, V. Ferrari, "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018.
"""

from seg_core.labels.label_map import IGNORE, LabelMap
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["COCOStuff"]

TREE = """\
root                                          (or a folder above it)
  images/train2017/000000000009.jpg           or train2017/, as in train2017.zip
  images/val2017/000000000139.jpg
  annotations/train2017/000000000009.png      or stuffthingmaps/train2017/, or train2017/, as in the zip;
  annotations/val2017/000000000139.png        masks: 0..181 with eleven holes, 255 ignored
"""
NUM_RAW = 182
HOLES = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # values of the classes that COCO dropped; in no mask
IMAGES = "http://images.cocodataset.org/zips"
MASKS = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip"


def _split_files(folder: str) -> SplitFiles:
    return SplitFiles(
        images=(f"images/{folder}/*.jpg", f"{folder}/*.jpg"),
        masks=(
            f"annotations/{folder}/*.png",
            f"stuffthingmaps/{folder}/*.png",
            f"stuffthingmaps_trainval2017/{folder}/*.png",
            f"{folder}/*.png",
        ),
    )


class COCOStuff(OfficialDataset):
    """COCO-Stuff's scenes with 171 classes, 27 supercategories, or the classes of VOC; unlabeled pixels are ignored.

    Arguments, attributes and errors are those of `OfficialDataset`. `label_set` may be `"COCOStuff27"` or `"VOC"`.
    """

    edition = Edition(
        layout=Layout(
            dataset="COCOStuff",
            source=(
                f"get train2017.zip and val2017.zip from {IMAGES}/ and unpack them in images/, and {MASKS} in "
                "annotations/"
            ),
            tree=TREE,
            splits={"train": _split_files("train2017"), "val": _split_files("val2017")},
            examples={"train": ("000000000009", "000000000025"), "val": ("000000000139",)},
            aliases={"train2017": "train", "val2017": "val"},
            prefixes=("", "dataset", "coco_stuff164k"),
            archives=(
                Archive(f"{IMAGES}/train2017.zip", into="images", splits=("train",)),
                Archive(f"{IMAGES}/val2017.zip", into="images", splits=("val",)),
                Archive(MASKS, into="annotations"),
            ),
        ),
        classes="COCOStuff",
        label_map=LabelMap(
            {
                **{raw: index for index, raw in enumerate(raw for raw in range(NUM_RAW) if raw not in HOLES)},
                255: IGNORE,
            }
        ),
    )
