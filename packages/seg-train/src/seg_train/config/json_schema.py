"""The JSON Schema of a config, for editors that complete and check TOML files."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from seg_train.config.schema import TrainConfig, section_class
from seg_train.config.unset import NONE, accepts_none

__all__ = ["json_schema"]

_EXTENDS = {
    "description": "config or configs that this one extends, paths relative to this file",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_FORMAT = {"description": "format of the keys, written by seg train into the config of a run folder", "type": "integer"}


class _Generator(GenerateJsonSchema):
    """Leaves out the titles generated from key names, which add no information."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as pydantic calls it
        return False


def json_schema(*, with_none: bool = True) -> dict[str, Any]:
    """Returns the schema, draft 2020-12.

    A file that extends others need not be complete, so keys without a default are required only in files that extend
    nothing, and only at the top level.

    Args:
        with_none: whether keys and sections that are absent by default take `"none"`, as in a config.
    """
    schema = TrainConfig.model_json_schema(schema_generator=_Generator)
    required = schema.pop("required")
    for section in (schema, *schema["$defs"].values()):
        section.pop("required", None)
        section["properties"] = {key: _as_toml(value) for key, value in section["properties"].items()}
    if with_none:
        _add_none(schema)
    schema["properties"] = {"extends": _EXTENDS, "format": _FORMAT, **schema["properties"]}
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    schema["title"] = "Config of seg train"
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _add_none(schema: dict[str, Any]) -> None:
    """Lets every key and section that is absent by default be `"none"`, in place."""
    for section in dict.fromkeys(_sections(TrainConfig)):
        properties = (schema if section is TrainConfig else schema["$defs"][section.__name__])["properties"]
        for key, field in section.model_fields.items():
            named = properties[key].get("additionalProperties")
            if accepts_none(field):
                properties[key] = _or_none(properties[key])
            elif isinstance(named, dict) and "$ref" in named:  # sections by names that the user chooses
                properties[key]["additionalProperties"] = _or_none(named)
            elif properties[key].get("type") == "string" and "enum" not in properties[key] and field.default != NONE:
                properties[key]["not"] = {"const": NONE}  # it is no value of such a key, and cannot unset it


def _sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield section
    for field in section.model_fields.values():
        if (inner := section_class(field.annotation)) is not None:
            yield from _sections(inner)


def _or_none(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a key that also takes `"none"`."""
    if value.get("type") == "string":
        return value
    if "type" in value:
        # no anyOf, so that editors still say which limit a number exceeds; it has no pattern, and a string no limits
        return {**value, "type": [value["type"], "string"], "pattern": f"^{NONE}$"}
    about: dict[str, Any] = {key: value[key] for key in ("description", "title", "default") if key in value}
    own = {key: content for key, content in value.items() if key not in about}
    forms = own["anyOf"] if own.keys() == {"anyOf"} else [own]
    return {**about, "anyOf": [*forms, {"const": NONE}]}


def _as_toml(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a key without null, which TOML does not have, and without the defaults of tables."""
    schemas = [schema for schema in value.get("anyOf", []) if schema != {"type": "null"}]
    kept = {k: v for k, v in value.items() if k != "anyOf"}
    if len(schemas) == 1:
        kept |= schemas[0]
    elif schemas:
        kept["anyOf"] = schemas
    if kept.get("default", ...) is None or "$ref" in kept:
        kept.pop("default", None)
    return kept
