import argparse
import errno
import io
import logging
import os
import sys
import warnings

import pytest

from seg_core import command as command_module
from seg_core.command import INTERRUPTED, Command, main, parse_settings
from seg_core.errors import ConfigError, CorruptFileError, DatasetNotFoundError, UsageError
from seg_core.registry import COMMANDS as INSTALLED
from seg_core.registry import Registry


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["fine", "missing", "damaged", "config", "bug", "interrupt", "warn"])


def run(args: argparse.Namespace) -> int:
    if args.what == "missing":
        raise DatasetNotFoundError("no data in there; look elsewhere")
    if args.what == "damaged":
        raise CorruptFileError("the file is cut short; replace it")
    if args.what == "config":
        raise ConfigError("optimizer.params.lrr: unknown key")
    if args.what == "bug":
        raise ZeroDivisionError("a bug of ours")
    if args.what == "interrupt":
        raise KeyboardInterrupt
    if args.what == "warn":
        for text, category in (("the mask is odd; look at it", UserWarning), ("use another one", FutureWarning)):
            print(warnings.formatwarning(text, category, "here.py", 7), end="")
    print("done")
    return 0


TRY = Command(configure, run)


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    registry = Registry("command")
    registry.register("try", TRY)
    registry._entries["try"] = type(registry.entry("try"))("here:TRY", summary="tries things")
    monkeypatch.setattr(command_module, "COMMANDS", registry)
    return registry


@pytest.mark.smoke
def test_main_alone_lists_commands_and_succeeds(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "usage: seg COMMAND" in out
    assert "try  tries things" in out


def test_main_alone_without_commands_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(command_module, "COMMANDS", Registry("command"))
    assert main([]) == 0
    assert "pip install seg-models" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_seg_and_of_a_command_succeeds(capsys, flag):
    assert main([flag]) == 0
    assert main(["try", flag]) == 0
    assert "usage: seg try" in capsys.readouterr().out


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("seg-core ")


def test_command_that_works_returns_its_code(capsys):
    assert main(["try", "fine"]) == 0
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("damaged", 1, "the file is cut short; replace it"),
        ("missing", 2, "no data in there; look elsewhere"),
        ("config", 2, "optimizer.params.lrr: unknown key"),
    ],
)
def test_user_error_is_one_line_and_the_code_of_its_class(what, code, message, capsys):
    assert main(["try", what]) == code
    captured = capsys.readouterr()
    assert captured.err == f"seg: error: {message}\n"
    assert captured.out == ""


def test_unknown_command_suggests_the_nearest_and_is_2(capsys):
    assert main(["tri"]) == 2
    assert "unknown command 'tri'. Did you mean 'try'? `seg` alone lists the commands" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("train", "seg-train"),
        ("eval", "seg-train"),
        ("config", "seg-train"),
        ("datasets", "seg-datasets"),
        ("predict", "seg-models"),
        ("models", "seg-models"),
    ],
)
def test_command_of_a_package_that_is_not_installed_names_it_and_is_2(name, package, capsys):
    assert main([name, "run.toml"]) == 2
    expected = f"seg: error: `seg {name}` needs {package}, which is not installed: pip install {package}\n"
    assert capsys.readouterr().err == expected


def test_every_command_of_our_packages_is_known_by_its_package():
    origins = {name: INSTALLED.origin(name) for name in INSTALLED}
    installed = set(origins.values())  # seg-core may be tested alone
    assert origins == {name: package for name, package in command_module._PACKAGES.items() if package in installed}


def test_wrong_argument_is_2(capsys):
    assert main(["try", "nothing"]) == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_interrupt_is_130(capsys):
    assert main(["try", "interrupt"]) == INTERRUPTED == 130
    assert capsys.readouterr().err == "seg: interrupted\n"


def test_warning_for_the_user_is_one_line_and_others_keep_their_place(capsys):
    former = warnings.formatwarning
    assert main(["try", "warn"]) == 0
    assert warnings.formatwarning is former
    first, second, done = capsys.readouterr().out.splitlines()
    assert first == "seg: warning: the mask is odd; look at it"
    assert second == "here.py:7: FutureWarning: use another one"
    assert done == "done"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        main(["try", "bug"])


