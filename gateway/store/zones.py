"""What waits for the time zone of its user goes on when the user has one.

A send window with `unknown_zone = "hold"` holds a message of which nothing says where its recipient
is. Who stores a zone looks for such messages of the user; who accepted one looks whether a zone was
stored meanwhile: so whichever comes last finds the other. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.events import ZoneKnown
from gateway.core.holding import ZONE_UNKNOWN
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.records.user import StoredUser
from gateway.store import queues, users
from gateway.store.apply import Item
from gateway.store.former_shards import shards_ever
from gateway.store.store import Store


async def stored(store: Store, kept: Mapping[str, StoredUser], now_ms: int) -> None:
    """Users, as identities, were stored."""
    zones = {user: each.tz for user, each in kept.items() if each.tz is not None}
    if not zones or not store.policy.holds_for_zone:
        return
    shards = await shards_ever(store.redis, store.shards)
    found = await queues.waiting_for_zone(store.redis, shards, list(zones))
    items = [Item(id_, ZoneKnown(user, zones[user])) for user, ids in found.items() for id_ in ids]
    if items:
        await store.apply(items, now_ms)


async def accepted(
    store: Store, requests: Sequence[MessageRequest], answers: Sequence[Answer], now_ms: int
) -> None:
    """Requests were answered."""
    if not store.policy.holds_for_zone:
        return
    waiting = {
        request.named_user
        for request, answer in zip(requests, answers, strict=True)
        if answer.held == ZONE_UNKNOWN and request.named_user is not None
    }
    if waiting:
        await stored(store, await users.read(store, waiting), now_ms)
