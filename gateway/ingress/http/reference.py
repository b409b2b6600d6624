"""Schemas are told what their fields mean, and examples are made of them. Pure; it cannot fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.ingress.http.problems import KINDS, Problem
from gateway.ingress.http.route import Doc
from gateway.ingress.http.schema_fields import field_of

_REF = "$ref"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


def explain(schemas: Mapping[str, Doc]) -> None:
    """Writes the meaning of each field, with its rule, and an example beside its type."""
    for schema_name, schema in schemas.items():
        for name, key in schema.get("properties", {}).items():
            field = field_of(schema_name, name)
            words = [field.meaning] if field is not None else []
            key["description"] = " ".join([*words, *_rules(key, schemas, referred=not words)])
            if field is not None and _fits(field.example, key):
                key["examples"] = [field.example]


def _fits(example: Any, key: Doc) -> bool:
    """Whether an example is of the type: fields of one name may be of several."""
    for part in key.get("anyOf", (key,)):
        kind = _KINDS.get(part.get("type", ""), ())
        if "enum" in part:
            if example in part["enum"]:
                return True
        elif _REF not in part and isinstance(example, kind):
            return True
    return False


def _rules(key: Doc, schemas: Mapping[str, Doc], *, referred: bool) -> list[str]:
    """What is said at a type; `referred`: also what the schema says that it refers to."""
    if "description" in key:
        return [str(key["description"])]
    if _REF in key:
        said = _referred(key, schemas).get("description")
        return [str(said)] if referred and said else []
    found = [_rules(part, schemas, referred=referred) for part in key.get("anyOf", ())]
    return next((rules for rules in found if rules), [])


def example_of(schema: Doc, schemas: Mapping[str, Doc]) -> Any:
    """A value that fits the schema: an object has the keys that it must have."""
    if "examples" in schema:
        return schema["examples"][0]
    if _REF in schema:
        return example_of(_referred(schema, schemas), schemas)
    for word in ("anyOf", "enum"):
        if word in schema:
            first = schema[word][0]
            return example_of(first, schemas) if word == "anyOf" else first
    kind = schema.get("type")
    if kind == "array":
        return [example_of(schema["items"], schemas)]
    if kind == "object" and "properties" in schema:
        required = schema.get("required", ())
        return {name: example_of(schema["properties"][name], schemas) for name in required}
    if kind == "object":
        return {"main": example_of(schema["additionalProperties"], schemas)}
    return {"boolean": True, "integer": 1, "number": 1.0}.get(str(kind), "a text")


def problem_examples(status: int) -> Doc:
    """A problem of each kind that has this status."""
    return {
        code: {
            "value": msgspec.to_builtins(
                Problem(type=f"/docs#{code}", title=kind.title, status=status, detail=kind.advice)
            )
        }
        for code, kind in KINDS.items()
        if kind.status == status
    }


def _referred(schema: Doc, schemas: Mapping[str, Doc]) -> Doc:
    return schemas[str(schema[_REF]).rpartition("/")[2]]
