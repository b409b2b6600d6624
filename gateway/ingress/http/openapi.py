"""The OpenAPI 3.1 document, built from the very Structs that requests are read into.

Owns the description of every endpoint: who may call it, what it takes, and each answer it can give.
A test calls the running endpoints by this document, so it cannot drift. Pure. It must not know how
an endpoint works.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

import msgspec

from gateway.ingress.api.callbacks import CallbackResult
from gateway.ingress.api.events import EventData
from gateway.ingress.api.health import Health, Readiness
from gateway.ingress.api.message import MessageView
from gateway.ingress.api.optouts import OptOutRequest, OptOutView
from gateway.ingress.api.requests import KEY_MAX, SendRequest
from gateway.ingress.api.results import Result
from gateway.ingress.http.openapi_parts import (
    REF,
    Doc,
    content_of,
    json_of,
    path_parameter,
    problems,
    ref_of,
)
from gateway.ingress.http.openapi_reports import cost
from gateway.ingress.http.problems import Problem

_STRUCTS = (
    SendRequest,
    Result,
    Problem,
    MessageView,
    OptOutRequest,
    OptOutView,
    CallbackResult,
    EventData,
    Health,
    Readiness,
)
_ABOUT = (
    "One endpoint takes messages; Kaskad sends each over the channels of its route until one "
    "arrives, bills it once, and never sends the same campaign to the same person twice. "
    "Errors are RFC 9457 problem documents; amounts are decimal strings; times are RFC 3339 in UTC."
)


def document(providers: Iterable[str], batch_items_max: int) -> Doc:
    """The whole document. `providers` are the names that callbacks may come under."""
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template=REF)
    paths = {
        "/v1/messages": {"post": _send(batch_items_max)},
        "/v1/messages/{id}": _message(),
        "/v1/optouts/{phone}": _opt_outs(),
        "/v1/events": {"get": _events()},
        "/v1/reports/cost": {"get": cost()},
        "/v1/callbacks/{provider}": {"post": _callback(sorted(providers))},
        **_state(),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kaskad", "version": version("kaskad"), "description": _ABOUT},
        "tags": [
            {"name": "Messages", "description": "Send, look up, cancel, follow."},
            {"name": "Opt-outs", "description": "Who does not want to be sent anything."},
            {"name": "Reports", "description": "What it cost."},
            {"name": "Providers", "description": "Receipts; called by providers, not by apps."},
            {"name": "State", "description": "For machines that watch."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."}
            },
        },
    }


# --- the endpoints ---


def _send(batch_items_max: int) -> Doc:
    request, result = ref_of("SendRequest"), ref_of("Result")
    array = {"type": "array", "items": request, "minItems": 1, "maxItems": batch_items_max}
    replayed = {
        "Idempotent-Replayed": {
            "description": "`true` when this is the first answer again.",
            "schema": {"const": "true"},
        }
    }
    known = {
        "description": "One message that was a duplicate or suppressed; or the results of an "
        "array, in order, with `index`; or of a stream, line by line, with `line`.",
        "headers": replayed,
        "content": {
            "application/json": {"schema": {"anyOf": [result, {"type": "array", "items": result}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
    accepted = {**json_of("Accepted: it will reach a final status.", result), "headers": replayed}
    return {
        "operationId": "send",
        "tags": ["Messages"],
        "summary": "Send one message, an array, or a stream",
        "description": "Answered once durable. A stream is answered while it is read, one line "
        "for each line, in order; a client must read while it writes. A line that is an "
        "`error` is the last one that was read: go on from it.",
        "security": [{"key": ["send"]}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key and body within 24 hours give the first answer "
                "again. Items of an array have `key#index`, lines of a stream `key#line`.",
                "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [request, array]},
                    "examples": {"one": {"value": EXAMPLE}},
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "200": known,
            "202": accepted,
            **problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
        },
    }


def _message() -> Doc:
    found = json_of("The message.", ref_of("MessageView"))
    return {
        "parameters": [path_parameter("id", "The message's id.", {"type": "string"})],
        "get": {
            "operationId": "getMessage",
            "tags": ["Messages"],
            "summary": "What became of a message",
            "security": [{"key": ["read"]}],
            "responses": {"200": found, **problems(400, 401, 403, 404, 503)},
        },
        "delete": {
            "operationId": "cancelMessage",
            "tags": ["Messages"],
            "summary": "Cancel: no further step starts",
            "security": [{"key": ["send"]}],
            "responses": {"200": found, **problems(400, 401, 403, 404, 409, 503)},
        },
    }


def _opt_outs() -> Doc:
    found = json_of("The opt-out.", ref_of("OptOutView"))
    schema = {
        "type": "string",
        "pattern": "^\\+[1-9][0-9]{6,14}$",
        "examples": ["+79161234567"],
    }
    common = {"tags": ["Opt-outs"], "security": [{"key": ["send"]}]}
    return {
        "parameters": [path_parameter("phone", "A phone number in E.164.", schema)],
        "get": {
            **common,
            "operationId": "getOptOut",
            "summary": "Whether somebody opted out",
            "responses": {"200": found, **problems(400, 401, 403, 404, 422, 503)},
        },
        "put": {
            **common,
            "operationId": "putOptOut",
            "summary": "Somebody opts out",
            "requestBody": {"required": True, **content_of(ref_of("OptOutRequest"))},
            "responses": {"200": found, **problems(400, 401, 403, 408, 413, 415, 422, 503)},
        },
        "delete": {
            **common,
            "operationId": "deleteOptOut",
            "summary": "Somebody may be sent messages again",
            "responses": {
                "204": {"description": "There is no opt-out now."},
                **problems(400, 401, 403, 422, 503),
            },
        },
    }


def _events() -> Doc:
    return {
        "operationId": "followEvents",
        "tags": ["Messages"],
        "summary": "Follow status changes as Server-Sent Events",
        "description": "Each `event: status` carries an EventData object. Reconnect with "
        "`Last-Event-ID` and nothing is missed.",
        "security": [{"key": ["read"]}],
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last event that was received.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            "200": {
                "description": "The stream; it does not end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **problems(400, 401, 403, 503),
        },
    }


def _callback(providers: list[str]) -> Doc:
    schema: Doc = {"type": "string"}
    if providers:
        schema["examples"] = providers
    return {
        "operationId": "callback",
        "tags": ["Providers"],
        "summary": "A provider's receipts, in its own format",
        "description": "Proven by HTTP basic, `?token=` or an HMAC header, as configured. "
        "Answered once durable; a receipt of an unknown message is parked.",
        "parameters": [
            path_parameter("provider", "The provider's name in the configuration.", schema),
            {"name": "token", "in": "query", "schema": {"type": "string"}},
        ],
        "requestBody": {"content": {"application/json": {"schema": {}}}},
        "responses": {
            "200": json_of("What became of the receipts.", ref_of("CallbackResult")),
            **problems(400, 401, 404, 408, 413, 415, 503),
        },
    }


def _state() -> Doc:
    def get(name: str, summary: str, responses: Doc) -> Doc:
        operation = {"operationId": name, "tags": ["State"], "summary": summary}
        return {"get": {**operation, "responses": responses}}

    def page(kind: str, text: str) -> Doc:
        return {"200": {"description": text, "content": {kind: {"schema": {"type": "string"}}}}}

    ready = ref_of("Readiness")
    return {
        "/healthz": get("health", "Alive", {"200": json_of("It answers.", ref_of("Health"))}),
        "/readyz": get(
            "readiness",
            "Ready: Redis can be reached",
            {"200": json_of("Ready.", ready), "503": json_of("Not ready.", ready)},
        ),
        "/metrics": get("metrics", "Figures for Prometheus", page("text/plain", "The figures.")),
        "/openapi.json": get(
            "openapi", "This document", {"200": json_of("OpenAPI 3.1.", {"type": "object"})}
        ),
        "/docs": get("docs", "This document, for people", page("text/html", "The page.")),
    }


EXAMPLE = {
    "to": "+79161234567",
    "user": "u-1001",
    "campaign": "autumn-sale",
    "category": "marketing",
    "text": "Autumn sale: 20% off until Sunday.",
    "viber": {
        "image_url": "https://shop.example/autumn.png",
        "button": {"caption": "To the shop", "url": "https://shop.example/autumn"},
    },
    "metadata": {"segment": "b"},
}
