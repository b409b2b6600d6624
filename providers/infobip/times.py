"""Infobip's moments: `2026-11-01T12:34:56.789+0000`; without an offset it is UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
YEARS = range(1970, 2100)  # other dates stand for none, and some cannot be written in UTC


def at_ms(text: str) -> int | None:
    """Epoch milliseconds; None for what is no date of YEARS."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return (at - EPOCH) // MILLISECOND if at.year in YEARS else None
