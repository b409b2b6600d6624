"""Texts with `{{name}}` in them, and what stands there for one person. Pure.

A name has 1 to 64 letters, digits, `_`, `-` and `.`; spaces beside it do not matter. Any other
brace stands for itself, and so does `{{unsubscribe}}`, which is filled in when a message is sent
(`gateway.core.people.unsubscribing`). What is filled in is escaped for where it stands: in a URL,
also one within a text, percent-encoded; in HTML as text; where there is one line without line
breaks. A name of which nothing is known raises KeyError.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

NAME_MAX = 64
URL_LOOK_BACK = 1000  # how far before a place the URL in which it stands may begin

_name = r"\{\{ *(?!unsubscribe *\}\})([\w.-]{1,%d}) *\}\}" % NAME_MAX  # noqa: UP031  # braces
_place = re.compile(_name)
# An apostrophe ends a URL that begins behind one, and else is part of it.
_in_url = re.compile(
    r"(?:(?<=')https?://[^\s<>\"']*|(?<!')https?://[^\s<>\"]*)\Z", re.IGNORECASE
).search
_breaks = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+").sub

Escape = Callable[[str], str]


def as_text(value: str) -> str:
    return value


def as_line(value: str) -> str:
    """Without line breaks, each of which becomes a space."""
    return _breaks(" ", value)


def as_html(value: str) -> str:
    return html.escape(value)


def as_url(value: str) -> str:
    return quote(value, safe="")


class Template(msgspec.Struct, frozen=True):
    """A text that is cut at its places: `before` each place its text and, after the last, `end`."""

    places: tuple[tuple[str, str, Escape], ...]  # the text before it, its name, how it is escaped
    end: str

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name, _ in self.places)

    def fill(self, values: Mapping[str, str]) -> str:
        """Raises KeyError."""
        said: dict[tuple[str, Escape], str] = {}  # escaped once: a text has many places
        parts: list[str] = []
        for text, name, escape in self.places:
            value = said.get((name, escape))
            if value is None:
                value = said[name, escape] = escape(values[name])
            parts += (text, value)
        return "".join((*parts, self.end))


def with_letters(part: Any) -> Any:
    """Parsed JSON with one letter in each place: so long is a text before it is filled in."""
    if isinstance(part, dict):
        return {key: with_letters(value) for key, value in part.items()}
    return _place.sub("x", part) if isinstance(part, str) else part


def template_of(text: str, escape: Escape) -> Template | None:
    """None where nothing is to be filled in."""
    places = []
    told, at = "", 0  # what stands before, each place as one character
    for found in _place.finditer(text):
        before = text[at : found.start()]
        told = (told + before)[-URL_LOOK_BACK:]
        places.append((before, found[1], as_url if _in_url(told) else escape))
        told, at = told + "x", found.end()
    return Template(tuple(places), text[at:]) if places else None
