import json

import numpy as np
import pytest

from seg_core.errors import CorruptFileError
from seg_core.files.json_text import finite, to_json, write_json
from seg_core.parsing import parse_json, read_json

NAN, INF = float("nan"), float("inf")


def test_finite_replaces_every_nan_and_infinity():
    value = {"a": [0.5, NAN, (INF, -INF)], "b": {"c": np.float64("nan")}, "d": "nan", "e": True, "f": None}
    assert finite(value) == {"a": [0.5, None, [None, None]], "b": {"c": None}, "d": "nan", "e": True, "f": None}
    assert np.isnan(value["b"]["c"])  # the value given stays as it was


def test_to_json_is_what_every_reader_accepts():
    assert to_json({"miou": NAN, "pixels": [1, 2]}) == '{"miou": null, "pixels": [1, 2]}'
    assert to_json({"b": 1, "a": 2}, sort_keys=True, indent=1) == '{\n "a": 2,\n "b": 1\n}'


def test_to_json_refuses_what_json_does_not_know():
    with pytest.raises(TypeError):
        to_json({"array": np.zeros(2)})


def test_write_json_ends_with_a_newline_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(path, {"loss": INF, "steps": 3}, sort_keys=True)
    assert path.read_text() == '{\n  "loss": null,\n  "steps": 3\n}\n'
    assert json.loads(path.read_text())["loss"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 5000 + "]" * 5000, "nested more than 64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ('{"iou": NaN}', "NaN is no number of JSON"),
        ("[-Infinity]", "-Infinity is no number of JSON"),
        ("[1e999]", "the number '1e999' is too large"),
        ("[" + "7" * 5000 + "]", "an integer has 5000 digits, at most 400 are read"),
        ('[{"id": 1, "id": 2}]', "the key 'id' stands twice in one table"),
        (r'{"labels": ["a\ud800"]}', r"'a.+ud800' holds half of a character pair"),
        (r'{"\uDFFF": 1}', "holds half of a character pair"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
    ],
)
def test_parse_json_what_readers_do_not_agree_on_is_refused_in_one_sentence(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=f"^results .*classes.json is not valid JSON: .*{reason}") as error:
        read_json(path, "results")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_parse_json_takes_what_is_valid():
    value = {"a": [1, -2.5, 1e300, True, None, "木\U0001f600"], "b": {"a": {}}}
    assert parse_json(json.dumps(value)) == value  # the emoji is written as a pair of escapes
    assert parse_json("[" * 64 + "]" * 64)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_read_json_with_a_mark_is_read(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"a": "ß"}'.encode(encoding))
    assert read_json(path) == {"a": "ß"}


def test_read_json_longer_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("seg_core.parsing.MAX_JSON", 10)
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3, 4]")
    with pytest.raises(CorruptFileError, match="it has 12 characters, at most 10 are read"):
        read_json(path)