def test_unknown_option_suggests_the_nearest_also_of_subcommands(commands, capsys):
    def with_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--batch-size")
        actions = parser.add_subparsers()
        actions.add_parser("show").add_argument("--verbose", action="store_true")

    commands.register("options", Command(with_options, run))
    for words, advice in (
        (["--batchsize", "3"], "there is no --batchsize. Did you mean '--batch-size'?"),
        (["show", "--verbos=1"], ""),  # a beginning of an option is that option
        (["show", "--verbise"], "there is no --verbise. Did you mean '--verbose'?"),
        (["--lr", "1"], ""),  # dashes alone are no likeness with --help
    ):
        assert main(["options", *words]) == 2
        err = capsys.readouterr().err
        assert advice in err
        assert advice or "there is no" not in err


def test_command_advises_on_words_that_cannot_be_parsed(commands, capsys):
    def advise(words, problem):
        return [f"{words} are wrong", "write less"] if "invalid choice" in problem else []

    commands.register("advised", Command(configure, run, advise=advise))
    assert main(["advised", "nothing"]) == 2
    assert "; ['nothing'] are wrong; write less\n" in capsys.readouterr().err


def test_closed_stdout_is_no_failure(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["try", "fine"]) == 0
    assert main([]) == 0


def test_names_of_any_bytes_are_printed_as_they_are(commands, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr("sys.stdout", stream)
    commands.register("name", Command(lambda parser: None, lambda args: print("bad\udcff.png") or 0))
    assert main(["name"]) == 0
    assert stream.buffer.getvalue() == b"bad\xff.png\n"
    assert stream.errors == "strict"


HOSTILE = "a\x1b[2J\x9b\u202e\r\x07b"
SHOWN = r"a\x1b[2J\x9b\u202e\x0d\x07b"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, SHOWN), (io.StringIO, HOSTILE)])
def test_control_characters_of_others_reach_no_terminal_and_pipes_get_them_as_they_are(
    commands, monkeypatch, stream, shown
):
    out, err = stream(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)

    def run(arguments):
        print(HOSTILE)
        print(f"seg: {HOSTILE}", file=sys.stderr)
        logging.getLogger("other").warning(HOSTILE)
        raise UsageError(f"{HOSTILE}\nsecond line")

    monkeypatch.setattr(logging.root, "handlers", [])
    commands.register("hostile", Command(lambda parser: None, run))
    assert main(["hostile"]) == 2
    assert out.getvalue() == f"{shown}\n"
    assert err.getvalue().splitlines() == [
        f"seg: {SHOWN}",
        SHOWN,
        f"seg: error: {SHOWN}",
        "second line",
    ]
    assert (sys.stdout, sys.stderr) == (out, err)


@pytest.mark.parametrize(
    ("word", "value"),
    [("a=1", 1), ("a=[1, 2]", [1, 2]), ("a=true", True), ('a="1"', "1"), ("a=resnet18", "resnet18"), ("a=", "")],
)
def test_settings_are_toml_and_words_need_no_quotes(word, value):
    assert parse_settings([word, "b=x=y"], "a=1") == {"a": value, "b": "x=y"}


@pytest.mark.parametrize("word", ["a", "=1", "a b=1", ""])
def test_settings_that_are_none_are_named_with_an_example(word):
    with pytest.raises(UsageError, match=f"-s takes KEY=VALUE, such as -s a=1, got '{word}'"):
        parse_settings([word], "a=1")


@pytest.mark.parametrize("code, told", [(errno.ENAMETOOLONG, True), (errno.ELOOP, True), (errno.EBADF, False)])
def test_path_that_the_system_refuses_is_told_and_other_errors_are_bugs(monkeypatch, capsys, code, told):
    def refuse(_):
        raise OSError(code, os.strerror(code), "a\x1b[31m" + "b" * 5000)

    monkeypatch.setattr(command_module, "_dispatch", refuse)
    if not told:
        with pytest.raises(OSError, match="Bad file descriptor"):
            main(["any"])
        return
    assert main(["any"]) == 2
    error = capsys.readouterr().err
    assert f"bbb...: {os.strerror(code)}; name another path" in error
    assert "\x1b" not in error
    assert len(error) < 2000


@pytest.mark.parametrize("word", ["\ud800", "a\0b", "-s=x=\udfff", "\ud800" * 100_000])
def test_word_that_is_no_name_is_refused_before_any_command_sees_it(word, capsys):
    assert main(["config", "show", word]) == 2
    told = capsys.readouterr().err
    assert "holds NUL or half a character" in told
    assert told.count("\n") == 1
    assert len(told) < 300
