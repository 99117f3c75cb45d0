"""The classes of FolderDataset: metadata or a file in the root; masks in colors; label maps."""

import codecs
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import CorruptFileError, DatasetMetadata, InvalidArgumentError, resolve_metadata
from seg_datasets import FolderDataset
from tests.datasets.own_folders import HEIGHT, LABELS, WIDTH, mask, names, write

COLORS = {"labels": ["ground", "leaf"], "colors": [[255, 255, 255], [0, 128, 0]]}


# ---- classes.toml and classes.json -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.toml", b'labels = ["ground", "leaf"]\ncolors = [[255, 255, 255], [0, 128, 0]]\n'),
        (
            "classes.toml",
            codecs.BOM_UTF8 + b'labels = ["ground", "leaf"]\r\ncolors = [[255, 255, 255], [0, 128, 0]]\r\n',
        ),
        (
            "classes.toml",
            b'[[classes]]\nname = "ground"\ncolor = [255, 255, 255]\n[[classes]]\nname = "leaf"\ncolor = [0, 128, 0]',
        ),
        ("classes.json", json.dumps(COLORS).encode()),
        ("classes.json", json.dumps(COLORS).encode("utf-16")),
        ("classes.json", b'[{"name": "ground", "color": [255, 255, 255]}, {"name": "leaf", "color": [0, 128, 0]}]'),
        (
            "classes.json",
            b'[{"name": "leaf", "color": [0, 128, 0], "id": 1}, {"name": "ground", "color": [255, 255, 255], "id": 0}]',
        ),
    ],
)
def test_classes_file_in_the_root_is_read(tmp_path, name, content):
    (write(tmp_path, names(3)) / name).write_bytes(content)
    metadata = FolderDataset(tmp_path, label_map={0: 0, 1: 1, 2: 1}).metadata
    assert metadata.labels == ("ground", "leaf")
    assert metadata.colors == ((255, 255, 255), (0, 128, 0))
    assert FolderDataset.find_metadata(tmp_path) == metadata


def test_classes_file_plain_list_of_names_and_other_fields(tmp_path):
    (tmp_path / "classes.json").write_text('["a", "b", "c"]')
    assert FolderDataset.find_metadata(tmp_path).labels == ("a", "b", "c")
    (tmp_path / "classes.json").write_text('{"classes": ["a", "b"], "ignore_index": 9, "name": "mine"}')
    metadata = FolderDataset.find_metadata(str(tmp_path))
    assert (metadata.labels, metadata.ignore_index, metadata.name) == (("a", "b"), 9, "mine")


def test_metadata_given_wins_over_the_file(tmp_path):
    (write(tmp_path, names(3)) / "classes.json").write_text('["a", "b"]')
    assert FolderDataset(tmp_path, LABELS).metadata.num_classes == 3


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("classes.toml", "labels = [", CorruptFileError, r"metadata file .*classes.toml is not valid TOML"),
        ("classes.json", "{", CorruptFileError, r"metadata file .*classes.json is not valid JSON"),
        ("classes.json", "3", InvalidArgumentError, r"classes.json: must hold a table with 'labels' or a list"),
        ("classes.json", "[]", InvalidArgumentError, "must hold a table with 'labels' or a list"),
        ("classes.json", '[{"title": "a"}]', InvalidArgumentError, "class 0 must be a table with 'name'"),
        ("classes.json", '["a", {"name": "b"}]', InvalidArgumentError, "class 0 must be a table with 'name'"),
        (
            "classes.json",
            '[{"name": "a", "id": 1}, {"name": "b", "id": 2}]',
            InvalidArgumentError,
            "must be 0 to 1, each",
        ),
        (
            "classes.json",
            '[{"name": "a", "color": [1, 2, 3]}, {"name": "b"}]',
            InvalidArgumentError,
            "'b' has no color",
        ),
        ("classes.toml", 'lables = ["a"]', InvalidArgumentError, "unknown key 'lables' .*Did you mean 'labels'"),
    ],
)
def test_classes_file_wrong_error_names_it(tmp_path, name, content, error, match):
    (write(tmp_path, names(3)) / name).write_text(content)
    with pytest.raises(error, match=match):
        FolderDataset(tmp_path)


