"""A JSON array of objects in which one cannot be read: the others are still found. Pure.

Only for what msgspec refused as a whole, such as half of a surrogate pair in one text or bytes that
are not UTF-8. The items are cut by their brackets and quotation marks and not looked into: whoever
reads them finds the one at fault. An array that is damaged outside its objects, or cut off, has no
items.
"""

from __future__ import annotations

import re

# A text that does not end is one token to the end, so that no byte is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_SPACE = b" \t\r\n"


def split_array(body: bytes) -> list[bytes] | None:
    """The objects of an array, as they stand; None when it is not an array of objects."""
    start, end = body.find(b"["), body.rfind(b"]")
    if start < 0 or end < start or body[:start].strip(_SPACE) or body[end + 1 :].strip(_SPACE):
        return None
    items: list[bytes] = []
    open_: list[bytes] = []  # brackets
    begun = behind = start + 1
    for token in _TOKEN.finditer(body, begun, end):
        mark = token[0]
        if mark in b"{[":
            if not open_:
                between = body[behind : token.start()].strip(_SPACE)
                if mark != b"{" or between != (b"," if items else b""):
                    return None
                begun = token.start()
            open_.append(mark)
        elif mark in b"}]":
            if not open_ or open_.pop() + mark not in (b"{}", b"[]"):
                return None
            if not open_:
                behind = token.end()
                items.append(body[begun:behind])
        elif not open_:
            return None  # a text between the objects
    return None if open_ or body[behind:end].strip(_SPACE) else items
