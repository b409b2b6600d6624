"""How many parts a short message becomes: GSM 03.38 septets or UCS-2 units, as handsets join them.

The alphabet tables and the cutting rules are those of 3GPP TS 23.038 and 23.040 with an 8-bit
reference, without national language tables, which no adapter of ours asks a provider to use. Every
text has a count, so nothing here fails; whether a count is too high is the caller's question
(`PARTS_MAX`).

`parts` is on the path of every acceptance: one regular expression decides the alphabet, and long
texts are cut by jumping from border to border instead of walking the characters.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

from providers import gsm7

Alphabet = Literal["gsm7", "ucs2"]

GSM7_SINGLE = 160  # septets in a message of one part
GSM7_PART = 153  # septets a part when a header joins several
UCS2_SINGLE = 70  # UTF-16 code units
UCS2_PART = 67
PARTS_MAX = 25  # the lowest limit among our providers (Infobip); protocol 255

_BASIC = gsm7.BASIC.replace(gsm7.ESC, "")  # ESC is not a character of the alphabet
_EXTENSION = "".join(gsm7.EXTENSION)

_ESC = gsm7.ESC  # so it can stand for itself in a septet string
_all_basic = re.compile(f"[{re.escape(_BASIC)}]*").fullmatch
_all_gsm7 = re.compile(f"[{re.escape(_BASIC + _EXTENSION)}]*").fullmatch


class Segments(msgspec.Struct, frozen=True):
    """What a text becomes: `units` are septets or UTF-16 code units, `lengths` are units a part."""

    alphabet: Alphabet
    units: int
    parts: int
    lengths: tuple[int, ...]


def count(text: str) -> Segments:
    """Cuts greedily, never inside an escape or surrogate pair. Empty text is one empty part."""
    alphabet, units, borders = _cut(text)
    ends = [*borders, units]
    lengths = tuple(end - start for start, end in zip([0, *borders], ends, strict=True))
    return Segments(alphabet, units, len(lengths), lengths)


@lru_cache(maxsize=256)
def parts(text: str) -> int:
    """`count(text).parts` alone, at a fraction of the cost for short and plain texts; a campaign
    asks for the same text again and again."""
    length = len(text)
    if length <= UCS2_SINGLE and len(text.encode("utf-16-be", "surrogatepass")) <= 2 * UCS2_SINGLE:
        return 1  # in either alphabet: a character has two septets at most
    if _all_basic(text) is not None:
        return 1 if length <= GSM7_SINGLE else -(-length // GSM7_PART)
    return len(_cut(text)[2]) + 1


def _cut(text: str) -> tuple[Alphabet, int, list[int]]:
    """The alphabet, the units, and where parts after the first begin."""
    if _all_gsm7(text) is not None:
        septets = _septets(text)
        if len(septets) <= GSM7_SINGLE:
            return "gsm7", len(septets), []
        return "gsm7", len(septets), _septet_borders(septets)
    # A lone surrogate cannot be sent but can be counted: refusing text is the boundary's business.
    octets = text.encode("utf-16-be", "surrogatepass")
    units = len(octets) // 2
    if units <= UCS2_SINGLE:
        return "ucs2", units, []
    return "ucs2", units, _unit_borders(octets, units)


def _septets(text: str) -> str:
    for char in _EXTENSION:
        if char in text:
            text = text.replace(char, _ESC + char)
    return text


def _septet_borders(septets: str) -> list[int]:
    borders: list[int] = []
    border = GSM7_PART
    while border < len(septets):
        if septets[border - 1] == _ESC:
            border -= 1
        borders.append(border)
        border += GSM7_PART
    return borders


def _unit_borders(octets: bytes, units: int) -> list[int]:
    borders: list[int] = []
    border = UCS2_PART
    while border < units:
        before, after = octets[2 * border - 2], octets[2 * border]
        if 0xD8 <= before <= 0xDB and 0xDC <= after <= 0xDF:
            border -= 1
        borders.append(border)
        border += UCS2_PART
    return borders
