"""`/docs`: the OpenAPI document as one page for people. Everything it says is in the document.

Pure; it cannot fail on a document of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.ingress.api.messages.statuses import STATUSES, STEP_STATUSES
from gateway.ingress.http.problems import KINDS
from gateway.ingress.pages.page import Page

_page = Page("docs")
_start = Page("start")
START_POLICY = _start.content_security_policy
CONTENT_SECURITY_POLICY = _page.content_security_policy
METHODS = ("get", "put", "patch", "post", "delete")  # in the order in which they are shown


def page(document: dict[str, Any], public_url: str) -> bytes:
    """The page of an OpenAPI document; `public_url` stands in its examples."""
    tags = [
        {**tag, "operations": [o for o in _operations(document) if tag["name"] in o["tags"]]}
        for tag in document["tags"]
    ]
    schemas = [
        {"name": name, "about": schema.get("description", ""), "keys": list(_keys(schema))}
        for name, schema in document["components"]["schemas"].items()
        if schema.get("type") == "object"
    ]
    example = next(
        body["content"]["application/json"]["examples"]["one"]["value"]
        for operation in _operations(document)
        if operation["id"] == "send" and (body := operation["body"])
    )
    return _page.render(
        info=document["info"],
        tags=[tag for tag in tags if tag["operations"]],
        schemas=schemas,
        problems=KINDS,
        statuses=STATUSES,
        step_statuses=STEP_STATUSES,
        example=_shown(example),
        public_url=public_url,
    )


def start() -> bytes:
    """The page at `/`, which leads on."""
    return _start.render()


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, item in document["paths"].items():
        for method in [each for each in METHODS if each in item]:
            operation = item[method]
            yield {
                "id": operation["operationId"],
                "tags": operation["tags"],
                "method": method.upper(),
                "path": path,
                "summary": operation["summary"],
                "about": operation.get("description", ""),
                "scopes": [s for need in operation.get("security", ()) for s in need["key"]],
                "parameters": [
                    {**each, "takes": _takes(each["schema"])}
                    for each in operation.get("parameters", ())
                ],
                "body": operation.get("requestBody"),
                "takes": _content(operation.get("requestBody") or {}),
                "responses": [
                    (status, response["description"], _content(response))
                    for status, response in operation["responses"].items()
                ],
                "examples": list(_examples(operation)),
            }


def _examples(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is sent, and what is answered when it is done, each with its words."""
    holders = {"Send": operation.get("requestBody", {})} | {
        f"Answer {status}": response
        for status, response in operation["responses"].items()
        if status.startswith("2")
    }
    for words, holder in holders.items():
        for kind, media in holder.get("content", {}).items():
            for example in media.get("examples", {}).values():
                yield f"{words}, {kind}", _shown(example["value"])


def _shown(example: Any) -> str:
    if isinstance(example, str):
        return example
    return msgspec.json.format(msgspec.json.encode(example), indent=2).decode()


def _content(holder: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(media type, words, name of the schema to link to or empty) of a body."""
    return [
        (kind, _words(media["schema"]), _linked(media["schema"]))
        for kind, media in holder.get("content", {}).items()
    ]


def _keys(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    required = schema.get("required", ())
    for name, key in schema.get("properties", {}).items():
        yield {
            "name": name,
            "required": name in required,
            "type": _words(key),
            "link": _linked(key),
            "about": _about(key),
        }


def _about(schema: dict[str, Any]) -> str:
    own = schema.get("description", "")
    if own:
        return str(own)
    return next((text for part in schema.get("anyOf", ()) if (text := _about(part))), "")


def _words(schema: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_words(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_words(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _takes(schema: dict[str, Any]) -> str:
    """What a parameter takes: its type, its bounds, and what holds without it."""
    words = _words(schema)
    if "minimum" in schema:
        words += f", {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        words += f", {schema['minLength']} to {schema['maxLength']} characters"
    if "default" in schema:
        words += f"; {schema['default']} if not given"
    return words


def _linked(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    parts = [*schema.get("anyOf", ()), schema.get("items", {})]
    return next((name for part in parts if part and (name := _linked(part))), "")
