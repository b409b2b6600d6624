"""How bodies and parameters that several endpoints share stand in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gateway.ingress.api.bodies.parameters import LIMIT_DEFAULT, LIMIT_MAX
from gateway.ingress.api.messages.request_body import SendRequest
from gateway.ingress.http.route import Doc, DocumentedSettings, Parameter, Payload, Schema

_LIMIT = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
PAGE = (  # how long a page of a list may be, and where it begins
    Parameter("limit", "query", "How many at most.", _LIMIT),
    Parameter("cursor", "query", "`next` of the page before; the first page without it."),
)


def json_payload(text: str, schema: Schema, example: Any = None) -> Payload:
    """A body of JSON, with its schema."""
    examples = {} if example is None else {"application/json": example}
    return Payload(text=text, media={"application/json": schema}, examples=examples)


def text_payload(text: str, media_type: str, example: str) -> Payload:
    """A body of text of that media type."""
    return Payload(
        text=text, media={media_type: {"type": "string"}}, examples={media_type: example}
    )


def one_or_many(configured: DocumentedSettings) -> Schema:
    """One message, or as many as the configuration takes at once."""
    several = Meta(min_length=1, max_length=configured.batch_items_max)
    return SendRequest, Annotated[list[SendRequest], several]


def provider_name(configured: DocumentedSettings) -> Doc:
    """A parameter that names a provider, with those of the configuration as examples."""
    names = sorted(configured.providers)
    return {"type": "string", **({"examples": names} if names else {})}
