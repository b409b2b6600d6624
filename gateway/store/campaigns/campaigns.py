"""Which campaigns the running totals keep apart: the first so many of a month, by name.

A campaign may be named after an order, and a million of them a day must cost what one does. So the
names that are kept apart stand in one set a month, `{kaskad}campaigns:<month>`; the bookings of all
others are added up under "(other)" of their app, without variants. The ledger names every campaign.

A name is asked for when it is first met, and once the set is full never again: each process then
reads it whole. What several processes meet at the moment it fills up may exceed the limit, by one
batch a process, and be booked under both; a sum is never wrong by it. While the set cannot be
reached, what names a new campaign is not committed: RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from gateway.core.records.entries import Post
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.store.shared_keys import campaigns_of

KEEP_MS = 62 * 86_400_000  # nobody books on a month that is over
MONTHS_KEPT = 2  # around midnight a process books on two


class _Month(msgspec.Struct):
    known: set[str] = msgspec.field(default_factory=set)
    asked: bool = False  # whether it is full
    full: bool = False  # and `known` is all there is


class Campaigns:
    """What one process knows of them."""

    def __init__(self, campaigns_max: int) -> None:
        self._max = campaigns_max
        self._months: dict[str, _Month] = {}

    def fold(self, posts: Iterable[Post], month: str) -> list[Post]:
        """The bookings as they are added up."""
        known = self._month(month).known
        return [
            post
            if not post.group.campaign or post.group.campaign in known
            else replace(post, group=post.group.among_others)
            for post in posts
        ]

    async def learn(self, redis: RedisClient, posts: Iterable[Post], month: str) -> None:
        """Asks for the names that are met for the first time; without a round trip for others.
        Raises RedisUnavailable."""
        state = self._month(month)
        if state.full:
            return
        new = {post.group.campaign for post in posts} - state.known - {""}
        if not new:
            return
        key = campaigns_of(month)
        if not state.asked:
            replies = await redis.call([("SCARD", key)])
            state.asked = True
            if await self._read_if_full(redis, state, key, replies):
                return
        commands: list[Command] = [("SADD", key, *sorted(new)), ("PEXPIRE", key, KEEP_MS)]
        replies = await redis.call([*commands, ("SCARD", key)])
        state.known.update(new)
        await self._read_if_full(redis, state, key, replies)

    async def _read_if_full(
        self, redis: RedisClient, state: _Month, key: str, replies: list[RedisReply]
    ) -> bool:
        size = replies[-1]
        assert isinstance(size, int)
        if size >= self._max:
            (names,) = await redis.call([("SMEMBERS", key)])
            assert isinstance(names, list)
            state.known = {name.decode(errors="replace") for name in names}
            state.full = True
        return state.full

    def _month(self, month: str) -> _Month:
        state = self._months.get(month)
        if state is None:
            state = self._months[month] = _Month()
            if len(self._months) > MONTHS_KEPT:
                del self._months[min(self._months)]
        return state
