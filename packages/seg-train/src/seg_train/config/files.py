"""The TOML files of a config, and those that they extend."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_core.errors import ConfigError, CorruptFileError, nearest
from seg_core.parsing import MAX_TOML, parse_toml
from seg_core.text import read_text
from seg_train.config.migrate import check_format, migrate
from seg_train.config.schema import flatten
from seg_train.config.toml_advice import line_advice, other_format
from seg_train.config.values import unstorable

__all__ = ["Tables", "read_tables", "with_format"]

# lists at the top of a config, which are joined over its files: those of the extended files first
_JOINED = ("imports", "import_paths")
_MOST_FILES = 64
_MOST_NAMED = 6  # in a message
_SHOWN = 500  # characters of a path in messages


@dataclass
class Tables:
    """The tables of a config, merged from several files and overrides.

    Attributes:
        values: nested, as in TOML.
        origins: full key -> origin of its value.
        folders: those of the files, first that of the file that extends the others.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    def update(self, values: Mapping[str, Any], origin: str) -> None:
        """Merges `values` into the tables, key by key.

        If the `name` of a table changes, its former `params` are dropped: they belonged to the former name. The modules
        of `imports` and the folders of `import_paths` are joined.
        """
        joined = {
            key: list(dict.fromkeys([*self.values[key], *values[key]]))
            for key in _JOINED
            if self._can_join(key, values)
        }
        before = {key: self.origins[key] for key in joined}
        self._merge(self.values, {**values, **joined}, "")
        kept = flatten(self.values)
        self.origins = {key: self.origins[key] for key in kept if key in self.origins}
        self.origins |= dict.fromkeys(flatten(values), origin)
        self.origins |= {key: f"{former}, {origin}" for key, former in before.items()}

    def _can_join(self, key: str, values: Mapping[str, Any]) -> bool:
        lists = (self.values.get(key), values.get(key))
        return all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists)

    def _merge(self, old: dict[str, Any], new: Mapping[str, Any], prefix: str) -> None:
        if "name" in new and old.get("name") != new["name"] and old.pop("params", None) is not None:
            self.origins = {k: v for k, v in self.origins.items() if not k.startswith(f"{prefix}params.")}
        for key, value in new.items():
            if isinstance(value, Mapping) and isinstance(old.get(key), dict):
                self._merge(old[key], value, f"{prefix}{key}.")
            else:
                old[key] = value


def read_tables(path: Path, *, stored: bool = False) -> Tables:
    """Returns the tables of a config file, merged over those of the files that it extends.

    `extends` at the top of a file names another file, or a list of them in which later ones override earlier ones;
    paths are relative to the file with `extends`, as are those of `import_paths`. `format` is written into the config
    of a run folder; a config of an earlier seg-train is converted to today's keys.

    Args:
        path: path of the file.
        stored: whether it is in a run folder; then a missing `format` means 1.

    Raises:
        ConfigError: if a file cannot be read or is not TOML, or the files extend each other cyclically.
    """
    tables = Tables()
    _add(tables, path, (), stored, _Read())
    return tables


def with_format(values: dict[str, Any], where: str, *, stored: bool = False) -> dict[str, Any]:
    """Returns the tables of one file in today's keys, without the key `format`.

    Raises:
        ConfigError: if a newer seg-train wrote it.
    """
    version = values.pop("format", 1 if stored else None)
    return values if version is None else migrate(values, check_format(version, where)).tables


@dataclass
class _Read:
    """The files of a config that were read so far: those that extend two others, which do so too, have no end."""

    files: int = 0
    size: int = 0

    def add(self, path: Path, text: str) -> None:
        """Counts a file.

        Raises:
            ConfigError: if these are too many, or too large together.
        """
        self.files += 1
        self.size += len(text)
        if self.files > _MOST_FILES or self.size > MAX_TOML:
            raise ConfigError(
                f"{path}: the files that a config extends, and those that they extend, are more than {_MOST_FILES} "
                f"files or {MAX_TOML:,} characters together, where one that is extended twice counts twice; shorten "
                "them, and extend each file once"
            )


def _add(tables: Tables, path: Path, by: tuple[Path, ...], stored: bool, read: _Read) -> None:
    if os.path.realpath(path) in map(os.path.realpath, by):
        names = list(map(str, (*by, path)))
        circle = " extends ".join([*names[:2], "...", *names[-2:]] if len(names) > _MOST_NAMED else names)
        raise ConfigError(f"cyclic extends: {circle}; remove extends from one of them")
    values = _read(path, by, read)
    tables.folders.append(path.parent)
    bases = values.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ConfigError(f"{path}: extends must be the path of a config, or a list of them, got {bases!r}")
    for base in bases:
        if wrong := unstorable(base):
            raise ConfigError(f"{path}: extends = {base!r} {wrong}; correct the path")
        _add(tables, path.parent / base, (*by, path), False, read)
    values = with_format(values, str(path), stored=stored)
    if isinstance(paths := values.get("import_paths"), list):
        base = path.parent.resolve()
        values["import_paths"] = [str(base / item) if isinstance(item, str) else item for item in paths]
    tables.update(values, str(path))


def _read(path: Path, by: tuple[Path, ...], read: _Read) -> dict[str, Any]:
    try:
        text = read_text(path, "config")
    except FileNotFoundError:
        hint = f", which {by[-1]} extends (its paths are relative to its own folder)" if by else ""
        raise ConfigError(f"there is no config file {path}{hint}; {_alike(path)}") from None
    except CorruptFileError as error:  # of another encoding
        raise ConfigError(str(error)) from error
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            raise ConfigError(f"{path} is a folder, no config; {_instead_of_folder(path)}") from None
        reason = error.strerror or error
        raise ConfigError(f"cannot read the config {str(path)[:_SHOWN]}: {reason}; check its path") from error
    read.add(path, text)
    try:
        return parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        if advice := other_format(path):
            raise ConfigError(f"{path} is not valid TOML: {advice}") from error
        raise ConfigError(f"{path} is not valid TOML: {error}{line_advice(text, str(error))}") from error


def _alike(path: Path) -> str:
    """Returns what to do about a missing file: the TOML files in its folder that may have been meant."""
    names = [other.name for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    if hint := nearest(path.name, names, limit=1):
        return f"check its path.{hint}"
    if names:
        return f"check its path; {path.parent} has {', '.join(sorted(names)[:5])}"
    return f"check its path (current folder: {Path.cwd()})"


def _instead_of_folder(path: Path) -> str:
    own = path / "config.toml"
    if own.is_file():
        return f"to continue the run in it: seg train --resume {path}; its config is {own}"
    names = sorted(other.name for other in path.glob("*.toml") if other.name != "classes.toml")
    return (
        f"name a TOML file in it: {', '.join(names[:5])}" if names else "name a TOML file; see seg config init --help"
    )
