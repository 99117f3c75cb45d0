"""The `seg` command: finds the subcommands of all installed packages and runs one.

A package declares its subcommands by an entry point in the group `seg_core.commands` whose value is a catalog: name ->
`Entry` with the target of a `Command` and a one-line summary. Only the subcommand that is run is imported.

Exit codes: 0 done, 1 failed or something was found, 2 wrong usage (the command line or a config is wrong, or names what
does not exist; nothing was started), 130 interrupted by Ctrl-C (128 and the number of the signal, as in shells). The
class of an error decides, see `seg_core.errors`.
"""

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from seg_core.__about__ import __version__
from seg_core.errors import UsageError, UserError, WriteError, nearest
from seg_core.parsing import parse_toml
from seg_core.registry import COMMANDS
from seg_core.text import VisibleStream, short, visible_lines

__all__ = ["INTERRUPTED", "Command", "main", "parse_settings", "probabilities"]

_SHOWN = 1000  # characters of a message of argparse, which may hold a word of the command line

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

# errors of the system whose cause is a path that the user names, wherever they are raised
_OF_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)

# command -> the package that has it, so that a missing package is named
_PACKAGES = {
    "benchmark": "seg-models",
    "config": "seg-train",
    "datasets": "seg-datasets",
    "eval": "seg-train",
    "export": "seg-models",
    "models": "seg-models",
    "predict": "seg-models",
    "train": "seg-train",
}


def probabilities(text: str) -> float | list[float]:
    """Returns the value of an option such as `--threshold`: a number, or a list of those that commas separate.

    Raises:
        argparse.ArgumentTypeError: if it holds anything else; argparse then names the option.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number; write a probability, such as 0.5, or one for each class with commas between "
            "them: 0.5,0.3"
        ) from error
    return values if len(values) > 1 else values[0]


@dataclass(frozen=True)
class Command:
    """A subcommand of `seg`.

    Attributes:
        configure: adds the subcommand's arguments to its parser.
        run: does the work, given the parsed arguments, and returns the exit code. `arguments.command_line` is the
            command line as it was given, a list that begins with `"seg"`. Results go to stdout; progress and warnings
            go to stderr. A `UserError` it raises is shown as one sentence.
        description: text that `--help` shows above the arguments.
        epilog: text that `--help` shows below them, such as examples.
        advise: called with the words behind the subcommand and the problem, if the words cannot be parsed; returns what
            to do about it, a clause for each cause that it finds.
    """

    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    description: str = ""
    epilog: str = ""
    advise: Callable[[Sequence[str], str], list[str]] | None = None


def parse_settings(words: Sequence[str], example: str) -> dict[str, Any]:
    """Returns the values of `-s KEY=VALUE` by key; a value is TOML, and a word without quotes is a string.

    Args:
        words: what was given with `-s`.
        example: a setting of this command, for the message, such as `"missing=skip"`.

    Raises:
        UsageError: if a word is not KEY=VALUE.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"-s takes KEY=VALUE, such as -s {example}, got {word!r}")
        try:
            found[key] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            found[key] = text
    return found


