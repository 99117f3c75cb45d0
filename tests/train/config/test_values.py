"""Configs that are absurd: one sentence, in no time, whatever is wrong with them."""

import os
import time

import pytest

from seg_core.command import main
from seg_core.errors import ConfigError
from seg_core.parsing import MAX_TOML
from seg_train import load_config
from seg_train.config.schema import all_keys

BASE = """
[model]
name = "tiny_net"
[data.dataset]
name = "Stripes"
[data.transform.train]
size = [32, 24]
[trainer]
epochs = 2
"""


def problem(tmp_path, text=BASE, overrides=()):
    path = tmp_path / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert time.monotonic() - start < 10
    told = str(caught.value)
    assert len(told) < 1500
    assert told.isprintable()
    return told


TEXTS = {
    "arrays nested 5,000 deep": (f"x = {'[' * 5000}{']' * 5000}", "nested too deep; line 10 is: x = [[["),
    "arrays nested 80 deep": (f"x = {'[' * 80}{']' * 80}", "nested more than 64 deep"),
    "inline tables nested 5,000 deep": (f"x = {'{a=' * 5000}1{'}' * 5000}", "nested too deep"),
    "an integer of 5,000 digits": ("x = " + "1" * 5000, "a number has too many digits"),
    "an integer of 50 digits": ("seed = " + "1" * 50, "trainer.seed: an integer of 50 digits; must fit 64 bits"),
    "a hexadecimal integer of 9,000 digits": ("seed = 0x" + "f" * 9000, "an integer of more than 400 digits"),
    "a key of 20,000 parts": ("a" + ".a" * 20000 + " = 1", "more than 100 words are joined by dots in line 10"),
    "a key of 70 parts": ("a" + ".a" * 70 + " = 1", "nested more than 64 deep"),
    "NUL in a path": ('[paths]\noutput = "a\\u0000b"', 'paths.output = "a\\u0000b": contains a NUL character'),
    "NUL in a key": ('"a\\u0000b" = 1', "trainer.a\\x00b: the key contains a NUL character"),
    "an escape sequence in a key": ('"\\u001b[31m" = 1', "trainer.\\x1b[31m: the key contains a control character"),
    "an override of the direction in a key": ('"\\u202eabc" = 1', "the key contains a control character"),
    "a long key": ("e" * 100_000 + " = 1", "the key has 100,000 characters; at most 200"),
    "a long name": ('[paths]\nrun = "' + "a" * 100_000 + '"', "at most 4,096 characters are allowed"),
    "many keys": ("\n".join(f"b{i} = 1" for i in range(20_000)), "20,010 keys; no config needs more than 10,000"),
    "a string of many lines without an end": (
        "\n".join(f"b{i} = 1" for i in range(20_000)) + '\nx = """',
        "Unterminated string (at end of document); line 20010 is",
    ),
    "half of a surrogate pair": ('x = "\\uD800"', "not a Unicode scalar value"),
    "not a number, among options": ("[optimizer]\nname='SGD'\nparams = {lr = nan}", "optimizer.params.lr = nan"),
}


@pytest.mark.parametrize("text, told", [pytest.param(*case, id=name) for name, case in TEXTS.items()])
def test_absurd_toml_is_told_in_one_sentence(text, told, tmp_path):
    assert told in problem(tmp_path, BASE + text)


def test_a_config_without_utf_8_or_too_large_is_told(tmp_path):
    assert "is not UTF-8: byte 0xff in line 10" in problem(tmp_path, BASE.encode() + b'x = "\xff"')
    assert "characters together" in problem(tmp_path, BASE + "#" * (MAX_TOML + 1))


def test_a_device_without_an_end_is_no_config():
    with pytest.raises(ConfigError, match="/dev/zero has more than 256 MiB"):
        load_config("/dev/zero")


def test_extended_files_that_double_or_never_end_are_told(tmp_path):
    for number in range(30):
        next_one = f'"x{number + 1}.toml"'
        (tmp_path / f"x{number}.toml").write_text(f"extends = [{next_one}, {next_one}]")
        (tmp_path / f"y{number}.toml").write_text(f'extends = "y{(number + 1) % 30}.toml"')
    (tmp_path / "x30.toml").write_text(BASE)
    assert "more than 64 files" in problem(tmp_path, 'extends = "x0.toml"')
    assert "cyclic extends: " in problem(tmp_path, 'extends = "y0.toml"')
    assert "more than 64 files" in problem(tmp_path, "extends = [" + '"x30.toml", ' * 100 + "]")


@pytest.mark.parametrize(
    "extends, told",
    [
        ("a\\u0000b", "extends = 'a\\x00b' contains a NUL character"),
        ("x" * 5000, "File name too long; check its path"),
        ("loop.toml", "check its path"),
        ("/dev/zero", "has more than 256 MiB"),
    ],
)
def test_a_path_that_cannot_be_extended_is_told(extends, told, tmp_path):
    os.symlink("loop.toml", tmp_path / "loop.toml")
    assert told in problem(tmp_path, f'extends = "{extends}"')


def test_a_path_that_the_system_refuses_to_look_at_is_told(tmp_path):
    told = problem(tmp_path, f'import_paths = ["{"x" * 1000}"]\n{BASE}')
    assert "the path" in told
    assert "cannot be used: File name too long; correct it" in told


@pytest.mark.parametrize(
    "override, told",
    [
        ("trainer.epochs=" + "1" * 1_000_000, "at most 4,096 characters are allowed"),
        ("trainer.epochs=" + "[" * 5000, "the value is not TOML"),
        ("a" + ".a" * 5000 + "=1", "a key of 5001 parts"),
        ("x" * 1_000_000 + "=1", "the key has 1,000,000 characters"),
        ("paths.output=\udcff", 'paths.output = "\\udcff": is not valid Unicode'),
        ("\udcff=1", "\\udcff: the key is not valid Unicode"),
        ('model.weights="a\\u0000"', "contains a NUL character"),
        ("a\nb=1", "the key contains a control character"),
        ("x" * 1_000_000, "must be key.path=value"),
    ],
)
def test_absurd_overrides_are_told(override, told, tmp_path):
    assert told in problem(tmp_path, overrides=[override])


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e308", "9223372036854775807"])
def test_numbers_without_measure_are_problems_or_allowed_but_never_another_error(value, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(BASE)
    refused = []
    for key in all_keys():
        try:
            load_config(path, [f"{key}={value}"])
        except ConfigError:
            refused.append(key)
    assert {"data.transform.train.size", "data.loader.num_workers", "data.transform.train.crops_per_image"} <= set(
        refused
    )


def test_the_command_shows_many_problems_in_part(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(BASE + "\n".join(f'[log."x{number}"]' for number in range(1000)))
    assert main(["config", "check", str(path)]) == 1
    told = capsys.readouterr().out
    assert "has 1000 problems" in told
    assert "  and 900 more" in told
