"""Registries: models, datasets, losses and more of every installed package by name, imported on use.

A package declares a catalog (a dict of names, see `seg_core.catalog`) by one entry point in the group of its kind.
An installed package is found without further steps; the target of a name is imported when the name is used.

`"package.module:attribute"` is a name too, of code of the user's own that was imported before: by a config, `--import`
or `seg_core.import_code`. It is never imported here, since names also come from model files.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, overload

from seg_core.catalog import Entry
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.own_code import find_target, is_target, spelling_hint

__all__ = [
    "BACKBONES",
    "COMMANDS",
    "DATASETS",
    "LOADERS",
    "LOGGERS",
    "LOSSES",
    "MODELS",
    "OPTIMIZERS",
    "PREDICTORS",
    "SCHEDULERS",
    "Registry",
    "resolve_target",
]


def resolve_target(target: str) -> Any:
    """Imports `"package.module:attribute"` and returns the attribute.

    Raises:
        InvalidArgumentError: if `target` does not have this form.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise InvalidArgumentError(f"target must read 'package.module:attribute', got {target!r}")
    return getattr(importlib.import_module(module), attribute)


class Registry:
    """The names of one kind of object, such as models.

    Args:
        noun: what the names refer to, for messages (`"model"`).
        group: entry point group whose catalogs are read on first use; None for a registry that only `register` and
            `add_table` fill.
        former_group: earlier name of the group; the error for an unknown name lists packages that still use it.
    """

    def __init__(self, noun: str, group: str | None = None, former_group: str | None = None) -> None:
        self.noun = noun
        self.group = group
        self.former_group = former_group
        self._entries: dict[str, Entry] = {}
        self._objects: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._conflicts: dict[str, tuple[str, str]] = {}
        self._tables: set[str] = set()
        self._discovered = group is None

    def add_table(self, package: str, table: Mapping[str, Entry | str]) -> None:
        """Adds a package's catalog, once.

        Only needed without installed metadata (torch.hub); otherwise the entry point is used. A name that another
        package already has stays in the list; using it is an error that names both packages.
        """
        if package in self._tables:
            return
        self._tables.add(package)
        for name, value in table.items():
            entry = Entry(value) if isinstance(value, str) else value
            if not isinstance(entry, Entry):
                raise TypeError(f"{self.noun} {name!r} must be a catalog entry or a target string, got {entry!r}")
            if name in self._origins:
                self._conflicts[name] = (self._origins[name], package)
                continue
            self._entries[name] = entry
            self._origins[name] = package

    @overload
    def register(self, name: str) -> Callable[[Any], Any]: ...
    @overload
    def register(self, name: str, value: Any) -> Any: ...
    def register(self, name: str, value: Any = None) -> Any:
        """Adds one name, such as in a notebook; also a decorator: `@MODELS.register("my_net")`.

        Args:
            name: the new name.
            value: the object itself, an `Entry`, or a `"package.module:attribute"` string.

        Raises:
            InvalidArgumentError: if the name is taken.
        """
        if value is None:
            return lambda decorated: self.register(name, decorated)
        self._discover()
        if name in self._origins:
            raise InvalidArgumentError(
                f"{self.noun} {name!r} is already registered by {self._origins[name]}; choose another name"
            )
        self._origins[name] = "register()"
        if isinstance(value, str):
            self._entries[name] = Entry(value)
        elif isinstance(value, Entry):
            self._entries[name] = value
        else:
            module, attribute = getattr(value, "__module__", "?"), getattr(value, "__qualname__", repr(value))
            self._entries[name] = Entry(f"{module}:{attribute}")
            self._objects[name] = value
        return value

    def entry(self, name: str) -> Entry:
        """Returns the catalog's entry of `name`, without importing its target.

        Args:
            name: a name of a catalog, a registered one, or `"package.module:attribute"` of the user's own code.

        Raises:
            UnknownNameError: if there is no such name; the message names the nearest ones. Also if the user has not
                imported the module of `"package.module:attribute"`.
            InvalidArgumentError: if two packages define the name, or the module has no such attribute.
        """
        self._discover()
        if name in self._conflicts:
            first, second = self._conflicts[name]
            raise InvalidArgumentError(
                f"{self.noun} {name!r} is defined by both {first} and {second}; uninstall one of them, or report "
                "the conflict to its authors"
            )
        if self._is_own(name):
            find_target(name, self.noun)
            return Entry(name)
        if name not in self._entries:
            if spelling := spelling_hint(name):
                last = name.replace(":", ".").rpartition(".")[2]
                spelling = f"Did you mean {last!r}?" if last in self._entries else spelling.rstrip(".")
                raise UnknownNameError(f"unknown {self.noun} {name!r}. {spelling}")
            hint = nearest(name, self._entries)
            known = ", ".join(sorted(self._entries)) or "none (is the package that has them installed?)"
            raise UnknownNameError(f"unknown {self.noun} {name!r}.{hint} Known: {known}{self._former_users()}")
        return self._entries[name]

    def get(self, name: str) -> Any:
        """Imports and returns the target of `name`.

        Raises:
            UnknownNameError: as `entry` does.
            InvalidArgumentError: as `entry` does.
        """
        entry = self.entry(name)
        if self._is_own(name):
            return find_target(name, self.noun)  # not kept: a notebook may reload the module
        if name not in self._objects:
            self._objects[name] = resolve_target(entry.target)
        return self._objects[name]

    def origin(self, name: str) -> str:
        """Returns the package that `name` comes from; of the user's own code its module."""
        self.entry(name)
        if self._is_own(name):
            return name.partition(":")[0]
        return self._origins[name]

    def names(self) -> list[str]:
        """Returns all names, sorted; nothing is imported."""
        self._discover()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        self._discover()
        if not self._is_own(name):
            return name in self._entries
        try:
            find_target(str(name), self.noun)
        except (UnknownNameError, InvalidArgumentError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __repr__(self) -> str:
        return f"Registry({self.noun!r}, {len(self)} names)"

    def _is_own(self, name: object) -> bool:
        """Returns whether a name is that of an object of the user's own code."""
        return name not in self._entries and is_target(name)

    def _former_users(self) -> str:
        """Returns a sentence about packages that are not read because they use the former group, or ""."""
        points = entry_points(group=self.former_group) if self.former_group else ()
        packages = sorted({point.dist.name if point.dist is not None else point.name for point in points})
        if not packages:
            return ""
        return (
            f". Not read: the catalog of {', '.join(packages)} in the entry point group {self.former_group!r}, which "
            f"is {self.group!r} now; update the package or rename the group in its pyproject.toml"
        )

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for point in sorted(entry_points(group=self.group or ""), key=lambda p: (p.name, p.value)):
            package = point.dist.name if point.dist is not None else point.name
            try:
                self.add_table(package, self._load(point))
            except Exception as error:  # an error in a third-party catalog must not break all other names
                warnings.warn(
                    f"the {self.noun} catalog of package {package!r} ({point.value}) cannot be read and is skipped: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )

    @staticmethod
    def _load(point: EntryPoint) -> Mapping[str, Entry | str]:
        table = point.load()
        if not isinstance(table, Mapping):
            raise TypeError(f"the entry point must name a mapping, got {type(table).__name__}")
        return table


MODELS = Registry("model", "seg_core.models")
BACKBONES = Registry("backbone", "seg_core.backbones")
DATASETS = Registry("dataset", "seg_core.datasets")
LOSSES = Registry("loss", "seg_core.losses")
OPTIMIZERS = Registry("optimizer", "seg_core.optimizers")
SCHEDULERS = Registry("LR scheduler", "seg_core.schedulers", former_group="seg_core.schedules")
LOGGERS = Registry("logger", "seg_core.loggers")
PREDICTORS = Registry("way of predicting", "seg_core.predictors")
# suffix of an exported file, such as ".onnx" -> function that loads it from its path
LOADERS = Registry("loader", "seg_core.loaders")
COMMANDS = Registry("command", "seg_core.commands")
