"""Loads a config: TOML files, then overrides, then all checks; all problems are reported at once."""

import contextlib
import copy
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from seg_core.errors import ConfigError, InvalidTypeError, UserError
from seg_core.parsing import MAX_DEPTH, parse_toml
from seg_train.config.check import find_problems
from seg_train.config.describe import describe_problem
from seg_train.config.files import Tables, read_tables, with_format
from seg_train.config.own_code import code_places, import_own_code
from seg_train.config.pixseg_keys import named_as_here
from seg_train.config.schema import TrainConfig, flatten
from seg_train.config.toml_advice import quoted
from seg_train.config.unset import NONE, apply_none, is_unsettable
from seg_train.config.values import shown_value, value_problems
from seg_train.optim.schedulers import length_problems

__all__ = ["apply_overrides", "check_untrusted", "load_config", "load_with_origins"]

_MISSING = object()
_MOST_SHOWN = 100  # problems of one config
_OVERRIDE_SHOWN = 400  # characters of an override in messages


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    epochs: int | None = None,
    steps: int | None = None,
    weights: str | None = None,
    imports: Sequence[str] = (),
    stored: bool = False,
) -> TrainConfig:
    """Returns the checked config of `source`. Nothing of the run is built.

    The code that it names is imported: modules of `imports`, and those of names such as `"my_code:MyLoss"`. They are
    searched in `import_paths`, the folders of the files, and the current folder, which are added to `sys.path`.

    Args:
        source: a TOML file, which may extend others (see `seg_train.config.files`), or the tables themselves.
        overrides: `"key.path=value"` each, as for `-s`: the value in TOML syntax, a bare word is a string. `"none"`
            unsets a key that is absent by default.
        epochs: length of the run in epochs, instead of that in the config.
        steps: length of the run in steps; not together with `epochs`.
        weights: initial weights, instead of the config's `model.weights` and `model.weights_backbone`.
        imports: modules of your own that are imported too, in addition to those of the config.
        stored: whether `source` is the config of a run folder, which may have the keys of an earlier seg-train.

    Raises:
        ConfigError: if something is wrong; the message lists every problem with its full key, the value and what is
            allowed.
        InvalidTypeError: if `source` is neither a path nor tables.
    """
    name, tables = _read(source, stored)
    problems = apply_overrides(tables.values, overrides)
    _add_imports(tables, imports)
    if epochs is not None and steps is not None:
        problems.append(f"set the length of a run in epochs or in steps, got epochs={epochs} and steps={steps}")
    elif epochs is not None or steps is not None:
        _replace(tables.values, "trainer", {"epochs": epochs, "steps": steps})
    if weights is not None:
        _replace(tables.values, "model", {"weights": weights, "weights_backbone": None})
    config = _checked(name, tables, problems, stored=stored)
    if not stored:
        _check_end_of_scheduler(name, config)
    return config


def load_with_origins(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), imports: Sequence[str] = ()
) -> tuple[TrainConfig, dict[str, str]]:
    """Returns the config, and the origin of each value that is not a default: full key -> file or `-s`.

    A key that `"none"` has unset is no key of the config; its origin says so.

    Args:
        source: as for `load_config`.
        overrides: as for `load_config`.
        imports: as for `load_config`.

    Raises:
        ConfigError: as `load_config` does.
    """
    name, tables = _read(source)
    problems = apply_overrides(tables.values, overrides)
    for override in overrides:
        _set_origin(tables.origins, override)
    _add_imports(tables, imports)
    config = _checked(name, tables, problems)
    _check_end_of_scheduler(name, config)
    return config, tables.origins


