"""Counts the parts of a text message, as the provider bills them.

Written apart from the gateway's own counting on purpose: the provider's bill is a cross-check only
while the two share no code. Total for any string: it never fails.
"""

from __future__ import annotations

import re
from typing import Final

GSM7_SINGLE: Final = 160
GSM7_PART: Final = 153
UCS2_SINGLE: Final = 70
UCS2_PART: Final = 67
OCTETS_SINGLE: Final = 140
OCTETS_PART: Final = 134

# 3GPP TS 23.038: the basic table without ESC, and the extension table at two septets each.
_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")
_ONLY_BASIC: Final = re.compile(f"[{re.escape(_BASIC)}]*")
_ONLY_GSM7: Final = re.compile(f"[{re.escape(_BASIC + ''.join(sorted(_EXTENSION)))}]*")


def text_parts(text: str) -> int:
    """Parts of `text` (an empty one is one part): nothing indivisible is cut."""
    if _ONLY_BASIC.fullmatch(text):
        return _even(len(text), GSM7_SINGLE, GSM7_PART)
    if _ONLY_GSM7.fullmatch(text):
        return _packed([2 if c in _EXTENSION else 1 for c in text], GSM7_SINGLE, GSM7_PART)
    if max(text) <= "\uffff":
        return _even(len(text), UCS2_SINGLE, UCS2_PART)
    return _packed([2 if c > "\uffff" else 1 for c in text], UCS2_SINGLE, UCS2_PART)


def octet_parts(octets: int) -> int:
    """Parts of a binary message of that many octets."""
    return _even(octets, OCTETS_SINGLE, OCTETS_PART)


def _even(units: int, single: int, part: int) -> int:
    return 1 if units <= single else -(-units // part)


def _packed(costs: list[int], single: int, part: int) -> int:
    """Fills part after part: a pair that does not fit moves on whole and can cost a part more."""
    if sum(costs) <= single:
        return 1
    parts, room = 1, part
    for cost in costs:
        if cost > room:
            parts, room = parts + 1, part
        room -= cost
    return parts
