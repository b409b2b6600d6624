"""Which app stands in which line of the lanes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.redis.client import Command, RedisReply
from gateway.redis.errors import RedisUnavailable
from gateway.store.keys import keys_of
from gateway.store.shared_keys import LINES
from gateway.store.waiting.lines import (
    CONFIRM_MS,
    FORMER_MAX,
    LINES_MAX,
    READ_FIELD,
    UNREAD_MS,
    UNUSED_MS,
    Lines,
    Use,
    choose,
)
from tests.worlds.cascade_world import T0
from tests.worlds.dispatch_world import DispatchWorld, under_trio, world

APPS = st.lists(st.integers(0, 5_000).map("app-{}".format), max_size=200)
FULL = {line: Use(f"app-{line}", T0 - line) for line in range(LINES_MAX)}


@given(APPS)
def test_as_many_apps_as_lines_have_one_each_and_no_more_lines_are_made(apps: list[str]) -> None:
    uses: dict[int, Use] = {}
    for app in apps:
        line = choose(app, uses, T0)
        assert 0 <= line < LINES_MAX
        uses.setdefault(line, Use(app, T0))
        assert line == choose(app, uses, T0)
    own = dict.fromkeys(apps)
    assert len(uses) == min(len(own), LINES_MAX)
    assert {use.app for use in uses.values()} == set(list(own)[:LINES_MAX])


def test_the_line_that_was_unused_for_longest_is_another_apps_after_an_hour() -> None:
    assert choose("new", FULL, T0) == choose("new", FULL, T0 + UNUSED_MS - LINES_MAX) < LINES_MAX
    assert choose("new", FULL, T0 + UNUSED_MS) == LINES_MAX - 1
    assert choose("app-3", FULL, T0 + UNUSED_MS) == 3


async def learned(w: DispatchWorld, lines: Lines, app: str, at_ms: int = T0) -> int:
    await lines.learn(w.redis, at_ms, [app])
    return lines.of(app, at_ms)


@under_trio
async def test_until_a_dispatcher_reads_lines_there_is_one(url: str) -> None:
    async with world(url) as w:
        lines = Lines()
        assert [await learned(w, lines, app) for app in ("shop", "bank")] == [0, 0]
        assert await Lines().announce(w.redis) == 1
        assert await learned(w, lines, "bank") == 0, "it is asked again in a second"
        at = T0 + UNREAD_MS
        assert [await learned(w, lines, app, at) for app in ("bank", "shop")] == [0, 1]
        assert await lines.in_use(w.redis) == 2
        assert [await learned(w, Lines(), app, at) for app in ("shop", "bank")] == [1, 0]


@under_trio
async def test_a_line_is_confirmed_each_minute_and_lost_to_whoever_took_it(url: str) -> None:
    async with world(url) as w:
        lines = Lines()
        await lines.announce(w.redis)
        assert [await learned(w, lines, f"app-{n}") for n in range(LINES_MAX)] == [
            *range(LINES_MAX)
        ]
        later = T0 + UNUSED_MS
        assert await learned(w, lines, "app-0", later) == 0
        assert await learned(w, lines, "new", later) == 1
        assert await learned(w, lines, "app-1", later) == 2, "which is the next that nobody uses"
        assert await learned(w, lines, "app-0", later + CONFIRM_MS) == 0
        (length,) = await w.redis.call([("HLEN", LINES)])
        assert length == LINES_MAX + 1


@under_trio
async def test_lines_that_only_this_version_reads_are_taken_once_a_dispatcher_of_it_says_so(
    url: str,
) -> None:
    async with world(url) as w:
        await w.redis.call([("HSET", LINES, READ_FIELD, 1)])  # as earlier ones did
        apps = [f"app-{n}" for n in range(FORMER_MAX + 1)]
        before = [await learned(w, Lines(), app) for app in apps]
        assert before[:-1] == list(range(FORMER_MAX))
        assert before[-1] < FORMER_MAX
        assert await Lines().announce(w.redis) == FORMER_MAX
        assert await learned(w, Lines(), apps[-1]) == FORMER_MAX
        assert await Lines().announce(w.redis) == FORMER_MAX + 1


@under_trio
async def test_a_hundred_apps_have_a_line_each_and_fewer_where_there_are_many_shards(
    url: str,
) -> None:
    async with world(url) as w:
        await w.store.lines.announce(w.redis)
        apps = [f"app-{n}" for n in range(100)]
        for shards, most in ((16, 32), (8, 64), (1, 100)):
            lines = Lines(shards)
            assert len({await learned(w, lines, app) for app in apps}) == most


class Counting:
    """A Redis client that is unavailable on demand."""

    def __init__(self, w: DispatchWorld) -> None:
        self._redis = w.redis
        self.away = False
        self.calls = 0

    async def call(self, commands: list[Command]) -> list[RedisReply]:
        self.calls += 1
        if self.away:
            raise RedisUnavailable("Redis is unavailable.")
        return await self._redis.call(commands)


@under_trio
async def test_what_is_known_costs_no_call_and_stands_while_redis_is_away(url: str) -> None:
    async with world(url) as w:
        lines = Lines()
        redis: Any = Counting(w)
        await lines.announce(w.redis)
        for app in ("shop", "bank"):
            await lines.learn(redis, T0, [app])
        made = redis.calls
        redis.away = True
        await lines.learn(redis, T0 + CONFIRM_MS - 1, ["shop", "bank"])
        assert redis.calls == made
        await lines.learn(redis, T0 + CONFIRM_MS, ["bank", "new"])
        assert (lines.of("bank", T0), lines.of("new", T0)) == (1, 0)


@under_trio
async def test_what_was_enqueued_unknown_is_asked_for_afterwards(url: str) -> None:
    async with world(url) as w:
        lines = Lines()
        await lines.announce(w.redis)
        assert await learned(w, Lines(), "shop") == 0
        assert lines.of("bank", T0) == 0
        await lines.learn(w.redis, T0)
        assert lines.of("bank", T0) == 1


@under_trio
async def test_each_app_is_enqueued_in_its_line(url: str) -> None:
    async with world(url) as w:
        await w.store.lines.announce(w.redis)
        await w.admit(2, app="shop")
        await w.admit(3, app="bank")
        names = [keys_of(0).lane("viber", "marketing", line) for line in (0, 1)]
        assert await w.redis.call([("XLEN", name) for name in names]) == [2, 3]
