"""The link in a text that a person would follow: the first URL."""

from __future__ import annotations

import re

_url = re.compile(r"https?://[^\s<>\"]+").search
_MARKS = ".,:;!?)]}»"  # of the sentence that the URL stands in


def link_in(text: str) -> str:
    """Empty where there is none."""
    found = _url(text) if "://" in text else None
    return found.group().rstrip(_MARKS) if found is not None else ""
