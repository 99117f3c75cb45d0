"""Code of a user's own: importing its modules, and objects that are named `"package.module:attribute"`.

What is imported here was named by the user: in a config, by `--import`, or in a call of `import_code`. A name that
comes from a model file is only looked up among what was imported in this way, so that reading a file never runs code
that the user did not ask for: neither a module that the file names, nor a function of any other module of the process,
such as `"os:system"`.
"""

import argparse
import contextlib
import functools
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from seg_core.errors import InvalidArgumentError, UnknownNameError, UsageError, UserError, nearest

__all__ = [
    "NotImportedError",
    "add_folders",
    "add_import_option",
    "check_defined_here",
    "find_target",
    "import_code",
    "import_modules",
    "import_target",
    "is_target",
    "naming",
    "spelling_hint",
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
        NotImportedError: if the user has not imported the module, or the one that defines the attribute; the message
            says how.
        InvalidArgumentError: if the module has no such attribute, or it is nothing that a name can stand for.
    """
    module = name.partition(":")[0]
    if name not in _targets and module not in _modules:
        raise NotImportedError(
            f"{noun} {name!r} is code of the module {module!r}, which is never imported only because a file names it. "
            f"If you trust that code, import it: with --import {module} on the command line (from the folder that "
            f"contains it), or in Python with seg_core.import_code({module!r})"
        )
    found = _attribute(name)
    if name in _targets:
        return found
    _check_is_named(name, found)
    home = getattr(found, "__module__", None)
    if not _is_trusted(home, module):
        if home is None or _package(home) in sys.stdlib_module_names:  # no file has a reason to name such a function
            raise InvalidArgumentError(
                f"{noun} {name!r} is not defined in the package {_package(module)!r} but in {home!r}, which is part of "
                "Python; name a function or class of your own"
            )
        raise NotImportedError(
            f"{noun} {name!r} is not defined in the package {_package(module)!r} but in {home!r}, which you have not "
            f"imported; if you trust that code, import it too: with --import {home} on the command line, or in Python "
            f"with seg_core.import_code({home!r})"
        )
    return found


def check_defined_here(name: str, found: Any) -> None:
    """Checks that a model file which names an object can be loaded by who imports the module of the name.

    Args:
        name: `"package.module:attribute"`.
        found: the object.

    Raises:
        InvalidArgumentError: if it can not; the message says what to name, or to write, instead.
    """
    _check_is_named(name, found)
    module, home = name.partition(":")[0], getattr(found, "__module__", None)
    if home is None or _package(home) == _package(module):
        return
    own = f"{home}:{getattr(found, '__name__', '')}"
    try:
        same = is_target(own) and _attribute(own) is found
    except (InvalidArgumentError, ImportError):
        same = False
    what = f"name it there: {own!r}" if same else f"write a function or class in {module} that calls it, and name that"
    raise InvalidArgumentError(
        f"it is defined in {home!r}, so that a model file that names {name!r} could not be loaded by an import of "
        f"{module!r} alone; {what}"
    )


def _check_is_named(name: str, found: Any) -> None:
    """Raises InvalidArgumentError if an object does not know the module that it is defined in."""
    if isinstance(found, functools.partial):
        module, _, attribute = name.partition(":")
        raise InvalidArgumentError(
            f"{name!r} is a functools.partial, which does not know its module, so that a model file that names it "
            f"could not be loaded; write a function in {module}: def {attribute}(**options): return ..."
        )


def _is_trusted(home: str | None, module: str) -> bool:
    """Returns whether the user has imported the package that defines an object, which `module` has too."""
    return _package(home) in {_package(module), *map(_package, _modules)}


def spelling_hint(name: object) -> str:
    """Returns how a name of code of the user's own that is misspelled is to be written, as a sentence; "" for others.

    >>> spelling_hint("my_code.build").partition("; ")[2]
    "write 'my_code:build'."
    """
    if not isinstance(name, str) or is_target(name) or name.startswith("timm:"):
        return ""
    text = re.sub(r"\s", "", name).removeprefix("./").replace("::", ":")
    module, colon, attribute = text.partition(":")
    if not colon and module.endswith(".py"):
        colon = ":"
    module = module.removesuffix(".py").replace("/", ".").replace("\\", ".").strip(".")
    if not colon and text == name and name.count("."):
        module, _, attribute = module.rpartition(".")
    elif not colon:
        return ""
    if not _MODULE.fullmatch(module):
        return ""
    form = 'Code of your own is named "package.module:attribute"'
    if not attribute:
        return f"{form}; write the name of the function or class after the colon, as in {f'{module}:build'!r}."
    if is_target(f"{module}:{attribute}"):
        return f"{form}; write {f'{module}:{attribute}'!r}."
    if _MODULE.fullmatch(attribute):
        last = attribute.rpartition(".")[2]
        return (
            f"{form}, of an attribute of the module itself; write {last} = {attribute} at the end of that module, and "
            f"name {f'{module}:{last}'!r}."
        )
    return ""


@contextlib.contextmanager
def naming(key: str, name: str) -> Iterator[None]:
    """Adds to a traceback of code that a config names which key names it; errors of users have messages of their own.

    Args:
        key: full key.
        name: its value.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        error.add_note(f'raised by the code that the config names: {key} = "{name}"')
        raise


def _import(module: str, folders: Sequence[str | os.PathLike[str]]) -> ModuleType:
    """Imports a module, see `import_code`; its names are not allowed by that."""
    if not _MODULE.fullmatch(module):
        what = "is the name of a module and an object in it; give the module alone" if is_target(module) else ""
        better = _as_module(module)
        such = "such as my_package.my_code" if better is None else f"as {better}"
        raise InvalidArgumentError(
            f"module {module!r} {what or f'is no name of a module; write it as in import, {such}'}"
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


def _as_module(text: str) -> str | None:
    """Returns the name of the module in a path such as `"./my_code.py"`, None if there is none."""
    name = text.strip().removesuffix(".py").removeprefix("./").replace("/", ".").replace("\\", ".")
    return name if name != text and _MODULE.fullmatch(name) else None


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
        if module.endswith(".py"):
            return f"{found}; write it as in import, as {module.removesuffix('.py')}, without .py"
        return f"{found} in {searched} or among the installed packages; check the name, and the folder it is in"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    # the first two are this file and importlib
    frames = [f for f in frames if f.filename not in (__file__, importlib.__file__)]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
