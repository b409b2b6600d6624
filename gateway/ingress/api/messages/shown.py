"""Messages as they are shown to whoever asks now, one or a page of them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.records.message import Message
from gateway.core.views.message import MessageView, view_now
from gateway.store.providers.pauses import away_of
from gateway.store.store import Store


async def shown(store: Store, messages: Sequence[Message], now_ms: int) -> list[MessageView]:
    """Each with what keeps it, its provider's pause included. Raises RedisUnavailable."""
    away = await away_of(store.redis, messages, store.policy.former)
    return [view_now(message, store.policy, now_ms, away) for message in messages]
