"""Lists, classes and annotations beside the images that hold what no such file should: one sentence, or none."""

import contextlib
import io
import json
import shutil

import pytest

from seg_core import command
from seg_core.errors import UserError
from seg_datasets import FolderDataset
from seg_datasets.reading.advice import _kind_of_json, lists_advice
from seg_datasets.reading.class_names import describe_names
from tests.datasets.own_folders import write

DEEP = b"[" * 5000 + b"]" * 5000
CONTENTS = {
    "deep": DEEP,
    "deep tables": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep toml": b"a = " + DEEP,
    "dotted toml": b"a." * 100_000 + b"a = 1",
    "nan": b'{"labels": ["a", "b"], "ignore_index": NaN}',
    "nan toml": b'labels = ["a", "b"]\nignore_index = nan',
    "double keys": b'{"labels": ["a", "b"], "labels": ["a", "b"]}',
    "digits": b'{"labels": ["a", "b"], "ignore_index": ' + b"7" * 5000 + b"}",
    "digits toml": b'labels = ["a", "b"]\nignore_index = ' + b"7" * 5000,
    "surrogate": b'{"labels": ["a", "\\udfff"]}',
    "mark": b"\xff\xfe",
    "latin": "labels = ['Straße']".encode("latin-1"),
    "nul": b"a\0b",
    "empty": b"",
    "long line": b"a" * 1_000_000,
    "long word list": b"a," * 500_000,
    "combining": "a\u0301\u0327".encode() * 100_000,
    "csv": b"Pixel Value, Class\n0, " + b"a" * 200_000,
    "csv digits": b"0,a\n" + b"9" * 5000 + b",b\n",
    "superscript": "²,a\n³,b\n".encode(),
    "quotes": b'"' * 9999,
    "escapes": b"\x1b[31ma\n\x07b",
    "shapes": b'{"shapes": ' + b"9" * 5000 + b"}",
    "number": b"3",
    "scalar": b'"a"',
}
LISTS = ("train.txt", "train.csv")
OTHERS = ("_classes.csv", "labelmap.txt", "codes.txt", "annotations.json", "a0.txt")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write(folder, [f"a{number}" for number in range(6)])
    return folder


@contextlib.contextmanager
def beside(root, name, content):
    (root / name).write_bytes(content)
    try:
        yield
    finally:
        (root / name).unlink()


def check_sentence(error, name):
    text = str(error)
    assert name in text
    assert len(text) < 1500
    assert text.isprintable() or name == "deep"


@pytest.mark.parametrize("kind", CONTENTS)
def test_odd_classes_are_one_sentence(root, kind):
    for name in ("classes.toml", "classes.json"):
        with beside(root, name, CONTENTS[kind]), pytest.raises(UserError) as error:
            FolderDataset(root, None, "train")
        check_sentence(error.value, name)


@pytest.mark.parametrize("kind", CONTENTS)
def test_odd_list_is_one_sentence(root, kind):
    for name in LISTS:
        with beside(root, name, CONTENTS[kind]), pytest.raises(UserError) as error:
            FolderDataset(root, {"labels": ["a", "b"]}, "train", split_file=name)
        check_sentence(error.value, name)


@pytest.mark.parametrize("kind", CONTENTS)
def test_odd_files_of_other_tools_give_no_advice(root, kind):
    images = [path.relative_to(root).as_posix() for path in root.rglob("*.jpg")]
    for name in (*LISTS, *OTHERS):
        with beside(root, name, CONTENTS[kind]):
            assert describe_names(root, 2, False) == "" or name in describe_names(root, 2, False)
            assert lists_advice(root, images, None) == ""


def test_advice_on_a_large_json_reads_its_beginning_alone(tmp_path, monkeypatch):
    path = tmp_path / "instances.json"
    path.write_text('{"info": {}, "images": [' + "0, " * 1000 + '0], "annotations": []}')
    assert _kind_of_json(path) == "COCO"
    monkeypatch.setattr("seg_datasets.reading.advice._MOST_JSON", 100)
    monkeypatch.setattr("seg_datasets.reading.advice.read_json", lambda path: pytest.fail("read as a whole"))
    assert _kind_of_json(path) == "COCO"


def test_check_of_a_folder_with_odd_files_of_all_kinds_ends(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))
    for number, kind in enumerate(("deep", "digits toml", "csv", "combining", "shapes")):
        folder = tmp_path / f"all{number}"
        shutil.copytree(root, folder)
        for name in (*LISTS, *OTHERS):
            (folder / name).write_bytes(CONTENTS[kind])
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            assert command.main(["datasets", "check", str(folder), "--json", str(tmp_path / "a.json")]) in (0, 1)
        assert json.loads((tmp_path / "a.json").read_text())
