"""The OpenAPI 3.1 document, made from the route table and the Structs that it names.

Each operation says who may call it, what it takes, and each answer it can give. A test calls the
running endpoints by this document, so it cannot drift. Pure; it cannot fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

import msgspec

from gateway.ingress.http.problems import KINDS, Problem
from gateway.ingress.http.route import (
    Doc,
    DocumentedSettings,
    HttpRoute,
    Parameter,
    Payload,
    Schema,
)
from gateway.version import VERSION

_REF = "#/components/schemas/{name}"
_ABOUT = (
    "One endpoint takes messages; Kaskad sends each over the channels of its route until one "
    "arrives, bills it once, and never sends the same campaign to the same person twice. "
    "Errors are RFC 9457 problem documents; amounts are decimal strings; times are RFC 3339 in UTC."
)
_TAGS = {
    "Messages": "Send, look up, cancel, follow.",
    "Opt-outs": "Who does not want to be sent anything.",
    "People": "What is kept of a person, and how it is forgotten.",
    "Operators": "How it runs, and what operators do about it; with the scope `operate`.",
    "Reports": "What it cost.",
    "Providers": "Receipts; called by providers, not by apps.",
    "State": "For machines that watch.",
}
_OF_ALL = (431, 500)
_OF_A_KEY = (400, 401, 403, 503)
_OF_A_BODY = (408, 413, 415)
_REQUEST_ID = {
    "X-Request-Id": {
        "description": "The request's id: the one it brought, or a new one.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}


def document(routes: Sequence[HttpRoute[Any]], configured: DocumentedSettings) -> Doc:
    """The whole document."""
    described = [route for route in routes if route.tag is not None]
    paths: dict[str, Doc] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, configured)
    types = [kind for route in described for kind in _types(route, configured)]
    _, schemas = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kaskad", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."}
            },
        },
    }


def _operation(route: HttpRoute[Any], configured: DocumentedSettings) -> Doc:
    responses = _problems(route, configured)
    for status, payload in route.answers.items():
        responses[status] = {
            "description": payload.text,
            "headers": {**_REQUEST_ID, **payload.headers},
            **_content(payload, configured),
        }
    found: Doc = {"operationId": route.name, "tags": [route.tag], "summary": route.summary}
    if route.text:
        found["description"] = route.text
    if route.scope is not None:
        found["security"] = [{"key": [route.scope]}]
    if route.parameters:
        found["parameters"] = [_parameter(each, configured) for each in route.parameters]
    if route.body is not None:
        found["requestBody"] = _content(route.body, configured)
        if route.body.required:
            found["requestBody"]["required"] = True
    found["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return found


def _parameter(parameter: Parameter, configured: DocumentedSettings) -> Doc:
    found: Doc = {"name": parameter.name, "in": parameter.place}
    if parameter.place == "path":
        found["required"] = True
    if parameter.text:
        found["description"] = parameter.text
    return {**found, "schema": _schema(parameter.schema, configured)}


def _content(payload: Payload, configured: DocumentedSettings) -> Doc:
    content: Doc = {
        kind: {"schema": _schema(schema, configured)} for kind, schema in payload.media.items()
    }
    if payload.example is not None:
        content["application/json"]["examples"] = {"one": {"value": payload.example}}
    return {"content": content} if content else {}


def _schema(schema: Schema, configured: DocumentedSettings) -> Doc:
    resolved = _resolved(schema, configured)
    if isinstance(resolved, dict):
        return resolved
    if isinstance(resolved, tuple):
        return {"anyOf": [_schema(each, configured) for each in resolved]}
    (found,), _ = msgspec.json.schema_components([resolved], ref_template=_REF)
    return found


def _resolved(schema: Schema, configured: DocumentedSettings) -> Any:
    return schema(configured) if isinstance(schema, FunctionType) else schema


def _problems(route: HttpRoute[Any], configured: DocumentedSettings) -> dict[int, Doc]:
    """What a route answers when it does not do what was asked, by status."""
    statuses = {*route.problems, *_OF_ALL}
    if route.scope is not None:
        statuses.update(_OF_A_KEY)
    if route.body is not None:
        statuses.update(_OF_A_BODY)
    titles: dict[int, list[str]] = {}
    for kind in KINDS.values():
        titles.setdefault(kind.status, []).append(kind.title)
    responses: dict[int, Doc] = {}
    for status in statuses:
        responses[status] = {
            "description": "; ".join(titles[status]) + ".",
            "headers": {**_REQUEST_ID, **(_RETRY_AFTER if status in (429, 503) else {})},
            "content": {"application/problem+json": {"schema": _schema(Problem, configured)}},
        }
    return responses


def _types(route: HttpRoute[Any], configured: DocumentedSettings) -> Iterator[Any]:
    """The types that a row names, for the document's schemas."""
    for payload in (route.body, *route.answers.values()):
        if payload is not None:
            for schema in (*payload.media.values(), *payload.shown):
                resolved = _resolved(schema, configured)
                several = resolved if isinstance(resolved, tuple) else (resolved,)
                yield from (each for each in several if not isinstance(each, dict))
