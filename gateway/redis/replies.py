"""Replies of Redis in the forms that its commands document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.redis.connection import RedisReply


def as_list(reply: RedisReply) -> list[Any]:
    """The reply of a command that answers with an array."""
    assert isinstance(reply, list)
    return reply


def pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values as Redis lists them: one after the other."""
    return zip(flat[::2], flat[1::2], strict=True)


def whole(value: RedisReply) -> int | None:
    """A whole number as it is kept; None: there is none, or something else stands there."""
    try:
        return int(value) if isinstance(value, bytes) else None
    except ValueError:
        return None
