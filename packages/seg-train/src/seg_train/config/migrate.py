"""Converts stored configs of earlier versions to today's keys, so that their runs can be resumed.

A run folder's config.toml and its checkpoints store the format of their config. `_CHANGES` has one `_Change` from each
format to the next: renamed keys, changed defaults, and a function for everything else. To change a default, append
`_Change(defaults={"section.key": <the previous value>})`; the format number follows.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seg_core.errors import ConfigError
from seg_train.config.schema import has_section

__all__ = ["CONFIG_FORMAT", "FormerValTransform", "Migrated", "check_format", "former_key", "migrate", "unflatten"]

_MISSING = object()


@dataclass(frozen=True)
class FormerValTransform:
    """`[data.transform.val]` of a run of format 1, which resized and cropped validation images together with masks.

    Attributes:
        size: (height, width) in pixels of the crop; smaller images were padded to it.
        scale: factor of height and width before the crop.
    """

    size: tuple[int, int]
    scale: float = 1.0

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that an image had before the crop."""
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))


@dataclass(frozen=True)
class Migrated:
    """A stored config in today's keys.

    Attributes:
        tables: nested, as in TOML.
        version: format that it was stored in.
        val_transform: transform of val images, if the run had one; whether it cropped depends on the images.
    """

    tables: dict[str, Any]
    version: int
    val_transform: FormerValTransform | None = None


@dataclass(frozen=True)
class _Change:
    """The change from one format to the next.

    Attributes:
        renames: old full key -> new one.
        defaults: full key -> its value in runs that did not set it: the former default, or the behavior before the key
            existed. A default must not change from None, which TOML cannot express.
        dropped: full keys, or tables, that were removed and had no influence on the training result.
        rewrite: function for all other changes, applied first.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    rewrite: Callable[[Migrated], Migrated] | None = None


def _val_transform_to_evaluation(config: Migrated) -> Migrated:
    """Format 2 has no val transform: images may be resized, masks are not, and nothing is cropped."""
    tables = config.tables
    size = _take(tables, "data.transform.val.size")
    scales = _take(tables, "data.transform.val.scale_range")
    _take(tables, "data.transform.val")
    if size is not _MISSING and _get(tables, "data.loader.eval_batch_size") is _MISSING:
        # the default at that time; images of different sizes were evaluated one by one, as today
        batch_size = _get(tables, "data.loader.batch_size")
        if batch_size is not _MISSING:
            _put(tables, "evaluation.batch_size", batch_size)
    if size is _MISSING:
        return config
    scale = 1.0 if scales is _MISSING else float(scales[0])
    if scale != 1:
        _put(tables, "evaluation.resize", {"scale": scale})
    height, width = size
    return replace(config, val_transform=FormerValTransform((height, width), scale))


_CHANGES = (
    # 1 to 2: one evaluation path
    _Change(renames={"data.loader.eval_batch_size": "evaluation.batch_size"}, rewrite=_val_transform_to_evaluation),
    # 2 to 3: standard terms
    _Change(renames={"model.form": "model.variant", "lr_scheduler.params.schedules": "lr_scheduler.params.schedulers"}),
)
CONFIG_FORMAT = 1 + len(_CHANGES)


def migrate(tables: Mapping[str, Any], version: int) -> Migrated:
    """Returns a stored config in today's keys; missing keys get the default of the format it was stored in.

    Args:
        tables: nested, as stored; not changed in place.
        version: format that they were stored in.

    Raises:
        ConfigError: if a newer seg-train stored them.
    """
    check_format(version, "the stored config")
    config = Migrated(copy.deepcopy(dict(tables)), version)
    for change in _CHANGES[version - 1 :]:
        if change.rewrite is not None:
            config = change.rewrite(config)
        for old, new in change.renames.items():
            value = _take(config.tables, old)
            if value is not _MISSING:
                _put(config.tables, new, value)
        for key in change.dropped:
            _take(config.tables, key)
        for key, value in change.defaults.items():
            # if its section is optional and absent, so is the key
            if _get(config.tables, key) is _MISSING and has_section(config.tables, key):
                _put(config.tables, key, value)
    return config


def check_format(version: object, where: str) -> int:
    """Returns `version` if this seg-train can read the format.

    Args:
        version: value of the key `format`.
        where: the file or config that has it, for the message.

    Raises:
        ConfigError: if it cannot.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= CONFIG_FORMAT:
        raise ConfigError(
            f"{where} has format = {version!r}, the installed seg-train reads 1 to {CONFIG_FORMAT}; use the version of "
            "seg-train that wrote it, or a newer one"
        )
    return version


def former_key(key: str, value: object) -> str | None:
    """Returns the replacement of a former key, or None if there never was such a key.

    Args:
        key: full key, or that of a table.
        value: its value in a config.
    """
    if key == "data.transform.val":
        return _instead_of_val(value)
    for change in _CHANGES:
        if key in change.renames:
            return f"the key is now {change.renames[key]}: write {change.renames[key]} = {_toml(value)}"
        if key in change.dropped:
            return "the key was removed, and it had no influence on the training result; remove it"
    return None


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested tables for full key -> value: `{"a.b": 1}` gives `{"a": {"b": 1}}`."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        _put(tables, key, value)
    return tables


def _instead_of_val(value: object) -> str:
    table = value if isinstance(value, Mapping) else {}
    advice = []
    scales = table.get("scale_range")
    if isinstance(scales, list | tuple) and len(scales) == 2 and scales[0] == scales[1] != 1:
        resize = f"evaluation.resize = {{ scale = {scales[0]} }}"
        advice.append(f"instead of scale_range = {_toml(list(scales))} write {resize}")
    elif scales is not None:
        advice.append(f"remove scale_range = {_toml(scales)}")
    if "size" in table:
        advice.append(
            f"remove size = {_toml(table['size'])}, or write evaluation.tile = {_toml(table['size'])} to predict in "
            "tiles of that size"
        )
    advice = advice or ["remove it"]
    return (
        "[evaluation] now has the resizing of val images; validation never crops, and masks are never resized: "
        f"{'; '.join(advice)}"
    )


def _toml(value: object) -> str:
    return json.dumps(value, default=str)


def _get(tables: Mapping[str, Any], key: str) -> Any:
    value: Any = tables
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _take(tables: dict[str, Any], key: str) -> Any:
    """Removes a key and returns its value."""
    section, _, last = key.rpartition(".")
    table = _get(tables, section) if section else tables
    return table.pop(last, _MISSING) if isinstance(table, dict) else _MISSING


def _put(tables: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    table = tables
    for part in path:
        table = table.setdefault(part, {})
    table[last] = value
