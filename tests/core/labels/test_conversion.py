"""Conversions between label sets."""

import json
from importlib import resources

import numpy as np
import pytest

from seg_core import IGNORE, DatasetMetadata, UnknownNameError, label_map_between, list_conversions, resolve_metadata

FILES = sorted(
    (f for f in (resources.files("seg_core") / "labels" / "conversions").iterdir() if f.name.endswith(".json")),
    key=lambda file: file.name,
)
TABLES = [
    pytest.param(values["to"], source, table, id=f"{source}-{values['to']}")
    for file in FILES
    for values in [json.loads(file.read_text("utf-8"))]
    for source, table in values["from"].items()
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_bears_the_name_of_its_target(file):
    assert json.loads(file.read_text("utf-8"))["to"].lower() + ".json" == file.name


@pytest.mark.parametrize(("target", "source", "table"), TABLES)
def test_table_lists_every_class_and_names_only_classes(target, source, table):
    assert list(table) == list(resolve_metadata(source).labels)
    named = {name for name in table.values() if name is not None}
    assert named <= set(resolve_metadata(target).labels)


@pytest.mark.parametrize(("target", "source", "table"), TABLES)
def test_map_takes_each_class_to_the_named_one_and_ignored_stay_ignored(target, source, table):
    have, want = resolve_metadata(source), resolve_metadata(target)
    mapped = label_map_between(source, target)(np.array([*range(have.num_classes), have.ignore_index]))
    expected = [want.ignore_index if name is None else want.labels.index(name) for name in table.values()]
    assert mapped.tolist() == [*expected, want.ignore_index]


@pytest.mark.parametrize("target", ["Street", "Aerial"])
def test_every_class_of_a_joined_set_comes_from_somewhere(target):
    reached = set()
    for source in list_conversions(target):
        reached |= {train for train in label_map_between(source, target).mapping.values() if train is not IGNORE}
    assert reached == set(range(resolve_metadata(target).num_classes))


def test_list_conversions_names_what_can_join():
    assert list_conversions("Aerial") == ("LoveDA", "Potsdam", "Vaihingen")
    assert {"BDD100K", "Cityscapes", "CityscapesClass", "MapillaryVistas"} <= set(list_conversions("Street"))
    assert list_conversions("nothing") == ()


def test_same_classes_in_another_order_need_no_table():
    ours = DatasetMetadata("mine", ("b", "a"))
    theirs = DatasetMetadata("theirs", ("a", "b"), ignore_index=9)
    assert label_map_between(ours, theirs)(np.array([0, 1, 255])).tolist() == [1, 0, 9]


def test_unknown_conversion_error_lists_what_there_is():
    with pytest.raises(
        UnknownNameError, match=r"from label set 'VOC' to 'Aerial' is known.*to 'Aerial': LoveDA, Potsdam, Vaihingen"
    ):
        label_map_between("VOC", "Aerial")
    with pytest.raises(UnknownNameError, match="can be converted to 'CamVid': none"):
        label_map_between("VOC", "CamVid")
