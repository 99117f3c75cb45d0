"""TOML of other people's files: whatever it holds, the error is one sentence that names the file."""

import tomllib

import pytest

from seg_core.errors import CorruptFileError
from seg_core.parsing import parse_toml, read_toml


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("a = " + "[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("a = " + "{a = " * 5000 + "1" + "}" * 5000, "nested too deep"),
        ("[" + "a." * 80 + "a]\n", "nested more than 64 deep"),
        ("x = 1\n" + "a." * 200_000 + "a = 1", "more than 100 words are joined by dots in line 2"),
        ('"a" . ' * 200_000 + "a = 1", "more than 100 words are joined by dots in line 1"),
        ("a = " + "7" * 5000, "a number has too many digits"),
        ("a = 2020-13-45", "Expected|[Ii]nvalid|month"),
        ('a = "\\ud800"', "not a Unicode scalar"),
        ("a = 1\na = 2", "overwrite"),
        ("a = \x00", "[Ii]nvalid|zero bytes"),
        ("a =", "Invalid value"),
    ],
)
def test_toml_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, text, reason):
    with pytest.raises(tomllib.TOMLDecodeError, match=reason):
        parse_toml(text)
    path = tmp_path / "classes.toml"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=f"config .*classes.toml .*({reason})") as error:
        read_toml(path, "config")
    assert "\n" not in str(error.value)


def test_parse_toml_takes_what_is_valid():
    text = 'x = [1.5, 2]\n[a.b]\nc = "' + "w." * 90 + '"\n[[d]]\ne = {f = inf}\n'
    assert parse_toml(text) == tomllib.loads(text)


def test_toml_longer_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("seg_core.parsing.MAX_TOML", 10)
    with pytest.raises(tomllib.TOMLDecodeError, match="it has 12 characters, at most 10 are read"):
        parse_toml("a = '123456'")
