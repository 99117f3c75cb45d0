"""The value "none", which unsets a key or a section that a base config sets."""

import json
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seg_train.config.schema import TrainConfig, section_class

__all__ = ["NONE", "accepts_none", "apply_none", "is_unsettable", "is_unsettable_key"]

NONE = "none"


def accepts_none(field: FieldInfo) -> bool:
    """Returns whether a key or section can be unset: it is absent by default."""
    return not field.is_required() and field.default is None


def apply_none(tables: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Removes the keys whose value is "none", in place; in `params`, `[log]` and lists it stays a string.

    Args:
        tables: of a config, merged.

    Returns:
        The full keys that were unset.
        Full key -> what is wrong with its "none". Such a key is removed too.
    """
    unset: list[str] = []
    problems: dict[str, str] = {}
    _apply(TrainConfig, tables, "", unset, problems)
    return unset, problems


def _apply(
    section: type[BaseModel], table: dict[str, Any], prefix: str, unset: list[str], problems: dict[str, str]
) -> None:
    for name, field in section.model_fields.items():
        value, key = table.get(name), f"{prefix}{name}"
        inner = section_class(field.annotation)
        if value == NONE and field.default != NONE:
            del table[name]
            if accepts_none(field):
                unset.append(key)
            else:
                problems[key] = f'{key} = "none": {_why_not(key, field)}'
        elif inner is None or not isinstance(value, dict):
            continue
        elif get_origin(field.annotation) is dict:  # sections by names that the user chooses
            for item in [item for item, content in value.items() if content == NONE]:
                del value[item]
                unset.append(f"{key}.{item}")
            for item, content in value.items():
                if isinstance(content, dict):
                    _apply(inner, content, f"{key}.{item}.", unset, problems)
        else:
            _apply(inner, value, f"{key}.", unset, problems)


def _why_not(key: str, field: FieldInfo) -> str:
    """Returns why a key cannot be unset, and what to do instead."""
    inner = section_class(field.annotation)
    if inner is not None and get_origin(field.annotation) is not dict:
        own = [f"{key}.{name}" for name, other in inner.model_fields.items() if accepts_none(other)]
        hint = f'; "none" unsets single keys of it: {", ".join(own)}' if own else "; set its keys instead"
        return f"every run has the section [{key}], so it cannot be unset{hint}"
    if field.is_required():
        return "the key is required, so it cannot be unset; write the value it should have"
    if key == "log":
        return "a table cannot be unset; switch loggers off one by one, as in log.wandb.enabled = false"
    if inner is not None:
        return f'a table cannot be unset; unset what is in it one by one, as in {key}.NAME = "none"'
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Mapping):
        return f"a table cannot be unset; -s {key}={{}} empties it, and so does another name in the same section"
    return (
        f"the key has a default, so it cannot be unset; write {json.dumps(default)} to return to the default, or the "
        "value it should have"
    )


def is_unsettable(parts: list[str]) -> bool:
    """Returns whether a table, by the parts of its full key, is an optional section, which "none" unsets."""
    section: type[BaseModel] | None = TrainConfig
    optional = False
    while parts and section is not None:
        name, *parts = parts
        field = section.model_fields.get(name)
        if field is None:
            return False
        optional, section = accepts_none(field), section_class(field.annotation)
        if get_origin(field.annotation) is dict and parts:
            _, *parts = parts
            optional = True
    return optional and section is not None and not parts


def is_unsettable_key(parts: list[str]) -> bool:
    """Returns whether "none" unsets a key, by the parts of its full name: it is absent by default."""
    section: type[BaseModel] | None = TrainConfig
    for part in parts[:-1]:
        field = None if section is None else section.model_fields.get(part)
        section = None if field is None else section_class(field.annotation)
    field = None if section is None else section.model_fields.get(parts[-1])
    return field is not None and accepts_none(field)
