"""The task of a label set: multiclass, binary or multilabel."""

import pytest

from seg_core import DatasetMetadata, InvalidArgumentError


def test_default_task_leaves_files_as_they_were():
    metadata = DatasetMetadata("mine", ("a", "b"))
    assert metadata.task == "multiclass" and metadata.num_ids == 2 and "task" not in metadata.to_dict()


def test_binary_has_one_label_and_masks_of_two_values():
    metadata = DatasetMetadata("vessels", ("vessel",), task="binary")
    assert (metadata.num_classes, metadata.num_ids) == (1, 2)
    assert DatasetMetadata.from_dict(metadata.to_dict()) == metadata


def test_multilabel_has_any_number_of_labels():
    metadata = DatasetMetadata("discs", ("a", "b", "c"), task="multilabel", ignore_index=2)
    assert (metadata.num_classes, metadata.num_ids) == (3, 2)
    assert metadata.to_dict()["task"] == "multilabel"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"task": "bynary"}, "task must be one of .*, got 'bynary'. Did you mean 'binary'"),
        ({"task": None}, "task must be one of"),
        ({"task": "binary"}, "a binary task has one label"),
        ({"task": "multilabel", "ignore_index": 1}, "ignore_index must be 2 to 255"),
        ({"task": "multilabel", "ignore_index": 256}, "ignore_index must be 2 to 255"),
        ({"task": "binary", "labels": ("a",), "ignore_index": 1}, "ignore_index must be 2 to 255"),
    ],
)
def test_wrong_tasks_are_named(fields, match):
    with pytest.raises(InvalidArgumentError, match=match):
        DatasetMetadata(**{"name": "mine", "labels": ("a", "b"), **fields})
