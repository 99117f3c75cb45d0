"""The JSON Schema of a config, for editors that complete and check TOML files."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from seg_train.config.schema import TrainConfig

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


def json_schema() -> dict[str, Any]:
    """Returns the schema, draft 2020-12.

    A file that extends others need not be complete, so keys without a default are required only in files that extend
    nothing, and only at the top level.
    """
    schema = TrainConfig.model_json_schema(schema_generator=_Generator)
    required = schema.pop("required")
    for section in (schema, *schema["$defs"].values()):
        section.pop("required", None)
        section["properties"] = {key: _as_toml(value) for key, value in section["properties"].items()}
    schema["properties"] = {"extends": _EXTENDS, "format": _FORMAT, **schema["properties"]}
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    schema["title"] = "Config of seg train"
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


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