def test_classes_in_both_files_error_names_both(tmp_path):
    for name, content in (("classes.toml", 'labels = ["a"]'), ("classes.json", '["a"]')):
        (write(tmp_path, names(3)) / name).write_text(content)
    with pytest.raises(InvalidArgumentError, match=r"found both .*classes.toml and classes.json; remove one"):
        FolderDataset(tmp_path)


def test_no_metadata_error_says_what_to_write_and_following_it_works(tmp_path):
    write(tmp_path, names(3))
    with pytest.raises(
        InvalidArgumentError, match=r"metadata is missing: .*write classes.toml into .*such a line: "
    ) as caught:
        FolderDataset(tmp_path)
    line = str(caught.value).split("such a line: ")[1]
    (tmp_path / "classes.toml").write_text(line)
    assert FolderDataset(tmp_path).metadata.labels == ("ground", "thing")


def test_find_metadata_root_missing_error_says_so(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"metadata is missing: .*nowhere \(no such folder\)"):
        FolderDataset.find_metadata(tmp_path / "nowhere")
    (tmp_path / "city" / "train").mkdir(parents=True)
    with pytest.raises(
        InvalidArgumentError, match=r"citi \(no such folder\); correct the root .*Did you mean 'city'\?"
    ):
        FolderDataset.find_metadata(tmp_path / "citi")
    (tmp_path / "city" / "classes.toml").write_text('labels = ["a", "b"]')
    with pytest.raises(InvalidArgumentError, match=r"a part of the dataset of .*, set it to .*city\. Give metadata"):
        FolderDataset.find_metadata(tmp_path / "city" / "train")
    with pytest.raises(InvalidArgumentError, match="metadata is missing: .*into the root with"):
        FolderDataset.find_metadata(None)


# ---- masks in colors -------------------------------------------------------------------------------------------------


def color_mask(path, *colors):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for column, color in enumerate(colors):
        pixels[:, column :: len(colors)] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def color_folder(root, *colors, count=3):
    write(root, names(count), masks="")
    for name in names(count):
        color_mask(root / f"masks/{name}.png", *colors)
    return root


def test_colors_masks_become_class_ids_and_black_is_ignored(tmp_path):
    color_folder(tmp_path, (0, 128, 0), (0, 0, 0), (255, 255, 255))
    dataset = FolderDataset(tmp_path, COLORS, colors=True)
    assert dataset[0][1][0].tolist() == [1, 255, 0, 1, 255, 0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1][1], dataset[1][1])


def test_colors_from_the_classes_file(tmp_path):
    (color_folder(tmp_path, (0, 128, 0), (255, 255, 255)) / "classes.json").write_text(json.dumps(COLORS))
    assert FolderDataset(tmp_path, colors=True)[0][1][0, :2].tolist() == [1, 0]


def test_colors_black_may_be_a_class_and_another_color_ignored(tmp_path):
    color_folder(tmp_path, (0, 0, 0), (1, 2, 3), (255, 0, 0))
    metadata = {"labels": ["a", "b"], "colors": [[0, 0, 0], [255, 0, 0]], "ignore_color": [1, 2, 3], "ignore_index": 7}
    assert FolderDataset(tmp_path, metadata, colors=True)[0][1][0, :3].tolist() == [0, 7, 1]


@pytest.mark.parametrize("palette", [[0, 128, 0, 255, 255, 255], [255, 255, 255, 0, 128, 0]])
def test_colors_palette_masks_are_read_by_their_colors_in_any_order(tmp_path, palette):
    write(tmp_path, names(3), masks="")
    (tmp_path / "masks").mkdir()
    for name in names(3):
        image = Image.fromarray(np.array([[0, 1] * 3] * HEIGHT, np.uint8))
        image.putpalette(palette)
        image.save(tmp_path / f"masks/{name}.png")
    expected = [1, 0] if palette[0] == 0 else [0, 1]
    assert FolderDataset(tmp_path, COLORS, colors=True)[0][1][0, :2].tolist() == expected


def test_colors_gray_and_one_bit_masks_are_colors_too(tmp_path):
    write(tmp_path, names(3), masks="")
    for name in names(3):
        mask(tmp_path / f"masks/{name}.png", np.array([[False, True] * 3] * HEIGHT))
    metadata = {"labels": ["a", "b"], "colors": [[255, 255, 255], [0, 0, 0]]}
    assert FolderDataset(tmp_path, metadata, colors=True)[0][1][0, :2].tolist() == [1, 0]


