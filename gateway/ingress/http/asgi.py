"""The types of ASGI, the headers that several answers have, and the notations of their bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

AsgiScope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
HeaderField = tuple[bytes, bytes]
Headers = Iterable[HeaderField]

CONNECTION = "kaskad.connection"  # in an ASGI scope: the connection that the request came over
ACTS_AS = "kaskad.acts_as"  # in a scope of our own making: whose rights the request has


JSON = (b"content-type", b"application/json")
PROBLEM_JSON = (b"content-type", b"application/problem+json")
NDJSON = (b"content-type", b"application/x-ndjson")
HTML = (b"content-type", b"text/html; charset=utf-8")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
FORM_TYPE = "application/x-www-form-urlencoded"  # of what a page's form sends
# Of what only its asker may see.
PRIVATE = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

# What msgspec raises for text that is not JSON. Bytes that are not UTF-8 are told apart by it, and
# only where a value of them is used.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

to_json = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""
