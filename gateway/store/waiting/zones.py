"""What waits for the time zone of its user goes on when the user has one.

A send window with `unknown_zone = "hold"` holds a message of which nothing says where its recipient
is. Who stores a zone looks for such messages of the user; who accepted one, or decided that it
waits for its zone from now on, looks whether a zone was stored meanwhile: so whichever comes last
finds the other. What is found here is to be applied. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.core.events import ZoneKnown
from gateway.core.holding import ZONE_UNKNOWN
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.records.user import StoredUser
from gateway.store.base import StoreBase
from gateway.store.former_shards import shards_ever
from gateway.store.messages.apply import Applied, Item
from gateway.store.people import users
from gateway.store.waiting import queues


async def stored(store: StoreBase, kept: Mapping[str, StoredUser]) -> list[Item]:
    """Users, as identities, were stored."""
    zones = {user: each.tz for user, each in kept.items() if each.tz is not None}
    if not zones or not store.policy.holds_for_zone:
        return []
    shards = await shards_ever(store.redis, store.shards)
    found = await queues.waiting_for_zone(store.redis, shards, list(zones))
    return [Item(id_, ZoneKnown(user, zones[user])) for user, ids in found.items() for id_ in ids]


async def accepted(
    store: StoreBase, requests: Sequence[MessageRequest], answers: Sequence[Answer]
) -> list[Item]:
    """Requests were answered."""
    waiting = {
        request.named_user
        for request, answer in zip(requests, answers, strict=True)
        if answer.held == ZONE_UNKNOWN and request.named_user is not None
    }
    return await missed(store, waiting)


def waiting_now(applied: Iterable[Applied]) -> set[str]:
    """For whose zone something waits that was changed."""
    return {
        user
        for done in applied
        if done.effects.changed
        and (message := done.message) is not None
        and message.held == ZONE_UNKNOWN
        and (user := message.named_user) is not None
    }


async def missed(store: StoreBase, waiting: Collection[str]) -> list[Item]:
    """Something waits for the zones of these users. One that cannot be read has none."""
    return await stored(store, await users.readable(store, waiting)) if waiting else []
