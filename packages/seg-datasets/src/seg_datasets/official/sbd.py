"""SBD, the Semantic Boundaries Dataset: masks for more images of PASCAL VOC, with the same classes.

Images of VOC 2011, 8498 for training and 2857 for validation, with VOC's 20 object classes and the background.
`train_noval` has the 5623 images that are not in VOC 2012's val; its list is a separate download.

Train and val contain images of VOC 2012's val. A network trained on them has seen the images of VOC's val. To evaluate
on VOC's val, train on `train_noval`, or on VOC's `trainaug`.

Masks are MATLAB files, which need scipy (`pip install 'seg-datasets[mat]'`): a struct `GTcls` with the ids 0 to 20 in
its field `Segmentation`. Unlike VOC's masks they have no border of 255 around the objects. The boundaries of each class
in the same files, and the instances in `inst`, are not read.

Expected on disk: see `TREE`. Download: http://home.bharathh.info/pubs/codes/SBD/download.html

License: for research; the images come from Flickr through PASCAL VOC 2011.

Cite: B. Hariharan, P. Arbelaez, L. Bourdev, S. Maji, J. Malik, "Semantic Contours from Inverse Detectors", ICCV 2011.
"""

from pathlib import Path
from typing import Any

import numpy.typing as npt

from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles
from seg_datasets.reading.mat_files import read_mat
from seg_datasets.reading.samples import Reading

__all__ = ["SBD", "read_sbd_mask"]

TREE = """\
benchmark_RELEASE/dataset/      root (or a folder above it)
  img/2008_000002.jpg
  cls/2008_000002.mat           masks: GTcls.Segmentation, 0 background, 1..20 the classes of VOC
  train.txt, val.txt            which images belong to a split
  train_noval.txt               a separate download: the images that are not in VOC 2012's val
"""
ARCHIVE = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
NOVAL_LIST = "http://home.bharathh.info/pubs/codes/SBD/train_noval.txt"
WITH_VOC_VAL = ("train", "val")  # splits with images of VOC 2012's val


def read_sbd_mask(path: Path, _reading: Reading | None = None) -> npt.NDArray[Any]:
    """Returns the ids (H, W) of a file in the folder `cls`.

    Raises:
        MissingDependencyError: if scipy is not installed.
        CorruptFileError: if the file is damaged.
        DatasetNotFoundError: if the file no longer exists.
    """
    return read_mat(path, "GTcls", "Segmentation")


def _split_files(split: str) -> SplitFiles:
    warning = (
        f"SBD {split} contains images of VOC 2012's val: to evaluate on that, train on SBD's train_noval or on VOC's "
        "trainaug"
    )
    return SplitFiles(
        images=("img/*.jpg",),
        masks=("cls/*.mat",),
        listing=f"{split}.txt",
        needs_listing=True,
        warning=warning if split in WITH_VOC_VAL else "",
    )


class SBD(OfficialDataset):
    """SBD's images with the 21 classes of VOC; no pixel is ignored.

    Opening train or val emits a warning, because they contain images of VOC 2012's val. Arguments, attributes and
    errors are those of `OfficialDataset`; reading a sample also raises `MissingDependencyError` if scipy is not
    installed.
    """

    edition = Edition(
        layout=Layout(
            dataset="SBD",
            source=f"get benchmark.tgz from {ARCHIVE} (train_noval: also {NOVAL_LIST}, into the folder of train.txt)",
            tree=TREE,
            splits={split: _split_files(split) for split in ("train", "val", "train_noval")},
            examples={
                "train": ("2008_000002", "2008_000003"),
                "val": ("2008_000033",),
                "train_noval": ("2008_000002", "2008_000008"),
            },
            prefixes=("", "dataset", "benchmark_RELEASE/dataset"),
            top="benchmark_RELEASE/dataset",
            archives=(
                Archive(ARCHIVE, "md5:82b4d87ceb2ed10f6038a1cba92111cb", provides="img"),
                Archive(
                    NOVAL_LIST,
                    "md5:79bff800c5f0b1ec6b21080a3c066722",
                    into="benchmark_RELEASE/dataset",
                    splits=("train_noval",),
                    provides="train_noval.txt",
                ),
            ),
        ),
        classes="SBD",
        label_map=LabelMap.identity(21),
        mask_reader=read_sbd_mask,
    )
