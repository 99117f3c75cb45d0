"""Mapillary Vistas on fake trees: two versions, two packages, and configs that differ or are damaged."""

import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.fake_mapillary import write_config
from seg_datasets.official.mapillary_vistas import CONFIGS, MapillaryVistas

LABEL_SETS = {"v2.0": "MapillaryVistas", "v1.2": "MapillaryVistas_v1.2"}
KEY = "00qclUcInksIYnm19b1Xfw"


def make_tree(folder, version="v2.0", **choices):
    root = fake("MapillaryVistas", folder, edition=version, **choices)
    edition = MapillaryVistas.editions[version]
    write_config(root, edition)
    return root, root / CONFIGS[version][0]


def edit(path, change):
    """Applies `change` to the labels of a config."""
    config = json.loads(path.read_text())
    change(config["labels"])
    path.write_text(json.dumps(config))


def write_mask(root, ids, version="v2.0"):
    path = root / f"training/{version}/labels/{KEY}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(ids, np.uint8), (24, 32))).convert("P")
    image.putpalette([7, 8, 9] * 256)  # meaningless colors
    image.save(path)


@pytest.mark.parametrize(("version", "num_ids", "num_classes"), [("v2.0", 124, 116), ("v1.2", 66, 65)])
def test_config_as_known_gives_the_label_set_without_a_warning(version, num_ids, num_classes, tmp_path):
    root, config = make_tree(tmp_path / "mv", version)
    labels = json.loads(config.read_text())["labels"]
    assert (len(labels), sum(label["evaluate"] for label in labels)) == (num_ids, num_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = MapillaryVistas(root, version=version)
    assert dataset.metadata is resolve_metadata(LABEL_SETS[version])
    assert dataset.metadata.num_classes == num_classes


@pytest.mark.parametrize("version", ["v2.0", "v1.2"])
def test_config_missing_gives_the_label_set(version, tmp_path):
    root, config = make_tree(tmp_path / "mv", version)
    config.unlink()
    assert MapillaryVistas(root, version=version).metadata is resolve_metadata(LABEL_SETS[version])


def test_config_of_the_other_version_is_not_read(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    for name in CONFIGS["v1.2"]:
        (root / name).write_text("not read")
    assert MapillaryVistas(root).metadata.num_classes == 116
    (root / "config_v1.2.json").unlink()
    config.write_text("not read")
    with pytest.raises(CorruptFileError, match=r"config.json is not valid JSON"):
        MapillaryVistas(root, version="v1.2")


def test_config_with_another_class_name_is_used_with_a_warning(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    edit(config, lambda labels: labels[58].update(readable="Lane Marking (only) - Text"))
    with pytest.warns(UserWarning, match=r"config_v2.0.json is not the known config .*: id 58 is .*Text' .*- Test'"):
        dataset = MapillaryVistas(root)
    train = dataset.label_map.mapping[58]
    assert dataset.metadata.labels[train] == "Lane Marking (only) - Text"
    assert dataset.metadata.name == "MapillaryVistas_config"
    assert dataset.label_map == MapillaryVistas.edition.label_map
    assert MapillaryVistas.edition.classes == "MapillaryVistas"


def test_config_with_another_color_keeps_the_name_of_the_label_set(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    edit(config, lambda labels: labels[3].update(color=[1, 2, 3]))
    with pytest.warns(
        UserWarning, match=r"id 3 is 'Concrete Block' \(rgb 1,2,3\) instead of .*\(rgb 250,170,32\); its"
    ):
        metadata = MapillaryVistas(root).metadata
    assert (metadata.name, metadata.colors[2]) == ("MapillaryVistas", (1, 2, 3))


def test_config_that_evaluates_other_ids_changes_the_masks(tmp_path):
    root, config = make_tree(tmp_path / "mv")

    def change(labels):
        labels[2]["evaluate"] = True
        labels[4]["evaluate"] = False

    edit(config, change)
    write_mask(root, [0, 1, 2, 3, 4, 5])
    with pytest.warns(
        UserWarning, match=r"id 2 is 'Ambiguous Barrier' .* instead of not evaluated, id 4 is not evaluat"
    ):
        dataset = MapillaryVistas(root)
    assert dataset[0][1][0, :6].tolist() == [0, 1, 2, 3, 255, 4]
    assert dataset.metadata.labels[2:5] == ("Ambiguous Barrier", "Concrete Block", "Fence")


def test_config_fewer_labels_warns_and_their_ids_become_errors(tmp_path):
    root, config = make_tree(tmp_path / "mv", "v1.2")
    edit(config, lambda labels: labels.pop())
    with pytest.warns(UserWarning, match="id 65 is missing instead of not evaluated"):
        dataset = MapillaryVistas(root, version="v1.2")
    with pytest.raises(LabelOutOfRangeError, match=r"Allowed: 0-64"):
        dataset[0]


def test_config_differs_in_many_ids_warning_names_a_few(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    edit(config, lambda labels: labels.reverse())
    with pytest.warns(UserWarning, match="and 119 more; its classes are used") as caught:
        MapillaryVistas(root)
    assert caught[0].filename == __file__


def test_config_of_the_older_package_is_read(tmp_path):
    root, config = make_tree(tmp_path / "mv", "v1.2", masks=1)
    config.rename(root / "config.json")
    edit(root / "config.json", lambda labels: labels[0].update(readable="Fowl"))
    with pytest.warns(
        UserWarning, match=r"config.json is not the known config of MapillaryVistas_v1.2: id 0 is 'Fowl'"
    ):
        dataset = MapillaryVistas(root, version="v1.2")
    assert dataset.file_names(0)[1] == str(root / f"training/labels/{KEY}.png")
    assert dataset.metadata.labels[0] == "Fowl"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not valid JSON: "),
        ("\xff", "is not UTF-8: byte 0xff in line 1"),
        ("[]", "has no list 'labels'"),
        ('{"label": []}', "has no list 'labels'"),
        ('{"labels": []}', "has no list 'labels' of at least one label"),
        ('{"labels": ["Bird"]}', "label 0 of .* lacks 'readable', 'evaluate', 'color'"),
        ('{"labels": [{"readable": "Bird", "evaluate": true}]}', "label 0 of .* lacks 'color'"),
        ('{"labels": [{"readable": "Bird", "evaluate": 1, "color": [1, 2, 3]}]}', "must be true or false, got 1"),
        ('{"labels": [{"readable": "Bird", "evaluate": true, "color": [1, 2]}]}', r"are damaged: colors\[0\] must be"),
        ('{"labels": [{"readable": "Bird", "evaluate": false, "color": [1, 2, 3]}]}', "are damaged: labels must be"),
    ],
)
def test_config_damaged_error_names_it_and_the_remedy(text, match, tmp_path):
    root, config = make_tree(tmp_path / "mv")
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptFileError, match=match) as caught:
        MapillaryVistas(root)
    assert str(config) in str(caught.value)
    assert str(caught.value).endswith("restore the file from the package, or remove it to use the built-in classes")


def test_config_saved_with_a_mark_and_crlf_is_read(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n").decode().encode("utf-8-sig"))
    assert MapillaryVistas(root).metadata == resolve_metadata("MapillaryVistas")


def test_config_two_classes_with_the_same_name_error_names_both(tmp_path):
    root, config = make_tree(tmp_path / "mv")
    edit(config, lambda labels: labels[1].update(readable="Bird"))
    with pytest.raises(CorruptFileError, match=r"config_v2.0.json are damaged: labels\[1\] 'Bird' is also labels\[0\]"):
        MapillaryVistas(root)


def test_versions_of_one_image_have_different_masks(tmp_path):
    root, _ = make_tree(tmp_path / "mv")
    shutil.copytree(root / "training/v2.0", root / "training/v1.2")
    write_mask(root, [90], "v2.0")
    write_mask(root, [48], "v1.2")
    for version, label in (("v2.0", "Traffic Light - General (Single)"), ("v1.2", "Traffic Light")):
        dataset = MapillaryVistas(root, version=version)
        (train,) = dataset[0][1].unique().tolist()
        assert dataset.metadata.labels[train] == label


def test_mask_of_v2_ids_that_are_not_evaluated_are_ignored(tmp_path):
    root, _ = make_tree(tmp_path / "mv")
    write_mask(root, [2, 31, 38, 79, 86, 96, 115, 123])
    assert MapillaryVistas(root)[0][1].unique().tolist() == [255]


def test_mask_of_v1_unlabeled_becomes_255(tmp_path):
    root, _ = make_tree(tmp_path / "mv", "v1.2")
    write_mask(root, [64, 65], "v1.2")
    assert MapillaryVistas(root, version="v1.2")[0][1][0, :2].tolist() == [64, 255]


def test_labels_of_v2_traffic_lights_are_in_the_official_order():
    labels, mapping = resolve_metadata("MapillaryVistas").labels, MapillaryVistas.edition.label_map.mapping
    assert [labels[mapping[raw]].removeprefix("Traffic Light - ") for raw in range(90, 96)] == [
        "General (Single)",
        "Pedestrians",
        "General (Upright)",
        "General (Horizontal)",
        "Cyclists",
        "Other",
    ]


@pytest.mark.parametrize(("alias", "split"), [("training", "train"), ("validation", "val"), ("testing", "test")])
def test_split_official_name_is_an_alias(alias, split, tmp_path):
    root, _ = make_tree(tmp_path / "mv")
    dataset = MapillaryVistas(root, alias)
    assert dataset.split == split
    assert f"/{alias}/" in dataset.file_names(0)[0]
    assert (dataset[0][1] is None) == (split == "test")


@pytest.mark.parametrize("value", ["v2", 2.0, None])
def test_version_unknown_error_lists_the_allowed(value, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"version must be 'v2.0' or 'v1.2', got"):
        MapillaryVistas(tmp_path, version=value)


def test_download_error_comes_before_the_folder_is_read(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"MapillaryVistas cannot be downloaded .*mapillary.com"):
        MapillaryVistas(tmp_path / "new", download=True)


def test_pickle_with_another_config_gives_the_same_samples(tmp_path):
    root, config = make_tree(tmp_path / "mv", "v1.2")
    edit(config, lambda labels: labels[7].update(evaluate=False))
    with pytest.warns(UserWarning, match="id 7 is not evaluated"):
        dataset = MapillaryVistas(root, version="v1.2")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.metadata == dataset.metadata
    assert torch.equal(copy[0][1], dataset[0][1])
