"""Files that converters and viewers of other toolkits write beside official masks, told apart by their endings.

mmsegmentation's `coco_stuff164k.py` and `coco_stuff10k.py` write `X_labelTrainIds.png` beside `X.png`; the scripts of
Cityscapes write `_labelTrainIds`, `_instanceIds`, `_instanceTrainIds` and `_color`; BDD100K's release of 2018 has
`_train_id` and `_train_color`. Their names match glob patterns such as `*.png`, but their values are other ids.

A file with such an ending is left out only if the file without the ending is there too: alone it may have an official
name by chance.
"""

from collections.abc import Mapping
from pathlib import Path

from seg_datasets.reading.file_table import FileTable

__all__ = ["CONVERTED", "is_converted", "without_converted"]

CONVERTED = (
    *("_labelTrainIds", "_labelIds", "_trainIds", "_train_ids", "_train_id", "_trainId", "_labels", "_label"),
    *("_instanceTrainIds", "_instanceIds", "_instance", "_instances", "_panoptic", "_semantic", "_stuff"),
    *("_train_color", "_color", "_colored", "_colors", "_rgb", "_palette", "_vis", "_overlay", "_blend"),
    *("_edge", "_edges", "_boundary", "_gray", "_pred", "_mask"),
)
"""Endings of names, without the suffix of the file."""


def is_converted(key: str) -> bool:
    """Returns whether the key of a file has the ending of a converted one."""
    return key.endswith(CONVERTED)


def without_converted(files: Mapping[str, Path]) -> FileTable:
    """Returns the files, by key, without the converted ones whose original is there too.

    >>> sorted(without_converted({"1": Path("1.png"), "1_labelTrainIds": Path("x.png"), "2_color": Path("2.png")}))
    ['1', '2_color']
    """
    converted = {
        key
        for key in files
        if is_converted(key) and any(key.removesuffix(ending) in files for ending in CONVERTED if key.endswith(ending))
    }
    files = FileTable.of(files)
    return files.where(key not in converted for key in files) if converted else files
