"""What the schema finds in a config, in sentences."""

import re
from collections.abc import Mapping
from typing import Any

from seg_core.errors import nearest
from seg_train.config.migrate import former_key
from seg_train.config.other_names import advice_on_key, advice_on_value
from seg_train.config.pixseg_keys import advice_on_pixseg
from seg_train.config.schema import TrainConfig, all_keys, section_class
from seg_train.config.unset import NONE, is_unsettable_key
from seg_train.config.values import shown_value

__all__ = ["describe_problem"]

_NULLS = ("None", "null", "nil", "~", "NULL")  # what other formats write for no value


def describe_problem(error: Mapping[str, Any]) -> str:
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
    return "" if isinstance(value, Mapping) else f" = {shown_value(value)}"


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
        # others are names that the user chooses, such as those of outputs, which may be called as a key is
        field = section.model_fields.get(part)
        section = (None if field is None else section_class(field.annotation)) or section
    prefix = ".".join([*location[:-1], ""])
    siblings = [prefix + name for name in section.model_fields]
    hint = nearest(".".join(location), siblings, limit=1)
    if not nearest(location[-1], section.model_fields):
        hint = f" Did you mean {everywhere[0]!r}?" if everywhere else ""
    return hint or f" Allowed here: {', '.join(section.model_fields)}"
