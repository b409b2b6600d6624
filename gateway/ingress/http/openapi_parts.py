"""What every part of the OpenAPI document is put together from: references, bodies, problems.

Pure; it knows no endpoint.
"""

from __future__ import annotations

from typing import Any

from gateway.ingress.http.problems import KINDS

Doc = dict[str, Any]

REF = "#/components/schemas/{name}"


def ref_of(name: str) -> Doc:
    return {"$ref": REF.format(name=name)}


def content_of(schema: Doc) -> Doc:
    return {"content": {"application/json": {"schema": schema}}}


def json_of(text: str, schema: Doc) -> Doc:
    return {"description": text, **content_of(schema)}


def path_parameter(name: str, text: str, schema: Doc) -> Doc:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def problems(*statuses: int) -> Doc:
    """The responses of these statuses, and of those that any endpoint has: problem documents."""
    titles: dict[int, list[str]] = {}
    for status, title in KINDS.values():
        titles.setdefault(status, []).append(title)
    retry = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
    responses: Doc = {}
    for status in (*statuses, 431, 500):
        responses[str(status)] = {
            "description": "; ".join(titles[status]) + ".",
            "content": {"application/problem+json": {"schema": ref_of("Problem")}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = retry
    return responses