def check_untrusted(
    source: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> tuple[list[tuple[str, str]], list[str]]:
    """Checks a config of somebody else: nothing that it names is imported.

    Sections that name code are checked for their keys and types only, since what else is allowed depends on the code.

    Args:
        source: as for `load_config`; a config of a run folder too.
        overrides: as for `load_config`.

    Returns:
        Full key and value of each place that names code, which `load_config` would import and run.
        What is wrong with the config.

    Raises:
        ConfigError: if a file cannot be read.
    """
    name, tables = _read(source)
    problems = apply_overrides(tables.values, overrides)
    if wrong := value_problems(tables.values):
        return [], [*problems, *wrong]
    _, not_unset = apply_none(tables.values)
    places = code_places(tables.values)
    with _paths_of(name):
        _, found = _validate(tables.values, {re.split(r"[.\[]", key)[0] for key, _ in places})
    return places, [*problems, *not_unset.values(), *found]


def _read(source: str | os.PathLike[str] | Mapping[str, Any], stored: bool = False) -> tuple[str, Tables]:
    """Returns the name of the config for messages, and its tables."""
    if isinstance(source, Mapping):
        name = "the config"
        return name, Tables(with_format(copy.deepcopy(dict(source)), name, stored=stored))
    if not isinstance(source, str | os.PathLike):
        told = f"got {type(source).__name__}"
        if isinstance(source, TrainConfig):
            told = "got a config, which is loaded already; pass it to Trainer, or load its tables: config.to_dict()"
        raise InvalidTypeError(f"load_config takes the path of a TOML file, or its tables as a dict, {told}")
    return str(source), read_tables(Path(source), stored=stored)


def _replace(tables: dict[str, Any], section: str, values: Mapping[str, Any]) -> None:
    """Sets keys of a section, and removes those whose value is None."""
    table = tables.setdefault(section, {})
    if isinstance(table, dict):  # anything else is an error that the schema reports
        tables[section] = {k: v for k, v in table.items() if k not in values} | {
            k: v for k, v in values.items() if v is not None
        }


def _add_imports(tables: Tables, imports: Sequence[str]) -> None:
    """Adds the modules of `--import` to those of the config."""
    former = tables.values.get("imports", [])
    if imports and isinstance(former, list):  # anything else is an error that the schema reports
        tables.values["imports"] = [*former, *(module for module in imports if module not in former)]
        origin = tables.origins.get("imports")
        tables.origins["imports"] = "--import" if origin is None else f"{origin}, --import"


def _checked(name: str, tables: Tables, problems: list[str], *, stored: bool = False) -> TrainConfig:
    """Returns the config if there are no problems.

    Args:
        name: of the config, for messages.
        tables: of the config; changed in place: keys are unset, and `import_paths` and origins filled in.
        problems: found before.
        stored: whether it is the config of a run folder.

    Raises:
        ConfigError: if there are; the message lists them all.
    """
    if wrong := value_problems(tables.values):  # what follows need not expect such values
        _fail(name, [*problems, *wrong])
    with _paths_of(name):
        return _check_all(name, tables, problems, stored)


@contextlib.contextmanager
def _paths_of(name: str) -> Iterator[None]:
    """Tells of a path in the config that the system cannot even look at, such as one of a name that is too long.

    Raises:
        ConfigError: if there is such a path.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        path = shown_value(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else error.filename
        raise ConfigError(f"{name}: the path {path} cannot be used: {error.strerror}; correct it") from error


def _check_all(name: str, tables: Tables, problems: list[str], stored: bool) -> TrainConfig:
    """Returns the config if there are no problems, see `_checked`; its values are none that no key may have."""
    unset, not_unset = apply_none(tables.values)
    tables.origins.update({key: f"unset by {tables.origins[key]}" for key in unset if key in tables.origins})
    given = set(tables.values)
    failed, wrong_names = import_own_code(tables.values, tables.folders, stored=stored)
    if failed:  # names that these modules register are not known
        _fail(name, [*problems, *failed])
    if "import_paths" not in given and "import_paths" in tables.values:
        tables.origins["import_paths"] = "folders of the config, current folder"
    config, found = _validate(tables.values)
    found = [p for p in found if not any(p.startswith(f"{key} is missing: ") for key in not_unset)]
    for own, text in wrong_names.items():  # what follows from them is not reported too
        reason = text.partition(f'"{own}": ')[2]
        found = [p for p in found if not any(word in p for word in (f'"{own}"', f"'{own}'", reason))]
    problems = [*problems, *not_unset.values(), *wrong_names.values(), *found]
    if problems:
        _fail(name, problems)
    assert config is not None
    return config


def _check_end_of_scheduler(name: str, config: TrainConfig) -> None:
    """Checks that the learning-rate scheduler of a new run does not end before the run; a resumed run keeps its own.

    Raises:
        ConfigError: if it does. Runs whose length is in epochs are checked when they are built.
    """
    section, steps = config.lr_scheduler, config.trainer.steps
    if section is not None and steps is not None and section.interval == "step":
        problems = length_problems(section.name, section.params, steps - section.warmup_steps)
        if problems:
            _fail(name, [f"lr_scheduler.{problem}" for problem in problems])


def _set_origin(origins: dict[str, str], override: str) -> None:
    """Records `-s` as the origin of the keys of an override, which replaces a whole table."""
    name, _, text = override.partition("=")
    key = ".".join(_parts(name))
    for old in [old for old in origins if old == key or old.startswith(f"{key}.")]:
        del origins[old]
    value = _parse(text.strip())
    keys = flatten(value, f"{key}.") if isinstance(value, dict) else [key]
    origins.update(dict.fromkeys(keys, "-s"))


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Sets the keys of `overrides` in `tables`, in place, and returns the problems."""
    problems = []
    if isinstance(overrides, str | Mapping):
        problems.append(
            f"overrides = {overrides!r}: must be a list of strings, such as ["
            f"{json.dumps(_as_override(overrides), ensure_ascii=False)}]"
        )
        return problems
    for override in overrides:
        key, equals, text = override.partition("=")
        parts, shown = _parts(key), override[:_OVERRIDE_SHOWN]
        if len(parts) > MAX_DEPTH:
            problems.append(f"-s {key[:80]}...: a key of {len(parts)} parts; no key of a config has so many")
            continue
        if not equals or not all(parts):
            problems.append(f"-s {shown}: must be key.path=value, such as -s optimizer.params.lr=0.01")
            continue
        value = _parse(text.strip())
        if value is _MISSING:
            better = quoted(text.strip()) or _as_string(text.strip())
            instead = (
                f"write -s '{key.strip()}={better}'"
                if better is not None and "'" not in better and len(better) < _OVERRIDE_SHOWN
                else 'write lists as [1, 2], strings as "a b", tables as {a = 1}'
            )
            problems.append(f"-s {shown}: the value is not TOML; {instead}")
            continue
        table = tables
        for depth, part in enumerate(parts[:-1]):
            if table.get(part) == NONE and is_unsettable(parts[: depth + 1]):
                del table[part]  # of a base config, and set again here
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                problems.append(f"-s {override}: {'.'.join(parts[: depth + 1])} is a value, not a table")
                break
        else:
            table[parts[-1]] = value
    return problems


def _as_override(overrides: str | Mapping[str, Any]) -> str:
    """Returns the first override of a string, or of a table, as it should be written."""
    if isinstance(overrides, str):
        return overrides
    return next((f"{key}={json.dumps(value, default=str)}" for key, value in flatten(overrides).items()), "key=value")


def _parts(key: str) -> list[str]:
    """Returns the parts of a full key; those with points are in quotes, as in `log."my_package.code:MyLogger"`."""
    if '"' not in key and "'" not in key:
        return [part.strip() for part in key.split(".")]
    try:
        table = parse_toml(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return [""]
    parts = []
    while isinstance(table, dict):
        (part, table), *_ = table.items()
        parts.append(part)
    return parts


def _parse(text: str) -> Any:
    try:
        value = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        # A malformed list, table or quoted string is an error; anything else is a bare word or a path.
        return _MISSING if text[:1] in ("[", "{", '"', "'") or "\n" in text else text
    if len(value) != 1 or isinstance(value["value"], date | time):
        return text
    return value["value"]


def _as_string(text: str) -> str | None:
    """Returns a string in quotes that begins like a table, such as the pattern `{split}/masks`; None for others."""
    return json.dumps(text, ensure_ascii=False) if re.match(r"\{\w+\}", text) else None


def _validate(tables: dict[str, Any], unchecked: Collection[str] = ()) -> tuple[TrainConfig | None, list[str]]:
    """Returns the config if it is valid, and all problems of the schema and of the names in the config.

    Args:
        tables: of the config.
        unchecked: sections whose names are not looked up.
    """
    try:
        config = TrainConfig.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)
        here = named_as_here(tables)
        if here != tables:  # the advice names these keys, so they are not missing
            details = [item for item in details if item["type"] != "missing" or not _has(here, item["loc"])]
        sound = _sound_sections(here, error)
        found = find_problems({section: value for section, value in sound.items() if section not in unchecked})
        # A section that is invalid as a whole is not checked further: its error is already reported.
        sections = {".".join(map(str, item["loc"][:-1])) for item in details}
        # Nor is a key missing that was removed because its value is not allowed.
        removed = {f"{'.'.join(map(str, item['loc']))} is missing" for item in details}
        found = [p for p in found if (place := p.partition(": ")[0]) not in sections and place not in removed]
        return None, [describe_problem(dict(item)) for item in details] + found
    problems = find_problems(
        {name: getattr(config, name) for name in TrainConfig.model_fields if name not in unchecked}
    )
    return (None if problems else config), problems


def _has(tables: dict[str, Any], location: tuple[int | str, ...]) -> bool:
    table: Any = tables
    for part in location:
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def _sound_sections(tables: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """Returns the sections that are valid once the wrong keys are removed, so that they can be checked further."""
    pruned = copy.deepcopy(tables)
    for item in error.errors():
        if item["loc"] and item["type"] != "missing":
            _remove(pruned, item["loc"])
    sections = {}
    for name, field in TrainConfig.model_fields.items():
        value, annotation = pruned.get(name, _MISSING), cast(Any, field.annotation)
        try:
            sections[name] = (
                field.get_default(call_default_factory=True)
                if value is _MISSING and not field.is_required()
                else TypeAdapter(annotation).validate_python(value)
            )
        except ValidationError:
            continue
    return sections


def _remove(tables: dict[str, Any], location: tuple[int | str, ...]) -> None:
    table: Any = tables
    for part in location[:-1]:
        table = table.get(part) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table.pop(location[-1], None)


def _fail(name: str, problems: list[str]) -> None:
    if len(problems) == 1:
        raise ConfigError(f"{name}: {problems[0]}")
    lines = "".join(f"\n  {problem}" for problem in problems[:_MOST_SHOWN])
    if len(problems) > _MOST_SHOWN:
        lines += f"\n  and {len(problems) - _MOST_SHOWN} more"
    raise ConfigError(f"{name} has {len(problems)} problems:{lines}")