def test_colors_unknown_color_error_names_file_color_and_remedy(tmp_path):
    color_folder(tmp_path, (0, 128, 0), (9, 9, 9))
    dataset = FolderDataset(tmp_path, COLORS, colors=True)
    with pytest.raises(
        CorruptFileError, match=r"p0\d.png has colors .* rgb 9,9,9 \(12 pixels\); add these colors to the meta"
    ):
        dataset[0]


def test_colors_of_more_classes_than_a_byte_of_codes(tmp_path):
    colors = resolve_metadata("Cityscapes").colors
    distinct = list(dict.fromkeys(colors))[:20]
    color_folder(tmp_path, *distinct[:6])
    metadata = {"labels": [f"c{i}" for i in range(20)], "colors": distinct}
    assert FolderDataset(tmp_path, metadata, colors=True)[0][1][0].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("metadata", "options", "match"),
    [
        (LABELS, {}, "colors = true needs the color of each class in the masks: add them to the metadata"),
        (DatasetMetadata("mine", ("a", "b")), {}, "colors = true needs the color of each class"),
        (
            {"labels": ["a", "b"], "colors": [[1, 2, 3], [1, 2, 3]]},
            {},
            r"classes 'a' and 'b' have the same color \[1, 2, 3\]",
        ),
        (
            {"labels": [f"c{i}" for i in range(254)], "colors": [[i, 0, 1] for i in range(254)]},
            {},
            "at most 253 classes, the metadata 'custom' have 254",
        ),
        (COLORS, {"label_map": {0: 0}}, "label_map converts ids, and colors = true reads colors .*remove one"),
    ],
)
def test_colors_not_possible_error_says_why(tmp_path, metadata, options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        FolderDataset(color_folder(tmp_path, (1, 2, 3)), metadata, colors=True, **options)


def test_colors_of_253_classes_work(tmp_path):
    color_folder(tmp_path, (252, 0, 1), (0, 0, 0))
    metadata = {"labels": [f"c{i}" for i in range(253)], "colors": [[i, 0, 1] for i in range(253)]}
    assert FolderDataset(tmp_path, metadata, colors=True)[0][1][0, :2].tolist() == [252, 255]


def test_color_masks_without_the_option_error_says_so(tmp_path):
    color_folder(tmp_path, (0, 128, 0), (255, 255, 255))
    with pytest.raises(CorruptFileError, match="is a color image.*colors = true"):
        FolderDataset(tmp_path, COLORS)[0]


# ---- label maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label_map", "match"),
    [
        ({-1: 0}, "label_map has the key -1: keys are the ids in the masks, integers from 0 to 65535"),
        ({"-1": 0}, "label_map has the key '-1'"),
        ({"road": 0}, "label_map has the key 'road'"),
        ({70000: 0}, "label_map has the key 70000"),
        ({1.5: 0}, "label_map has the key 1.5"),
        ({True: 0}, "label_map has the key True"),
        ({0: "road"}, "label_map maps 0 to 'road': it must be a class id, 0 to 2, or \"ignore\""),
        ({0: -1}, "label_map maps 0 to -1: it must be a class id"),
        ({0: 0.5}, "label_map maps 0 to 0.5"),
        ({"0": 0, 0: 1}, "label_map lists an id twice: '0', 0"),
    ],
)
def test_label_map_not_allowed_error_names_key_and_value(tmp_path, label_map, match):
    with pytest.raises(InvalidArgumentError, match=match):
        FolderDataset(write(tmp_path, names(2)), LABELS, label_map=label_map)


def test_label_map_of_binary_masks(tmp_path):
    write(tmp_path, names(3), masks="")
    for name in names(3):
        mask(tmp_path / f"masks/{name}.png", np.array([[0, 255] * 3] * HEIGHT, np.uint8))
    dataset = FolderDataset(tmp_path, {"labels": ["a", "b"]}, label_map={"0": 0, "255": 1})
    assert dataset[0][1][0, :2].tolist() == [0, 1]


def test_rgb_ids_are_read_with_a_warning(tmp_path):
    write(tmp_path, names(3), masks="")
    for name in names(3):
        color_mask(tmp_path / f"masks/{name}.png", (0, 0, 0), (2, 2, 2))
    with pytest.warns(UserWarning, match="three channels are equal"):
        assert FolderDataset(tmp_path, LABELS)[0][1][0, :2].tolist() == [0, 2]
