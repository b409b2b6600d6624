"""JSON from a provider in which one part is damaged: the rest of it counts all the same.

What is good to know and decides nothing is declared as any value and read with `text_of` and
`part`: where it is not what it should be, it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

T = TypeVar("T")

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_REPLACEMENT = r"\ufffd"
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Reads a body; where a text in it cannot be read, half a surrogate pair and bytes that are not
    UTF-8 become U+FFFD. Raises ValueError and RecursionError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except ValueError:
        return decoder.decode(mended(bytes(body)))


def in_part(
    decoder: msgspec.json.Decoder[T],
    body: bytes | msgspec.Raw,
    names: Iterable[str],
    *,
    texts: bool = False,
) -> T:
    """Reads these fields alone, where something of an object is malformed; with `texts` only those
    that are texts. Raises ValueError and RecursionError."""
    fields = decode(_FIELDS, body)
    kept = {name: fields[name] for name in names if name in fields}
    if texts:
        kept = {name: value for name, value in kept.items() if bytes(value).startswith(b'"')}
    return decode(decoder, msgspec.json.encode(kept))


def text_of(value: object) -> str:
    """A text; "" for what is none."""
    return value if isinstance(value, str) else ""


def part(value: object, name: str) -> object:
    """A field of an object; None for what is none, or has no such field."""
    return value.get(name) if isinstance(value, dict) else None


def mended(body: bytes) -> bytes:
    """The body with U+FFFD in the place of what is no text."""
    text = body.decode(errors="replace")
    return _ESCAPE.sub(lambda found: _REPLACEMENT if found["half"] else found[0], text).encode()
