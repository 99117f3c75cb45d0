"""Comparison of two datasets or splits."""

import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from seg_core import DatasetNotFoundError, InvalidArgumentError
from seg_core.command import main
from seg_datasets import compare, fake, stats
from seg_datasets.doctor.compare import jensen_shannon


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Writes a folder of rows of ids, split -> rows; an image has the value of its split's place in all channels."""

    def write(name, labels=("ground", "leaf", "stone"), **splits):
        root = tmp_path / name
        for place, (split, rows) in enumerate(splits.items()):
            for number, row in enumerate(rows):
                ids = np.array([row], np.uint8)
                for kind, pixels in (("images", np.full((1, len(row), 3), 51 * place, np.uint8)), ("masks", ids)):
                    path = root / split / kind / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
                    os.utime(path, ns=(0, 10**18))
        (root / "classes.toml").write_text(f"labels = {json.dumps(labels)}")
        return root

    return write


@pytest.fixture
def tree(write):
    return write("mine", train=[[0, 0, 1, 2], [0, 0, 0, 1, 255]], val=[[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("first", "second", "divergence"),
    [
        ([1, 2, 3], [10, 20, 30], 0.0),
        ([1, 0], [0, 5], 1.0),
        # to the mean (3/4, 1/4): (log2(2/3) / 2 + log2(2) / 2 + log2(4/3)) / 2
        ([1, 1], [1, 0], (math.log2(2 / 3) / 2 + 1 / 2 + math.log2(4 / 3)) / 2),
    ],
)
def test_distance_is_0_for_the_same_shares_and_1_for_none_in_common(first, second, divergence):
    assert jensen_shannon(first, second) == pytest.approx(math.sqrt(divergence))
    assert jensen_shannon(second, first) == pytest.approx(math.sqrt(divergence))


def test_distance_to_nothing_is_not_defined():
    assert math.isnan(jensen_shannon([0, 0], [1, 2]))


def test_splits_of_a_folder_are_compared_by_shares_of_labeled_pixels(tree):
    found = compare(tree)
    assert [side.name for side in found.sides] == ["train", "val"]
    rows = {row.label: row for row in found.classes}
    assert rows["ground"].shares == (5 / 8, 1 / 4)
    assert rows["ground"].difference == 1 / 4 - 5 / 8
    assert rows["leaf"].images == (1.0, 1.0)
    assert rows["stone"].shares == (1 / 8, 0.0)
    assert found.distance == pytest.approx(jensen_shannon([5, 2, 1], [1, 3, 0]))
    assert found.sides[0].stats.ignored == 1
    assert [side.stats.mean.tolist() for side in found.sides] == [[0.0] * 3, [0.2] * 3]
    assert found.warnings == ["stone: in no mask of val, but in masks of train"]


def test_order_of_splits_is_as_given(tree):
    found = compare(tree, splits=["val", "train"])
    assert [side.name for side in found.sides] == ["val", "train"]
    assert found.classes[0].shares == (1 / 4, 5 / 8)


def test_two_folders_are_compared_with_all_their_splits(tree, write):
    other = write("other", train=[[0, 1, 2, 2]], val=[[0], [0, 0]])
    found = compare(tree, other)
    assert [side.name for side in found.sides] == ["mine", "other"]
    assert found.classes[2].shares == (1 / 12, 2 / 7)
    assert found.sides[0].quantiles() == {"height": [1] * 5, "width": [2, 2, 2, 4, 5]}
    own = stats(tree).splits
    assert found.sides[0].stats.pixels.tolist() == (own["train"].pixels + own["val"].pixels).tolist()
    assert found.sides[0].stats.mean[0] == pytest.approx(0.2 * 4 / 13)
    assert found.warnings == []
    assert compare(tree, other, splits=["train"]).classes[2].shares == (1 / 8, 2 / 4)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            ("ground", "leaf", "water"),
            "the classes differ (3 and 3): only mine has stone; only other has water; they are compared by their names",
        ),
        (("leaf", "ground", "stone"), "the classes have the same names in another order"),
    ],
)
def test_other_classes_are_told_and_compared_by_name(tree, write, labels, sentence):
    found = compare(tree, write("other", labels, train=[[0, 1, 2]], val=[[1, 2]]))
    assert found.warnings[0].startswith(sentence)
    rows = {row.label: row for row in found.classes}
    assert rows[labels[1]].shares[1] == 2 / 5
    if "water" in labels:
        assert list(rows) == ["ground", "leaf", "stone", "water"]
        assert (rows["water"].shares, rows["water"].difference) == ((None, 2 / 5), None)
        assert found.distance == pytest.approx(jensen_shannon([6, 5, 1, 0], [1, 2, 0, 2]))


