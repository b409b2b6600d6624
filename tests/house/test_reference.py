"""The reference says what every field means, and shows every request and answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.ingress.http.fields import FIELDS
from gateway.ingress.http.openapi import document
from gateway.ingress.http.route import DocumentedSettings
from gateway.ingress.http.routes import ROUTES
from gateway.ingress.http.schema_fields import SCHEMA_FIELDS

DOCUMENT = document(ROUTES, DocumentedSettings(1_000, ("main", "other")))
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for operation in item.values()
}


def properties(place: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema, however deep, by where it stands."""
    if isinstance(schema, list):
        for part in schema:
            yield from properties(place, part)
    if not isinstance(schema, dict):
        return
    for name, key in schema.get("properties", {}).items():
        yield f"{place}.{name}", key
        yield from properties(f"{place}.{name}", key)
    for word in ("items", "additionalProperties", "anyOf", "oneOf", "allOf"):
        yield from properties(place, schema.get(word))


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body of an operation: whose, of which media type, and what is said of it."""
    holders = {"request": operation.get("requestBody", {}), **operation["responses"]}
    for whose, holder in holders.items():
        for kind, media in holder.get("content", {}).items():
            yield whose, kind, media


def test_every_field_has_a_meaning() -> None:
    found = [one for name, schema in SCHEMAS.items() for one in properties(name, schema)]
    for name, operation in OPERATIONS.items():
        for whose, _, media in bodies(operation):
            found += properties(f"{name} {whose}", media["schema"])
    assert len(found) > 200
    assert [place for place, key in found if not key.get("description")] == [], (
        "say what it means in gateway/ingress/http/fields.py or schema_fields.py"
    )


def test_every_schema_and_parameter_has_a_meaning() -> None:
    assert [name for name, schema in SCHEMAS.items() if not schema.get("description")] == []
    assert [
        f"{name} {parameter['name']}"
        for name, operation in OPERATIONS.items()
        for parameter in operation.get("parameters", ())
        if not parameter["description"]
    ] == []


def test_no_meaning_is_said_of_nothing() -> None:
    named = {
        each if (each := f"{name}.{key}") in SCHEMA_FIELDS else key
        for name, schema in SCHEMAS.items()
        for key in schema.get("properties", {})
    }
    assert sorted((FIELDS.keys() | SCHEMA_FIELDS.keys()) - named) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request_and_answer_has_an_example_that_fits_it(name: str) -> None:
    for whose, kind, media in bodies(OPERATIONS[name]):
        schema = {"components": {"schemas": SCHEMAS}, **media["schema"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        examples = media.get("examples", {})
        assert examples, f"give {whose} an example of {kind} in its row"
        for example in examples.values():
            faults = [
                f"{e.instance_path}: {e.message}" for e in validator.iter_errors(example["value"])
            ]
            assert faults == [], (whose, kind)


def test_the_example_of_each_field_fits_it() -> None:
    for place, key in (one for name, schema in SCHEMAS.items() for one in properties(name, schema)):
        schema = {"components": {"schemas": SCHEMAS}, **key}
        for example in key.get("examples", ()):
            assert jsonschema_rs.is_valid(schema, example), (place, example)
