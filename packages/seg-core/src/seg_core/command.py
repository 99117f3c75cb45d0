"""The `seg` command: finds the subcommands of all installed packages and runs one.

A package declares its subcommands by an entry point in the group `seg_core.commands` whose value is a catalog: name ->
`Entry` with the target of a `Command` and a one-line summary. Only the subcommand that is run is imported.

Exit codes: 0 done, 1 failed or something was found, 2 wrong usage (the command line or a config is wrong, or names what
does not exist; nothing was started), 130 interrupted by Ctrl-C (128 and the number of the signal, as in shells). The
class of an error decides, see `seg_core.errors`.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seg_core.__about__ import __version__
from seg_core.errors import UserError, nearest
from seg_core.registry import COMMANDS

__all__ = ["INTERRUPTED", "Command", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

# command -> the package that has it, so that a missing package is named
_PACKAGES = {
    "config": "seg-train",
    "datasets": "seg-datasets",
    "eval": "seg-train",
    "models": "seg-models",
    "predict": "seg-models",
    "train": "seg-train",
}


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
    """

    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    description: str = ""
    epilog: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `seg` with `argv` (default: the process's arguments) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    former = warnings.formatwarning
    warnings.formatwarning = _warning_line  # worker processes that fork inherit it
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"seg: error: {error}", file=sys.stderr)
        return error.exit_code
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


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as a user of the command reads it: without the line of our code that gave it."""
    if issubclass(category, UserWarning):
        return f"seg: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n" + (f"  {line}\n" if line else "")


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
    parser = argparse.ArgumentParser(
        prog=f"seg {name}",
        description=command.description or COMMANDS.entry(name).summary,
        epilog=command.epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)
    try:
        namespace = parser.parse_args(rest, argparse.Namespace(command_line=["seg", *arguments]))
    except SystemExit as stop:  # argparse would end the process; main() returns the code
        return stop.code if isinstance(stop.code, int) else 2
    code: int = command.run(namespace)
    sys.stdout.flush()
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
