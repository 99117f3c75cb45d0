import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata, list_label_sets, resolve_metadata
from seg_core.labels.palette import default_palette


@pytest.mark.smoke
def test_resolve_metadata_camvid_has_official_classes_and_colors():
    metadata = resolve_metadata("CamVid")
    assert metadata.name == "CamVid"
    assert metadata.num_classes == 11
    assert metadata.labels[0] == "Sky"
    assert metadata.labels[10] == "Bicyclist"
    assert metadata.colors[3] == (128, 64, 128)
    assert metadata.colors[4] == (0, 0, 192)
    assert metadata.ignore_index == 255


def test_resolve_metadata_voc_follows_the_official_bit_rule():
    metadata = resolve_metadata("VOC")
    assert metadata.num_classes == 21
    assert metadata.labels[15] == "person"

    def official(index):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        return tuple(color)

    assert metadata.colors == tuple(official(i) for i in range(21))
    assert metadata.ignore_color == official(255)


def test_resolve_metadata_lip_tells_which_classes_depend_on_the_side():
    metadata = resolve_metadata("LIP")
    assert metadata.num_classes == 20
    names = [(metadata.labels[left], metadata.labels[right]) for left, right in metadata.left_right_pairs]
    assert names == [("Left-arm", "Right-arm"), ("Left-leg", "Right-leg"), ("Left-shoe", "Right-shoe")]
    assert metadata.colors[14] == (51, 170, 221)
    assert resolve_metadata("CamVid").left_right_pairs == ()


def test_metadata_left_right_pairs_survive_the_round_trip_and_older_files_have_none():
    metadata = DatasetMetadata("hands", ("left", "right"), left_right_pairs=[[0, 1]])
    assert metadata.left_right_pairs == ((0, 1),)
    plain = metadata.to_dict()
    assert plain["left_right_pairs"] == [[0, 1]]
    assert DatasetMetadata.from_dict(plain) == metadata
    del plain["left_right_pairs"]
    assert DatasetMetadata.from_dict(plain).left_right_pairs == ()


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([[0, 2]], r"left_right_pairs must hold class ids, 0 to 1, got \[\[0, 2\]\]"),
        ([[0, 0]], "each id in only one pair"),
        ([[0, 1], [1, 0]], "each id in only one pair"),
        ([0, 1], r"must be pairs of class ids \(left, right\), .* got \[0, 1\]"),
        ([[0, 1, 1]], "must be pairs of class ids"),
        ([[0, -1]], "must be pairs of class ids"),
        ([[False, True]], "must be pairs of class ids"),
        ("ab", "must be pairs of class ids"),
    ],
)
def test_metadata_wrong_left_right_pairs_are_told(pairs, words):
    with pytest.raises(InvalidArgumentError, match=words):
        DatasetMetadata("hands", ("left", "right"), left_right_pairs=pairs)


def test_label_sets_every_file_is_valid_and_bears_the_lower_case_name():
    files = [f for f in (resources.files("seg_core") / "labels" / "label_sets").iterdir() if f.name.endswith(".json")]
    names = set()
    for file in files:
        values = json.loads(file.read_text("utf-8"))
        assert file.name == values["name"].lower() + ".json"
        metadata = resolve_metadata(values["name"])
        assert metadata.to_dict() == values
        assert metadata.license
        names.add(metadata.name)
    assert set(list_label_sets()) == names
    assert {"CamVid", "LIP", "VOC"} <= names


def test_resolve_metadata_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown label set 'camvid'\. Did you mean 'CamVid'\? Known: .*VOC"):
        resolve_metadata("camvid")
    with pytest.raises(UnknownNameError, match="unknown label set '../voc'"):
        resolve_metadata("../voc")


def test_resolve_metadata_metadata_comes_back_as_it_is():
    metadata = DatasetMetadata("mine", ("a", "b"))
    assert resolve_metadata(metadata) is metadata


def test_resolve_metadata_mapping_without_name_and_colors_gets_both():
    metadata = resolve_metadata({"labels": ["cat", "dog"]})
    assert metadata.name == "custom"
    assert metadata.colors == default_palette(2)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_resolve_metadata_file_is_read_and_lends_its_name(tmp_path, suffix):
    path = tmp_path / f"pets.{suffix}"
    if suffix == "toml":
        path.write_text('labels = ["cat", "dog"]\ncolors = [[1, 2, 3], [4, 5, 6]]\nignore_index = 9\n')
    else:
        path.write_text('{"labels": ["cat", "dog"], "colors": [[1, 2, 3], [4, 5, 6]], "ignore_index": 9}')
    for source in (path, str(path)):
        metadata = resolve_metadata(source)
        assert metadata == DatasetMetadata("pets", ("cat", "dog"), ((1, 2, 3), (4, 5, 6)), ignore_index=9)


def test_to_dict_survives_json_and_from_dict():
    metadata = resolve_metadata("VOC")
    assert DatasetMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata


def test_metadata_is_hashable_and_frozen():
    metadata = DatasetMetadata("mine", ["a", "b"], [[1, 2, 3], [3, 4, 5]])
    assert hash(metadata) == hash(DatasetMetadata("mine", ("a", "b"), ((1, 2, 3), (3, 4, 5))))
    with pytest.raises(AttributeError):
        metadata.name = "other"