def test_named_datasets_take_their_roots_in_order(fake_tree):
    roots = [fake_tree("CamVid"), fake_tree("VOC")]
    found = compare("CamVid", "VOC", root=roots, splits=["val"])
    assert [side.name for side in found.sides] == ["CamVid", "VOC"]
    assert [side.stats.num_images for side in found.sides] == [1, 1]
    mixed = compare(roots[0], "VOC", root=roots[1], splits=["val"])
    assert mixed.to_dict() == found.to_dict()


def test_the_same_dataset_in_two_folders_has_the_names_of_these(fake_tree, tmp_path):
    other = fake("CamVid", tmp_path / "copy")
    found = compare(fake_tree("CamVid"), other, splits=["val"])
    assert [side.name for side in found.sides] == ["CamVid", "copy"]
    assert found.distance == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"splits": ["train"]}, InvalidArgumentError, "splits must be two different ones .* got train"),
        ({"splits": ["val", "val"]}, InvalidArgumentError, "splits must be two different ones .* got val, val"),
        ({"b": "gone"}, DatasetNotFoundError, "gone is neither a folder"),
        (
            {"b": "mine", "root": "x"},
            InvalidArgumentError,
            "once for each dataset that is given by name, 0 here, got 1",
        ),
        ({"root": ["x", "y"]}, InvalidArgumentError, "root must be one folder for one dataset, got 2"),
        ({"splits": ["train", "test"]}, InvalidArgumentError, "test has no masks, so its classes cannot be compared"),
    ],
)
def test_wrong_arguments_are_named(tree, monkeypatch, arguments, error, words):
    path = tree / "test" / "images" / "a.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(path)
    monkeypatch.chdir(tree.parent)
    with pytest.raises(error, match=words):
        compare("mine", **arguments)


def test_command_prints_tables_and_warnings(tree, capsys):
    assert main(["datasets", "compare", str(tree), "--split", "train", "--split", "val"]) == 0
    shown = capsys.readouterr()
    (line,) = (line for line in shown.out.splitlines() if line.startswith("ground"))
    assert line.split() == ["ground", "62.500", "%", "25.000", "%", "-37.500", "100.0", "%", "50.0", "%"]
    (line,) = (line for line in shown.out.splitlines() if line.startswith("stone"))
    assert "absent" in line
    assert f"class shares: {jensen_shannon([5, 2, 1], [1, 3, 0]):.4f}" in shown.out
    assert "seg: warning: stone: in no mask of val, but in masks of train" in shown.err


