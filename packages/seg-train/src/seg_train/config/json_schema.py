"""The JSON Schema of a config, for editors that complete and check TOML files while one types."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from seg_train.config.schema import TrainConfig

__all__ = ["json_schema"]

_EXTENDS = {
    "description": "config or configs that this one goes over, paths relative to this file",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_FORMAT = {"description": "of the keys in a run folder's config, written by seg train", "type": "integer"}


class _Generator(GenerateJsonSchema):
    """Without titles made from the names of keys, which say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as pydantic calls it
        return False


def json_schema() -> dict[str, Any]:
    """Returns the schema, draft 2020-12.

    A file that extends others need not be complete, so keys that have no default are asked for only in files that
    extend nothing, and there at the top only.
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
    """Returns what is said of a key without what TOML does not have, null; a table's default is that of its keys."""
    forms = [form for form in value.get("anyOf", []) if form != {"type": "null"}]
    kept = {k: v for k, v in value.items() if k != "anyOf"}
    if len(forms) == 1:
        kept |= forms[0]
    elif forms:
        kept["anyOf"] = forms
    if kept.get("default", ...) is None or "$ref" in kept:
        kept.pop("default", None)
    return kept
