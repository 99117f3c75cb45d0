"""Code of a user's own: importing its modules, and objects that are named `"package.module:attribute"`.

What is imported here was named by the user: in a config, by `--import`, or in a call of `import_code`. A name that
comes from a model file is only looked up among what was imported in this way, so that reading a file never runs code
that the user did not ask for: neither a module that the file names, nor a function of any other module of the process,
such as `"os:system"`.
"""

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from seg_core.errors import InvalidArgumentError, UnknownNameError, UsageError, nearest

__all__ = [
    "NotImportedError",
    "add_folders",
    "add_import_option",
    "find_target",
    "import_code",
    "import_modules",
    "import_target",
    "is_target",
]

_IDENTIFIER = r"[^\W\d]\w*"
_MODULE = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*")
_TARGET = re.compile(rf"{_MODULE.pattern}:{_IDENTIFIER}")

_modules: set[str] = set()  # imported by `import_code`
_targets: set[str] = set()  # named one by one, to `import_target`


class NotImportedError(UnknownNameError):
    """A name is that of code that the user has not imported."""


def is_target(name: object) -> bool:
    """Returns whether a name reads `"package.module:attribute"`."""
    return isinstance(name, str) and _TARGET.fullmatch(name) is not None


def add_folders(folders: Sequence[str | os.PathLike[str]]) -> None:
    """Puts folders in front of `sys.path`, in this order, except those that it has already.

    Worker processes that are started get the `sys.path` of this process.
    """
    there = {os.path.realpath(entry) for entry in sys.path}
    new = dict.fromkeys(os.path.realpath(folder) for folder in folders)
    sys.path[:0] = [folder for folder in new if folder not in there and Path(folder).is_dir()]


def import_code(module: str, folders: Sequence[str | os.PathLike[str]] = ()) -> ModuleType:
    """Imports a module of your own, and lets model files and configs name its functions and classes.

    Call it before a model file is loaded whose network is built by your code, as in `"my_code:build"`. A module that
    registers names, such as by `MODELS.register("my_net")`, can be imported in any way.

    Args:
        module: full name, such as `"my_package.networks"`.
        folders: searched before `sys.path`, to which they are added.

    Returns:
        The module.

    Raises:
        InvalidArgumentError: if there is no such module, or it cannot be imported; the message has the reason, with
            file and line. Also if another module of that name was imported before from elsewhere.
    """
    found = _import(module, folders)
    _modules.add(module)
    return found


def add_import_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Adds the option `--import MODULE` of a command."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of your own first, such as one that registers names or has the builder of a model file; "
        "found in the current folder or among installed packages; may be repeated",
    )


def import_modules(modules: Sequence[str]) -> None:
    """Imports the modules of `--import`, which may be in the current folder.

    Raises:
        UsageError: as `import_code` raises its errors.
    """
    for module in modules:
        try:
            import_code(module, [Path.cwd()])
        except InvalidArgumentError as error:
            raise UsageError(f"--import {module}: {error}") from error


def import_target(name: str, folders: Sequence[str | os.PathLike[str]] = ()) -> Any:
    """Imports the module of `"package.module:attribute"`, and lets registries resolve this name.

    Args:
        name: the name, as a user wrote it; never one that was read from a model file.
        folders: as for `import_code`.

    Returns:
        The attribute.

    Raises:
        InvalidArgumentError: as `import_code` does, or if the name has another form or the module no such attribute.
    """
    if not is_target(name):
        raise InvalidArgumentError(f"{name!r} must read 'package.module:attribute'")
    _import(name.partition(":")[0], folders)
    found = _attribute(name)
    _targets.add(name)
    return found


def find_target(name: str, noun: str) -> Any:
    """Returns the object `"package.module:attribute"` of a module that the user has imported; imports nothing.

    Args:
        name: the name, from anywhere.
        noun: what it refers to, for messages (`"model"`).

    Raises:
        NotImportedError: if the user has not imported the module; the message says how.
        InvalidArgumentError: if the module has no such attribute, or it belongs to another package.
    """
    module = name.partition(":")[0]
    if name not in _targets and module not in _modules:
        raise NotImportedError(
            f"{noun} {name!r} is code of the module {module!r}, which is never imported only because a file names it. "
            f"If you trust that code, import it: with --import {module} on the command line (from the folder that "
            f"contains it), or in Python with seg_core.import_code({module!r})"
        )
    found = _attribute(name)
    if name not in _targets and _package(getattr(found, "__module__", None)) != _package(module):
        # such as a function of the standard library that the module has imported
        raise InvalidArgumentError(
            f"{noun} {name!r} is not defined in the package {_package(module)!r} but in "
            f"{getattr(found, '__module__', None)!r}; name it where it is defined, and import that"
        )
    return found


def _import(module: str, folders: Sequence[str | os.PathLike[str]]) -> ModuleType:
    """Imports a module, see `import_code`; its names are not allowed by that."""
    if not _MODULE.fullmatch(module):
        what = "is the name of a module and an object in it; give the module alone" if is_target(module) else ""
        raise InvalidArgumentError(
            f"module {module!r} {what or 'is no name of a module; write it as in import, such as my_package.my_code'}"
        )
    add_folders(folders)
    importlib.invalidate_caches()  # its file may be newer than the last look into its folder
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # its code may do anything
        raise InvalidArgumentError(
            f"module {module!r} cannot be imported: {_reason(module, folders, error)}"
        ) from error
    _check_place(module, found, folders)
    return found


def _package(module: str | None) -> str | None:
    return None if module is None else module.partition(".")[0]


def _attribute(name: str) -> Any:
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)  # one that the user has imported before
    if not hasattr(found, attribute):
        hint = nearest(attribute, [own for own in vars(found) if not own.startswith("_")])
        raise InvalidArgumentError(f"module {module!r} ({_file(found)}) has no {attribute!r}.{hint}".rstrip("."))
    value = getattr(found, attribute)
    if not callable(value):
        raise InvalidArgumentError(
            f"{name!r} ({_file(found)}) is a {type(value).__name__}, and must be a class or a function"
        )
    return value


def _file(module: ModuleType) -> str:
    paths = getattr(module, "__path__", None)
    return getattr(module, "__file__", None) or (next(iter(paths), "built in") if paths is not None else "built in")


def _check_place(module: str, found: ModuleType, folders: Sequence[str | os.PathLike[str]]) -> None:
    """Raises InvalidArgumentError if one of the folders has a module of this name, but another one was imported."""
    parts = module.split(".")
    for folder in folders:
        path = Path(folder, *parts)
        own = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
        if not own:
            continue
        file = getattr(found, "__file__", None)
        if file is None or os.path.realpath(file) not in map(os.path.realpath, own):
            raise InvalidArgumentError(
                f"module {module!r} is {_file(found)}, which this process has imported before {own[0]} of the same "
                "name; rename one of them, or start a new process"
            )
        return


def _reason(module: str, folders: Sequence[str | os.PathLike[str]], error: BaseException) -> str:
    """Returns why an import failed, with the line of the user's code that raised the error."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        searched = ", ".join(map(str, dict.fromkeys(map(os.path.realpath, folders)))) or "sys.path"
        found = f"there is no module {error.name!r}"
        return f"{found} in {searched} or among the installed packages; check the name, and the folder it is in"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    # the first two are this file and importlib
    frames = [f for f in frames if f.filename not in (__file__, importlib.__file__)]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
