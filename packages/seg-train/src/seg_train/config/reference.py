"""The reference page of the config: every section and key, with type, default and meaning."""

import json
from typing import Any

from seg_train.catalog import LOGGERS, LOSSES, OPTIMIZERS, SCHEDULERS
from seg_train.config.json_schema import json_schema
from seg_train.config.reference_options import (
    options_of_classes,
    options_of_datasets,
    options_of_predictors,
    options_of_sampling,
)
from seg_train.config.schema import TrainConfig

__all__ = ["reference_page"]

_HEAD = """\
# The config

Written by `hatch run config-reference` from the code. A run is a TOML file:

```sh
seg config init mine.toml --model enet --data Shapes    # a starting point
seg config check mine.toml                              # reports all mistakes at once, builds nothing
seg config show mine.toml -s trainer.epochs=20          # all values, and where each is from
seg train run.toml -s trainer.epochs=2
```

`-s KEY=VALUE` overrides one key, by its full name; the value is TOML, and a bare word is a string. Unknown keys, wrong
types and contradictions are reported all at once, before anything is built.

A file may extend others:

```toml
extends = "base/cityscapes.toml"    # or a list of files; later ones override earlier ones

[optimizer]
params = { lr = 0.025 }             # the other params of the base file stay
```

Paths in `extends` are relative to the file with `extends`. Tables are merged key by key. If the `name` of a table
changes, the `params` of the base file are dropped: they belonged to the other name.

`"none"` unsets what a base file sets, if it is absent by default: a key without a default below, such as
`trainer.steps` or `trainer.ema_decay`, or an optional section, such as `lr_scheduler`, `evaluation.resize` or one
output of `criterion.outputs`:

```toml
extends = "base.toml"               # which has steps = 80000 and a scheduler
lr_scheduler = "none"               # also: -s lr_scheduler=none

[trainer]
steps = "none"
epochs = 5
```

A key with a default cannot be unset; write the value it should have. In `params`, in `[log]` and in
`criterion.class_weights` `"none"` is a value like any other. The config in a run folder has no unset keys, and
`seg config show` lists them as comments.

Your own code has a name too: `"package.module:attribute"` stands for a class or function wherever this page has the
name of a model, backbone, dataset, loss, optimizer, learning-rate scheduler, predictor or logger
(`[log."my_code:MyLogger"]`). `imports` names modules that register theirs:

```toml
imports = ["my_code"]               # has MODELS.register("my_net", build), MODELS of seg_core.registry

[model]
name = "my_net"                     # or, without imports, "my_code:build"
```

Modules are searched in the folders of `import_paths` (relative to their file), of this file, of the files that it
extends, and in the current folder, in this order, before the installed packages; these folders are put in front of
`sys.path`. `imports` and `import_paths` of all files are joined, those of the base files first. See
[Your own code](training.md#your-own-code).

So a config is code: loading it imports what it names. `seg config check CONFIG --untrusted` checks a config of somebody
else without importing anything, and lists the places that name code.

[config.schema.json](config.schema.json) is a JSON Schema of this page. Editors with a TOML plugin (Even Better TOML,
taplo) complete and check a file that begins with `#:schema PATH/TO/config.schema.json`.

`params` are the arguments of the class or function that `name` refers to; its documentation lists them, and this page
those of datasets, predictors, class weights and samplers. Write functions as `"package.module:function"`.
`examples/configs` in the repository has twelve recipes.
"""
# section -> names that this package registers for it
_NAMES = {"criterion": LOSSES, "optimizer": OPTIMIZERS, "lr_scheduler": SCHEDULERS}

# section -> what follows its table
_OPTIONS = {
    "data.dataset": options_of_datasets,
    "data.sampling": options_of_sampling,
    "criterion": options_of_classes,
    "evaluation": options_of_predictors,
}

_LOGGERS = """\
## `[log.NAME]`

Options of the logger of that name. `local`, which writes to the run folder, is always on. Any other can be switched off
with `enabled = false`, for example by `-s log.wandb.enabled=false` if a base config has it.
"""


def reference_page() -> str:
    """Returns the page, Markdown."""
    parts = [_HEAD]
    _add_section(parts, json_schema(with_none=False), None, ())
    return "\n".join(parts) + "\n"


def _add_section(parts: list[str], schema: dict[str, Any], name: str | None, path: tuple[str, ...]) -> None:
    """Adds a table of the keys of a section, or of the whole config, then those of the sections in it."""
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
        if ".".join(path) in _OPTIONS:
            parts.append(_OPTIONS[".".join(path)]())
    for key, value in inner:
        _add_section(parts, schema, value["$ref"].rpartition("/")[2], (*path, key))
    if not path:
        parts.append(_LOGGERS)
        parts.append("\n".join(f"- `{name}`: {LOGGERS[name].summary}" for name in sorted(LOGGERS)))


def _required(name: str | None) -> set[str]:
    """Returns the keys of a section without a default; the schema for editors does not require them."""
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
    """Returns a description of a type, such as `"int, at least 1"`."""
    if "title" in value:
        return str(value["title"])
    if "enum" in value:
        return " or ".join(f"`{_toml(item)}`" for item in value["enum"])
    name = {"integer": "int", "boolean": "bool", "object": "table"}.get(value["type"], value["type"])
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
    # TOML writes strings, numbers, booleans and lists as JSON does.
    return json.dumps(value)
