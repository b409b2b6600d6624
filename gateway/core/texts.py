"""What a text may consist of, and the one spelling of a name. Pure.

A text that shows nothing would be charged all the same, and one with control characters is read in
as many ways as there are phones. Unpaired surrogates never get here: they are no JSON.
"""

from __future__ import annotations

import re
import unicodedata

# C0 without tab, LF, FF and CR, which GSM-7 and e-mail have.
_control = re.compile("[\x00-\x08\x0b\x0e-\x1f]").search
# Format characters, fillers and variation selectors: what no font draws.
_seen = re.compile(
    "[^\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
).search
# Such names stand in URLs, Redis keys, metrics, report columns and names of files.
PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
is_plain_name = re.compile(PLAIN_NAME).fullmatch
_SPACES = " \u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))  # Zs
# Beyond it nothing is spelled anew. Of combining marks NFC takes the square: 7.6 s for 80,000, in
# 160 KB of a body (2026-11-30). Four characters become one at most.
SPELLED_CHARS_MAX = 1_024


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: it is empty, white space or invisible characters."""
    return not "!" <= text[:1] <= "~" and _seen(text) is None


def has_control(text: str) -> bool:
    """Whether control characters stand in it that no message can need."""
    return not text.isprintable() and _control(text) is not None


def name_of(text: str) -> str:
    """The one spelling of a caller's id or of a campaign's name: NFC, no spaces at its ends. What
    is too long to be one in any spelling stays as it is."""
    text = text.strip(_SPACES)
    if text.isascii() or len(text) > SPELLED_CHARS_MAX:
        return text
    return unicodedata.normalize("NFC", text)