def test_resolve_metadata_bad_files_say_what_is_wrong(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"metadata file .*none\.toml does not exist"):
        resolve_metadata(tmp_path / "none.toml")
    with pytest.raises(InvalidArgumentError, match=r"labels\.yaml must end in \.toml or \.json"):
        resolve_metadata(tmp_path / "labels.yaml")
    for name, text, words in [
        ("a.toml", "labels = [", "is not valid TOML"),
        ("a.json", "{", "is not valid JSON"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(CorruptFileError, match=words):
            resolve_metadata(tmp_path / name)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFileError, match="is not valid JSON"):
        resolve_metadata(tmp_path / "b.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(CorruptFileError, match=r"folder\.json cannot be read"):
        resolve_metadata(tmp_path / "folder.json")
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(InvalidArgumentError, match="must hold a table with 'labels', got a list"):
        resolve_metadata(tmp_path / "c.json")
    (tmp_path / "d.toml").write_text('label = ["a"]')
    with pytest.raises(InvalidArgumentError, match=r"d\.toml: unknown key 'label'.* Did you mean 'labels'\?"):
        resolve_metadata(tmp_path / "d.toml")


def test_resolve_metadata_other_type_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"metadata must be a name, a path .* got 3"):
        resolve_metadata(3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "the metadata have no 'labels'"),
        ({"labels": []}, "labels must be a list of at least one class name"),
        ({"labels": "road"}, "labels must be a list of at least one class name, got 'road'"),
        ({"labels": ["a", " "]}, r"labels\[1\] must be a name that is not empty"),
        ({"labels": ["a", "b", "a"]}, r"labels\[2\] 'a' is also labels\[0\]"),
        ({"labels": ["a", "b"], "colors": [[0, 0, 0]]}, "2 labels but 1 colors"),
        ({"labels": ["a"], "colors": [[0, 0, 256]]}, r"colors\[0\] must be three integers from 0 to 255"),
        ({"labels": ["a"], "colors": [[0, 0]]}, r"colors\[0\] must be three integers"),
        ({"labels": ["a"], "colors": ["red"]}, r"colors\[0\] must be three integers"),
        ({"labels": ["a"], "ignore_color": [0, 0, -1]}, "ignore_color must be three integers"),
        ({"labels": ["a", "b"], "ignore_index": 1}, "ignore_index 1 is the id of class 'b'; choose a value from 2"),
        ({"labels": ["a"], "ignore_index": -1}, "ignore_index must be an integer from 0 to 65535, got -1"),
        ({"labels": ["a"], "ignore_index": 255.0}, "ignore_index must be an integer"),
        ({"labels": ["a"], "name": ""}, "name must not be empty"),
        ({"labels": ["a"], "license": 3}, "license must be a string, got 3"),
        (
            {"labels": ["a"], "ignore_idx": 3},
            r"unknown key 'ignore_idx' in the metadata\. Did you mean 'ignore_index'",
        ),
    ],
)
def test_from_dict_wrong_value_names_the_key(values, words):
    with pytest.raises(InvalidArgumentError, match=words):
        DatasetMetadata.from_dict(values)


def test_default_palette_is_distinct_stable_and_never_black():
    palette = default_palette(3000)
    assert len(set(palette)) == 3000
    assert (0, 0, 0) not in palette
    assert default_palette(7) == palette[:7]

    def closest(count):
        colors = palette[:count]
        return (
            min(sum((a - b) ** 2 for a, b in zip(c, d, strict=True)) for c in colors for d in colors if c != d) ** 0.5
        )

    assert closest(20) > 80
    assert closest(150) > 30


def test_import_metadata_imports_neither_torch_nor_numpy():
    code = "import sys, seg_core; seg_core.resolve_metadata('VOC'); print({'torch', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("suffix", "text"), [(".toml", 'labels = ["a",\r\n"ß"]\r\n'), (".json", '{"labels":\r\n["a", "ß"]}')]
)
def test_resolve_metadata_file_of_a_windows_program_is_read(tmp_path, encoding, suffix, text):
    path = tmp_path / f"classes{suffix}"
    path.write_bytes(text.encode(encoding))
    assert resolve_metadata(path).labels == ("a", "ß")


def test_resolve_metadata_file_in_latin_1_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "classes.toml"
    path.write_bytes('labels = ["ß"]'.encode("latin-1"))
    with pytest.raises(CorruptFileError, match=r"metadata file .*classes.toml is not UTF-8.*Latin-1.*save it as UTF-8"):
        resolve_metadata(path)


def test_class_id_takes_a_name_or_an_id():
    metadata = DatasetMetadata("two", ("sky", "ground"))
    assert [metadata.class_id(given) for given in ("sky", "ground", 1, np.uint8(0))] == [0, 1, 1, 0]
    with pytest.raises(
        UnknownNameError, match=r"unknown class 'Ground' of two. Did you mean 'ground'\? Classes: sky, ground"
    ):
        metadata.class_id("Ground")
    for wrong in (2, -1, 255, True, 1.0, None, ["sky"]):
        with pytest.raises(InvalidArgumentError, match="a class must be a name or an id from 0 to 1 of two, got"):
            metadata.class_id(wrong)
