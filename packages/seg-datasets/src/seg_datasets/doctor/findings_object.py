"""The finding about masks of one object, as black and white, whose classes do not say that the task is binary."""

import json
from collections.abc import Sequence

from seg_core.errors import counted
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.raw_ids import label_map_line
from seg_datasets.doctor.checked import PARAMS, finding
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source

__all__ = ["object_finding"]


def object_finding(source: Source, metadata: DatasetMetadata, paths: Sequence[str]) -> DataFinding:
    """Returns the finding about masks of 0 and 255 alone where there is one class of a multiclass task.

    Args:
        source: the dataset.
        metadata: the class.
        paths: the masks that hold 255.
    """
    label = json.dumps(metadata.labels[0], ensure_ascii=False)
    text = (
        "the masks hold 0 and 255 alone, as image editors write black and white, and there is one class, "
        f"{metadata.labels[0]!r}, where two are needed ({counted(len(paths), 'mask')})"
    )
    remedy = f'write task = "binary" beside labels = [{label}] in the classes, and read 255 as 1 with this label_map'
    label_map = LabelMap({0: 0, 255: 1}, ignore_index=metadata.ignore_index)
    return finding(source, "binary-0-255", paths, text, remedy, f"{PARAMS}.{label_map_line(label_map)}")