def test_command_writes_json(tree, write, capsys):
    other = write("other", ("ground", "leaf", "water"), train=[[0, 1, 2]], val=[[1, 2]])
    assert main(["datasets", "compare", str(tree), str(other), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads(json.dumps(compare(tree, other).to_dict()))
    assert values["classes"][3] == {"name": "water", "shares": [None, 0.4], "difference": None, "images": [None, 1.0]}
    assert main(["datasets", "compare", str(tree), str(other)]) == 0
    assert "no such class" in capsys.readouterr().out


def binary(root, width=80, ignored=0, labels=("vessel",), task="binary", **splits):
    """Writes splits of one mask whose first pixels, as many as given, are the object, and the last are ignored."""
    for split, count in splits.items():
        row = np.zeros(width, np.uint8)
        row[:count] = 1
        row[width - ignored :] = 255
        for kind, pixels in (("images", np.zeros((1, width, 3), np.uint8)), ("masks", row[None])):
            path = root / split / kind / "0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (root / "classes.toml").write_text(f"labels = {json.dumps(labels)}\ntask = {json.dumps(task)}\n")
    return root


def test_an_object_is_compared_with_what_is_not_the_object(tmp_path, capsys):
    root = binary(tmp_path / "a", train=2, val=40)
    found = compare(root)
    expected = jensen_shannon([2, 78], [40, 40])
    assert expected > 0.4
    (row,) = found.classes
    assert row.shares == (0.025, 0.5)
    assert row.difference == pytest.approx(0.475)
    assert row.distance == found.distance == pytest.approx(expected)
    assert found.most_different == "vessel"
    assert main(["datasets", "compare", str(root)]) == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("vessel"))
    assert line.split() == [
        "vessel",
        "2.500",
        "%",
        "50.000",
        "%",
        "+47.500",
        "100.0",
        "%",
        "100.0",
        "%",
        f"{expected:.4f}",
    ]
    assert (
        f"Largest Jensen-Shannon distance of a class, vessel, by pixels with and without it: {expected:.4f} (0" in text
    )
    assert main(["datasets", "compare", str(root), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["classes"][0]["distance"] == values["jensen_shannon_distance"] == found.distance
    assert [side["task"] for side in values["sides"]] == ["binary"] * 2


def test_ignored_pixels_are_no_part_of_the_share_of_an_object(tmp_path):
    found = compare(binary(tmp_path / "a", ignored=40, train=2, val=20))
    assert found.classes[0].shares == (0.05, 0.5)
    assert compare(binary(tmp_path / "b", train=20, val=20)).distance == 0


def test_two_objects_have_no_distance(tmp_path, capsys):
    one = binary(tmp_path / "one", train=20, val=20)
    two = binary(tmp_path / "two", labels=("road",), train=40, val=40)
    found = compare(one, two)
    assert math.isnan(found.distance)
    assert [row.distance for row in found.classes] == [None, None]
    assert found.most_different is None
    assert main(["datasets", "compare", str(one), str(two)]) == 0
    assert "distance of a class, by pixels with and without it: not defined" in capsys.readouterr().out


def multilabel(root, **splits):
    """Writes splits of one mask of two classes, each of which has as many of the first pixels; None ignores it."""
    for split, counts in splits.items():
        rows = [np.full(80, 255) if count is None else np.arange(80) < count for count in counts]
        planes = [Image.fromarray(row.astype(np.uint8)[None]) for row in rows]
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((1, 80, 3), np.uint8)).save(root / split / "images/0.png")
        planes[0].save(root / split / "masks/0.tif", save_all=True, append_images=planes[1:])
    (root / "classes.toml").write_text('labels = ["red", "green"]\ntask = "multilabel"\n')
    return root


def test_classes_of_a_multilabel_task_are_compared_one_by_one(tmp_path):
    # a third and two thirds of the sum of both in train and in val
    found = compare(multilabel(tmp_path / "a", train=(10, 20), val=(20, 40)))
    assert [row.shares for row in found.classes] == [(0.125, 0.25), (0.25, 0.5)]
    own = [jensen_shannon([10, 70], [20, 60]), jensen_shannon([20, 60], [40, 40])]
    assert [row.distance for row in found.classes] == pytest.approx(own)
    assert (found.distance, found.most_different) == (pytest.approx(max(own)), "green")
    assert 0 < own[0] < own[1]


def test_a_class_that_is_ignored_in_a_split_has_no_distance(tmp_path):
    found = compare(multilabel(tmp_path / "a", train=(10, 20), val=(None, 20)))
    assert [row.distance for row in found.classes] == [None, 0]
    assert (found.distance, found.most_different) == (0, "green")


def test_sides_of_two_tasks_are_compared_by_the_classes_of_both(tmp_path):
    one = binary(tmp_path / "one", train=2, val=2)
    two = binary(tmp_path / "two", labels=("background", "vessel"), task="multiclass", train=40, val=40)
    found = compare(one, two)
    rows = {row.label: row for row in found.classes}
    assert rows["vessel"].shares == (0.025, 0.5)
    assert (rows["background"].shares, rows["background"].distance) == ((None, 0.5), None)
    assert found.distance == pytest.approx(jensen_shannon([2, 78], [40, 40]))
    assert any(text.startswith("the tasks differ: one is binary, two multiclass") for text in found.warnings)