class _Parser(argparse.ArgumentParser):
    """Says for a wrong command line what to write instead."""

    advise: Callable[[Sequence[str], str], list[str]] | None = None
    words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = list(args or ())
        for word in self.words:
            if word == "--":
                break
            if word.startswith("--") and word.endswith("=--"):
                # argparse takes it for the end of the options, and gives the option a list
                self.error(f"argument {word.removesuffix('=--')}: '--' is no value")
        return super().parse_known_args(args, namespace)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse would hide that it cannot be written

    def error(self, message: str) -> NoReturn:
        advice = [] if self.advise is None else self.advise(self.words, message)
        if not advice:
            known = self._options()
            unknown = [word.split("=")[0] for word in self.words if word.startswith("--") and word != "--"]
            for name in unknown:
                # beginnings of options are understood, and another error than an unknown option
                plain = [option.removeprefix("--") for option in known]  # dashes are no likeness
                alike = nearest(name.removeprefix("--"), plain, limit=1).replace("'", "'--", 1)
                hint = "" if any(option.startswith(name) for option in known) else alike
                if hint:
                    advice.append(f"there is no {name}.{hint}")
        shown = message if len(message) <= _SHOWN else f"{message[:_SHOWN]}... ({len(message):,} characters)"
        super().error("; ".join([shown, *advice]))

    def _options(self) -> list[str]:
        """Returns the options, also those of subcommands."""
        names = [name for name in self._option_string_actions if name.startswith("--")]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                names += [name for parser in action.choices.values() for name in parser._options()]
        return list(dict.fromkeys(names))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `seg` with `argv` (default: the process's arguments) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    former = warnings.formatwarning
    warnings.formatwarning = _warning_line  # worker processes that fork inherit it
    try:
        with _any_names(), _visible_streams(), _stdout_errors():
            _check_words(arguments)
            return _dispatch(arguments)
    except UserError as error:
        print(f"seg: error: {visible_lines(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in _OF_PATHS or error.filename is None:
            raise
        path = ascii(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else str(error.filename)
        shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."
        print(f"seg: error: cannot use {shown}: {error.strerror}; name another path", file=sys.stderr)
        return UsageError.exit_code
    except KeyboardInterrupt:
        print("seg: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `seg models | head` closes our stdout early, which is no failure. The descriptor is replaced so
        # that the interpreter's own flush at exit does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        warnings.formatwarning = former
        if argv is None and threading.current_thread() is threading.main_thread():
            # all is done; Ctrl-C while Python ends would print where it was
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


@contextlib.contextmanager
def _any_names() -> Iterator[None]:
    """Lets stdout have any names of files, whose bytes need not be valid in its encoding."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    former = stream.errors
    stream.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=former)


@contextlib.contextmanager
def _visible_streams() -> Iterator[None]:
    """Makes control characters readable that labels, file names and messages of others hold, see `seg_core.text`.

    Of stdout only if it is a terminal: other programs get the bytes as they are, as from ls.
    """
    streams = {"stderr": sys.stderr}
    if sys.stdout is not None and sys.stdout.isatty():
        streams["stdout"] = sys.stdout
    wrapped: dict[str, Any] = {name: VisibleStream(stream) for name, stream in streams.items() if stream is not None}
    for name, stream in wrapped.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in wrapped.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, streams[name])


@contextlib.contextmanager
def _stdout_errors() -> Iterator[None]:
    """Writes what stdout still has to get; an error of the system there becomes a WriteError.

    Raises:
        WriteError: if stdout cannot be written.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except (UserError, BrokenPipeError):
        raise
    except OSError as error:
        if sys.stdout is None or error.filename is not None or _can_write():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail again
        raise WriteError(
            f"cannot write to stdout: {error.strerror or error}; check where it is redirected to"
        ) from error


def _can_write() -> bool:
    """Returns whether stdout takes a line."""
    try:
        print(flush=True)
    except OSError:
        return False
    return True


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as a user of the command reads it: without the line of our code that gave it."""
    if issubclass(category, UserWarning):
        return f"seg: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n" + (f"  {line}\n" if line else "")


def _check_words(words: Sequence[str]) -> None:
    """Raises UsageError for a word that names no file of this system, which a program can pass, but no shell."""
    for word in words:
        try:
            is_whole = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            is_whole = False
        if not is_whole:
            raise UsageError(f"the argument {short(word)} holds NUL or half a character, which no name can; correct it")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"seg-core {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS and name in _PACKAGES:
        message = f"`seg {name}` needs {_PACKAGES[name]}, which is not installed: pip install {_PACKAGES[name]}"
        print(f"seg: error: {message}", file=sys.stderr)
        return 2
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        what = "option" if name.startswith("-") else "command"
        print(f"seg: error: unknown {what} {name!r}.{hint} `seg` alone lists the commands", file=sys.stderr)
        return 2
    command = COMMANDS.get(name)
    parser = _Parser(
        prog=f"seg {name}",
        description=command.description or COMMANDS.entry(name).summary,
        epilog=command.epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.advise = command.advise
    command.configure(parser)
    try:
        namespace = parser.parse_args(rest, argparse.Namespace(command_line=["seg", *arguments]))
    except SystemExit as stop:  # argparse would end the process; main() returns the code
        return stop.code if isinstance(stop.code, int) else 2
    code: int = command.run(namespace)
    return code


def _overview() -> str:
    lines = ["usage: seg COMMAND [ARGUMENTS]", "", "Semantic segmentation in PyTorch.", ""]
    names = COMMANDS.names()
    if names:
        width = max(map(len, names))
        lines += ["commands:"]
        lines += [f"  {n:<{width}}  {COMMANDS.entry(n).summary}  ({COMMANDS.origin(n)})" for n in names]
    else:
        lines += [
            "No commands are installed: `pip install seg-models` adds seg predict, `pip install seg-train` seg train."
        ]
    lines += ["", "`seg COMMAND --help` shows the help of one command; `seg --version` prints the version."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
