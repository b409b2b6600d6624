"""The OpenAPI 3.1 document, made from the route table and the Structs that it names.

Each operation says who may call it, what it takes, and each answer it can give. A test calls the
running endpoints by this document, so it cannot drift. Pure; it cannot fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import msgspec

from gateway.ingress.http.problems import KINDS, Problem
from gateway.ingress.http.reference import example_of, explain, problem_examples
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
    "Campaigns": "What is declared of a campaign: pause, resume, cancel, pace and bounds.",
    "Links": "Short links of an app's own, and what came of any of its links.",
    "Opt-outs": "Who does not want to be sent anything.",
    "People": "What is kept of a person, and how it is forgotten.",
    "Operators": "How it runs, and what operators do about it; with the scope `operate`.",
    "Reports": "What it cost.",
    "Webhooks": "Telling an app of events at its own address.",
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
    types = [kind for route in described for kind in _types(route, configured)]
    _, schemas = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    explain(schemas)
    paths: dict[str, Doc] = {}
    for route in described:
        operation = _Operation(route, configured, schemas).told()
        paths.setdefault(route.path, {})[route.method.lower()] = operation
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


class _Operation(NamedTuple):
    """One row as it is told."""

    route: HttpRoute[Any]
    configured: DocumentedSettings
    schemas: Mapping[str, Doc]

    def told(self) -> Doc:
        route = self.route
        responses = self._problems()
        for status, payload in route.answers.items():
            responses[status] = {
                "description": payload.text,
                "headers": {**_REQUEST_ID, **payload.headers},
                **self._content(payload, answer=True),
            }
        found: Doc = {"operationId": route.name, "tags": [route.tag], "summary": route.summary}
        if route.text:
            found["description"] = route.text
        if route.scope is not None:
            found["security"] = [{"key": [route.scope]}]
        if route.parameters:
            found["parameters"] = [self._parameter(each) for each in route.parameters]
        if route.body is not None:
            found["requestBody"] = self._content(route.body, answer=False)
            if route.body.required:
                found["requestBody"]["required"] = True
        found["responses"] = {str(status): responses[status] for status in sorted(responses)}
        return found

    def _parameter(self, parameter: Parameter) -> Doc:
        found: Doc = {"name": parameter.name, "in": parameter.place}
        if parameter.place == "path":
            found["required"] = True
        schema = _schema(parameter.schema, self.configured)
        return {**found, "description": parameter.text, "schema": schema}

    def _content(self, payload: Payload, *, answer: bool) -> Doc:
        content: Doc = {}
        for kind, said in payload.media.items():
            schema = _schema(said, self.configured)
            content[kind] = {"schema": schema}
            example = payload.examples.get(kind)
            if example is None and answer:
                example = example_of(schema, self.schemas)
            if example is not None:
                content[kind]["examples"] = {"one": {"value": example}}
        return {"content": content} if content else {}

    def _problems(self) -> dict[int, Doc]:
        """What a route answers when it does not do what was asked, by status."""
        route = self.route
        statuses = {*route.problems, *_OF_ALL}
        if route.scope is not None:
            statuses.update(_OF_A_KEY)
        if route.body is not None:
            statuses.update(_OF_A_BODY)
        titles: dict[int, list[str]] = {}
        for kind in KINDS.values():
            titles.setdefault(kind.status, []).append(kind.title)
        schema = _schema(Problem, self.configured)
        return {
            status: {
                "description": ". ".join(titles[status]) + ".",
                "headers": {**_REQUEST_ID, **(_RETRY_AFTER if status in (429, 503) else {})},
                "content": {
                    "application/problem+json": {
                        "schema": schema,
                        "examples": problem_examples(status),
                    }
                },
            }
            for status in statuses
        }


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


def _types(route: HttpRoute[Any], configured: DocumentedSettings) -> Iterator[Any]:
    """The types that a row names, for the document's schemas."""
    for payload in (route.body, *route.answers.values()):
        if payload is not None:
            for schema in (*payload.media.values(), *payload.shown):
                resolved = _resolved(schema, configured)
                several = resolved if isinstance(resolved, tuple) else (resolved,)
                yield from (each for each in several if not isinstance(each, dict))
