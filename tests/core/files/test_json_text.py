import json

import numpy as np
import pytest

from seg_core.files.json_text import finite, to_json, write_json

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
