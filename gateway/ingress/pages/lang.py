"""In which language a page is for somebody who came by a link in a message. Pure."""

from __future__ import annotations

import re
from typing import Literal

Lang = Literal["en", "ru"]

_prefers_russian = re.compile(rb"\s*(ru|be|kk|uk)\b", re.IGNORECASE).match


def lang_of(accept_language: bytes | None) -> Lang:
    """By what a browser asks for first."""
    return "ru" if _prefers_russian(accept_language or b"") is not None else "en"
