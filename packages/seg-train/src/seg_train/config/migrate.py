"""Turns stored configs of earlier versions into today's keys, so that runs of earlier versions resume.

A run folder's config.toml and the checkpoints say in which format their config is. From each format to the next stands
one `_Change` in `_CHANGES`: keys that were renamed, defaults that changed, and a function for what is neither. To
change a default, append `_Change(defaults={"section.key": <the value so far>})`; the number of the format follows.
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
    """`[data.transform.val]` of a run of format 1, which changed validation images and masks alike.

    Attributes:
        size: (height, width) in pixels of the crop that was taken, padded where the image was smaller.
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
        tables: nested, as TOML has them.
        version: format that it was stored in.
        val_transform: of a run that had one; whether it cropped depends on the images.
    """

    tables: dict[str, Any]
    version: int
    val_transform: FormerValTransform | None = None


@dataclass(frozen=True)
class _Change:
    """What changed from one format to the next.

    Attributes:
        renames: old full key -> new one.
        defaults: full key -> its value in runs that did not say it: the former default of a key, or what a run did
            before there was the key. A default must not change from None, which TOML cannot say.
        dropped: full keys, or tables, that are gone and had no influence on what is learnt.
        rewrite: does what the others cannot, first.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    rewrite: Callable[[Migrated], Migrated] | None = None


def _val_transform_to_evaluation(config: Migrated) -> Migrated:
    """Format 2 has no transform of val: images may be resized, masks are not, and nothing is cropped."""
    tables = config.tables
    size = _take(tables, "data.transform.val.size")
    scales = _take(tables, "data.transform.val.scale_range")
    _take(tables, "data.transform.val")
    if size is not _MISSING and _get(tables, "data.loader.eval_batch_size") is _MISSING:
        # the default of that time; images without a common size were evaluated one by one, as today
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
    # 1 to 2: one path of evaluation
    _Change(renames={"data.loader.eval_batch_size": "evaluation.batch_size"}, rewrite=_val_transform_to_evaluation),
    # 2 to 3: the field's words
    _Change(renames={"model.form": "model.variant", "lr_scheduler.params.schedules": "lr_scheduler.params.schedulers"}),
)
CONFIG_FORMAT = 1 + len(_CHANGES)


def migrate(tables: Mapping[str, Any], version: int) -> Migrated:
    """Returns a stored config in today's keys; keys that are absent have the default of their time.

    Args:
        tables: nested, as stored; they are not changed.
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
            # where its section is optional and absent, so is the key
            if _get(config.tables, key) is _MISSING and has_section(config.tables, key):
                _put(config.tables, key, value)
    return config


def check_format(version: object, where: str) -> int:
    """Returns `version` if it is a format that can be read.

    Args:
        version: value of the key `format`.
        where: what holds it, for the message.

    Raises:
        ConfigError: if it is not.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= CONFIG_FORMAT:
        raise ConfigError(
            f"{where} has format = {version!r}, the installed seg-train reads 1 to {CONFIG_FORMAT}; use the version of "
            "seg-train that wrote it, or a newer one"
        )
    return version


def former_key(key: str, value: object) -> str | None:
    """Returns what to write instead of a key that is gone; None where there never was such a key.

    Args:
        key: full key, or that of a table.
        value: what a config says under it.
    """
    if key == "data.transform.val":
        return _instead_of_val(value)
    for change in _CHANGES:
        if key in change.renames:
            return f"it is {change.renames[key]} now: write {change.renames[key]} = {_toml(value)}"
        if key in change.dropped:
            return "there is no such key any more, and it had no influence on what is learnt; leave it out"
    return None


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested tables for full key -> value: `{"a.b": 1}` gives `{"a": {"b": 1}}`."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        _put(tables, key, value)
    return tables


def _instead_of_val(value: object) -> str:
    table = value if isinstance(value, Mapping) else {}
    said = []
    scales = table.get("scale_range")
    if isinstance(scales, list | tuple) and len(scales) == 2 and scales[0] == scales[1] != 1:
        resize = f"evaluation.resize = {{ scale = {scales[0]} }}"
        said.append(f"instead of scale_range = {_toml(list(scales))} write {resize}")
    elif scales is not None:
        said.append(f"leave scale_range = {_toml(scales)} out")
    if "size" in table:
        said.append(
            f"leave size = {_toml(table['size'])} out, or write evaluation.tile = {_toml(table['size'])} to predict in "
            "tiles of that size"
        )
    said = said or ["leave it out"]
    return (
        "what val images go through is said in [evaluation] now; validation never crops, and masks are never resized: "
        f"{'; '.join(said)}"
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
