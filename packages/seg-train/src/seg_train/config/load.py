"""Loads a config: TOML files, then overrides, then all checks; all problems are reported at once."""

import copy
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from seg_core.errors import ConfigError, InvalidTypeError, nearest
from seg_train.config.check import find_problems
from seg_train.config.files import Tables, read_tables, with_format
from seg_train.config.migrate import former_key
from seg_train.config.other_names import advice_on_key, advice_on_value
from seg_train.config.own_code import import_own_code
from seg_train.config.pixseg_keys import advice_on_pixseg, named_as_here
from seg_train.config.schema import TrainConfig, all_keys, flatten, section_class
from seg_train.config.toml_advice import quoted
from seg_train.config.unset import NONE, apply_none, is_unsettable, is_unsettable_key
from seg_train.optim.schedulers import length_problems

__all__ = ["apply_overrides", "load_config", "load_with_origins"]

_MISSING = object()
_NULLS = ("None", "null", "nil", "~", "NULL")  # what other formats write for no value


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
        parts = _parts(key)
        if not equals or not all(parts):
            problems.append(f"-s {override}: must be key.path=value, such as -s optimizer.params.lr=0.01")
            continue
        value = _parse(text.strip())
        if value is _MISSING:
            better = quoted(text.strip()) or _as_string(text.strip())
            instead = (
                f"write -s '{key.strip()}={better}'"
                if better is not None and "'" not in better
                else 'write lists as [1, 2], strings as "a b", tables as {a = 1}'
            )
            problems.append(f"-s {override}: the value is not TOML; {instead}")
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
        table = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return [""]
    parts = []
    while isinstance(table, dict):
        (part, table), *_ = table.items()
        parts.append(part)
    return parts


def _parse(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        # A malformed list, table or quoted string is an error; anything else is a bare word or a path.
        return _MISSING if text[:1] in ("[", "{", '"', "'") or "\n" in text else text
    if len(value) != 1 or isinstance(value["value"], date | time):
        return text
    return value["value"]


def _as_string(text: str) -> str | None:
    """Returns a string in quotes that begins like a table, such as the pattern `{split}/masks`; None for others."""
    return json.dumps(text, ensure_ascii=False) if re.match(r"\{\w+\}", text) else None


def _validate(tables: dict[str, Any]) -> tuple[TrainConfig | None, list[str]]:
    """Returns the config if it is valid, and all problems of the schema and of the names in the config."""
    try:
        config = TrainConfig.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)
        here = named_as_here(tables)
        if here != tables:  # the advice names these keys, so they are not missing
            details = [item for item in details if item["type"] != "missing" or not _has(here, item["loc"])]
        found = find_problems(_sound_sections(here, error))
        # A section that is invalid as a whole is not checked further: its error is already reported.
        sections = {".".join(map(str, item["loc"][:-1])) for item in details}
        # Nor is a key missing that was removed because its value is not allowed.
        removed = {f"{'.'.join(map(str, item['loc']))} is missing" for item in details}
        found = [p for p in found if (place := p.partition(": ")[0]) not in sections and place not in removed]
        return None, [_describe(dict(item)) for item in details] + found
    problems = find_problems({name: getattr(config, name) for name in TrainConfig.model_fields})
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


def _describe(error: Mapping[str, Any]) -> str:
    """Returns one problem as a sentence: full key, value, what is allowed."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location) or "config"
    if error["type"] == "missing":
        return f"{key} is missing: it has no default"
    if error["type"] == "extra_forbidden":
        former = former_key(key, error["input"])
        if former is not None:
            return f"{key}{_shown(error['input'])}: {former}"
        return f"{key}{_shown(error['input'])}: unknown key.{_suggestion(location, error['input'])}"
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
        # The checks of a section (of keys that contradict each other) name the values themselves.
        return f"{key}: {text}" if isinstance(error["input"], dict) else f"{key}{_shown(error['input'])}: {text}"
    text = re.sub(r"^Input should be", "must be", error["msg"])
    text = re.sub(r"^must be a valid dictionary.*", "must be a table of keys", text)
    advice = advice_on_value(key, error["input"], named=_name_key(key))
    if error["input"] in _NULLS and is_unsettable_key(location):
        advice = f'write "{NONE}" to unset it'
    return f"{key}{_shown(error['input'])}: {text}" + f"; {advice}" * bool(advice)


def _name_key(key: str) -> str | None:
    """Returns the key of the name of the section `key`, or of the section in it that has one; None for others."""
    return next((name for name in (f"{key}.name", f"{key}.dataset.name") if name in all_keys()), None)


def _shown(value: object) -> str:
    # TOML writes strings, numbers and booleans as JSON does.
    return "" if isinstance(value, Mapping) else f" = {json.dumps(value, default=str)}"


def _suggestion(location: list[str], value: object) -> str:
    """Returns the nearest key of the same section, else the nearest of all sections, else the section's keys.

    Keys of other toolkits and keys in a wrong place are told before keys that are only spelled similarly.
    """
    if (advice := advice_on_pixseg(".".join(location), value)) is not None:
        return f" {advice[0].upper()}{advice[1:]}"
    everywhere = [key for key in all_keys() if key.rpartition(".")[2] == location[-1]]
    if not everywhere and (advice := advice_on_key(location[-1], value)) is not None:
        return f" {advice[0].upper()}{advice[1:]}"
    section: Any = TrainConfig
    for part in location[:-1]:
        if part in section.model_fields:  # others are names that the user chooses, such as outputs
            section = section_class(section.model_fields[part].annotation)
    prefix = ".".join([*location[:-1], ""])
    siblings = [prefix + name for name in section.model_fields]
    hint = nearest(".".join(location), siblings, limit=1)
    if not nearest(location[-1], section.model_fields):
        hint = f" Did you mean {everywhere[0]!r}?" if everywhere else ""
    return hint or f" Allowed here: {', '.join(section.model_fields)}"


def _fail(name: str, problems: list[str]) -> None:
    if len(problems) == 1:
        raise ConfigError(f"{name}: {problems[0]}")
    lines = "".join(f"\n  {problem}" for problem in problems)
    raise ConfigError(f"{name} has {len(problems)} problems:{lines}")
