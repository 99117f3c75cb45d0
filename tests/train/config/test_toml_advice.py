"""A line that is not TOML: the advice is followed, and the file is read."""

import re
import tomllib

import pytest

from seg_core.errors import ConfigError
from seg_train.config.files import read_tables
from seg_train.config.toml_advice import line_advice, quoted

ADVICE = re.compile(r"write lines? (\d+)(?: to (\d+))? as: (.*)$")


def message_of(path):
    with pytest.raises(ConfigError) as caught:
        read_tables(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        ("key = enet", "enet"),
        ("key = a/b c", "a/b c"),
        ("key = cpu  # no GPU here", "cpu"),
        ("key = True", True),
        ("key = FALSE", False),
        ("key = yes", True),
        ("key: 3", 3),
        ("key: enet", "enet"),
        ("key = .01", 0.01),
        ("key = 1.", 1.0),
        ("key = 1.e-3", 1e-3),
        ("key = 0,01", 0.01),
        ("key = (512, 256)", [512, 256]),
        ("key = [1, 2", [1, 2]),
        ("key = [road, car]", ["road", "car"]),
        ('key = "C:\\data\\city"', "C:/data/city"),
        ('key = "enet', "enet"),
        ("key = 'enet", "enet"),
        ("key = 3 // three", 3),
        ('key = { "lr": 0.01 }', {"lr": 0.01}),
        ("key = {lr: .01, name: adam}", {"lr": 0.01, "name": "adam"}),
        ("key = dict(lr=0.01, name='adam')", {"lr": 0.01, "name": "adam"}),
        ("key = { lr = 0.01", {"lr": 0.01}),
        ("key = {\n  lr = 0.01,\n  momentum = 0.9,\n}", {"lr": 0.01, "momentum": 0.9}),
        ("key = [0.5, 1.0,", [0.5, 1.0]),
    ],
)
def test_line_is_rewritten_so_that_the_file_is_read(tmp_path, wrong, value):
    path = tmp_path / "run.toml"
    path.write_text(f"[model]\nfirst = 1\n{wrong}\n[trainer]\nsteps = 1\n")
    for _ in range(3):  # a line may have several mistakes
        try:
            assert read_tables(path).values == {"model": {"first": 1, "key": value}, "trainer": {"steps": 1}}
            return
        except ConfigError as error:
            found = ADVICE.search(str(error))
            assert found, error
            lines = path.read_text().splitlines()
            lines[int(found[1]) - 1 : int(found[2] or found[1])] = [found[3]]
            path.write_text("\n".join(lines) + "\n")
    raise AssertionError(path.read_text())


def test_value_that_toml_does_not_have_is_left_out(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[model]\nweights = None\n")
    assert message_of(path).endswith(
        'line 2 as: # weights is left out, for its default; to unset that of a base config: weights = "none"'
    )


@pytest.mark.parametrize("again", ["a = 2", "[model]\nb = 1"])
def test_key_or_section_that_is_there_twice_is_told_with_its_line(tmp_path, again):
    path = tmp_path / "run.toml"
    path.write_text(f"[model]\na = 1\n{again}\n")
    assert f"line 3 repeats a key or section of above: {again.splitlines()[0]}; remove one" in message_of(path)


def test_line_without_advice_is_shown(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[model]\nname\n")
    assert message_of(path).endswith("; line 2 is: name")
    assert line_advice("", "at line 1") == ""


@pytest.mark.parametrize(
    ("name", "kind"), [("a.yaml", "YAML"), ("a.YML", "YAML"), ("a.json", "JSON"), ("a.py", "Python")]
)
def test_config_in_another_format_is_told_apart(tmp_path, name, kind):
    path = tmp_path / name
    path.write_text('{"model": {"name": "enet"}}')
    assert f"{path} is not valid TOML: configs are TOML, not {kind}: `seg config init run.toml` writes" in message_of(
        path
    )


def test_quoted_lists_and_tables_are_toml():
    assert tomllib.loads(f"v = {quoted('[a, b]')}") == {"v": ["a", "b"]}
    assert tomllib.loads(f"v = {quoted('{a = b}')}") == {"v": {"a": "b"}}
    assert quoted("[1, 2") is None
