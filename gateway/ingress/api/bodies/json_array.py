"""A JSON array of objects in which one cannot be read: the others are still found. Pure.

Only for what msgspec refused as a whole, such as half of a surrogate pair in one text or bytes that
are not UTF-8. The items are cut by their brackets and quotation marks and not looked into: whoever
reads them finds the one at fault. An array that is damaged outside its objects, or cut off, has no
items: DamagedArray.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# 16 MiB of brackets take 8 s, of texts 4 s (2026-11-30).
TOKENS_AT_ONCE = 8_192

# A text that does not end is one token to the end, so that no byte is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_SPACE = b" \t\r\n"


class DamagedArray(ValueError):
    """It is not an array of objects."""


def split_array(body: bytes) -> Iterator[list[bytes]]:
    """The objects of an array, as they stand, in pieces: whoever takes them may do something else
    in between, and need not take all. Raises DamagedArray, perhaps behind some of them."""
    start, end = body.find(b"["), body.rfind(b"]")
    if start < 0 or end < start or body[:start].strip(_SPACE) or body[end + 1 :].strip(_SPACE):
        raise DamagedArray
    items: list[bytes] = []
    any_before = False
    open_ = bytearray()  # brackets
    begun = behind = start + 1
    for number, token in enumerate(_TOKEN.finditer(body, begun, end), 1):
        mark = token[0]
        if mark in b"{[":
            if not open_:
                between = body[behind : token.start()].strip(_SPACE)
                if mark != b"{" or between != (b"," if any_before else b""):
                    raise DamagedArray
                begun = token.start()
            open_ += mark
        elif mark in b"}]":
            if not open_ or bytes((open_.pop(),)) + mark not in (b"{}", b"[]"):
                raise DamagedArray
            if not open_:
                behind = token.end()
                items.append(body[begun:behind])
                any_before = True
        elif not open_:
            raise DamagedArray  # a text between the objects
        if number % TOKENS_AT_ONCE == 0:
            yield items
            items = []
    if open_ or body[behind:end].strip(_SPACE):
        raise DamagedArray
    yield items
