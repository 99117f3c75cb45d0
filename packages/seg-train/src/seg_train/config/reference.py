"""The reference page of the config: every section and key, with type, default and meaning."""

import json
from typing import Any

from seg_train.catalog import LOGGERS, LOSSES, OPTIMIZERS, SCHEDULERS
from seg_train.config.json_schema import json_schema
from seg_train.config.schema import TrainConfig

__all__ = ["reference_page"]

_HEAD = """\
# The config

Written by `hatch run config-reference` from the code. A run is a TOML file:

    seg config init run.toml --model enet --data CamVid     # a file to begin with
    seg config check run.toml                               # every mistake at once, nothing is built
    seg config show run.toml -s trainer.epochs=20           # all values, and where each is from
    seg train run.toml -s trainer.epochs=20

`-s KEY=VALUE` sets one key, by its full name, after the file is read; the value is TOML, and a bare word is a text.
Unknown keys, wrong types and what does not go together are errors before anything is built, all of them at once.

A file may build on others:

    extends = "base/cityscapes.toml"    # or a list of files, of which later ones go over earlier ones

    [optimizer]
    params = { lr = 0.025 }             # the other params of the base stay

Paths in `extends` are relative to the file that holds it. Tables are joined key by key. Where a table gets another
`name`, the `params` that the base gives it are dropped: they were those of something else.

[config.schema.json](config.schema.json) is a JSON Schema of this page. Editors with a TOML plugin (Even Better TOML,
taplo) complete and check a file that begins with `#:schema PATH/TO/config.schema.json`.

`params` go to what `name` names, as they are; its documentation says what it takes. Functions among them are written as
`"package.module:function"`. [examples/configs](../examples/configs) has twelve recipes.
"""
# section -> what its `name` may be, of this package
_NAMES = {"criterion": LOSSES, "optimizer": OPTIMIZERS, "lr_scheduler": SCHEDULERS}

_LOGGERS = """\
## `[log.NAME]`

Options of the logger of that name. `local`, which writes the run folder, is always there. Any other can be switched off
by `enabled = false`, so that `-s log.wandb.enabled=false` is enough where a base config has it.
"""


def reference_page() -> str:
    """Returns the page, Markdown."""
    parts = [_HEAD]
    _add_section(parts, json_schema(), None, ())
    return "\n".join(parts) + "\n"


def _add_section(parts: list[str], schema: dict[str, Any], name: str | None, path: tuple[str, ...]) -> None:
    """Adds a table of the keys of the section of a class, or of the whole config, then those of the sections in it."""
    section = schema if name is None else schema["$defs"][name]
    required = _required(name)
    inner: list[tuple[str, dict[str, Any]]] = []
    rows = []
    for key, value in section["properties"].items():
        if "$ref" in value:
            inner.append((key, value))
        elif isinstance(value.get("additionalProperties"), dict) and "$ref" in value["additionalProperties"]:
            inner.append((f"{key}.NAME", value["additionalProperties"]))
        elif path:
            rows.append(_row(key, value, key in required))
    if rows:
        parts.append(f"## `[{'.'.join(path)}]`\n")
        parts.append(section["description"] + "\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|")
        parts.append("\n".join(rows) + "\n")
        if path[0] in _NAMES and len(path) == 1:
            names = _NAMES[path[0]]
            parts.append("\n".join(f"- `{name}`: {names[name].summary}" for name in sorted(names)) + "\n")
    for key, value in inner:
        _add_section(parts, schema, value["$ref"].rpartition("/")[2], (*path, key))
    if not path:
        parts.append(_LOGGERS)
        parts.append("\n".join(f"- `{name}`: {LOGGERS[name].summary}" for name in sorted(LOGGERS)))


def _required(name: str | None) -> set[str]:
    """Returns the keys of a section that have no default; the schema for editors does not ask for them."""
    schema = TrainConfig.model_json_schema()
    return set((schema if name is None else schema["$defs"][name]).get("required", ()))


def _row(key: str, value: dict[str, Any], required: bool) -> str:
    default = "required" if required else ""
    if "default" in value:
        default = f"`{_toml(value['default'])}`"
    elif value.get("type") == "object":
        default = "`{}`"
    meaning = value["description"].replace("|", "\\|")
    return f"| `{key}` | {_type(value)} | {default} | {meaning} |"


def _type(value: dict[str, Any]) -> str:
    """Returns a type in words: `"int, at least 1"`."""
    if "title" in value:
        return str(value["title"])
    if "enum" in value:
        return " or ".join(f"`{_toml(item)}`" for item in value["enum"])
    name = {"string": "text", "integer": "int", "number": "number", "boolean": "bool", "object": "table"}[value["type"]]
    limits = [
        f"{word} {value[limit]}"
        for limit, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if limit in value
    ]
    return ", ".join([name, *limits])


def _toml(value: Any) -> str:
    # TOML writes texts, numbers, booleans and lists as JSON does.
    return json.dumps(value)
