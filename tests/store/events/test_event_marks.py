"""An app's stream of changes keeps so many changes, however many an entry has."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis.client import RedisClient
from gateway.redis.trio_driver import open_client
from gateway.store.events.event_marks import MARKS_MAX, EventMark, cut_events, marked
from gateway.store.keys import keys_of
from gateway.store.messages.reads import events_from

KEYS = keys_of(0)
KEEP = 100


def in_redis(url: str, work: Callable[[RedisClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_client(url) as redis:
            await work(redis)

    trio.run(main)


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=200))
def test_what_is_kept_is_what_was_asked_and_a_step_more(entries: list[tuple[int, bool]]) -> None:
    """Each entry with its number of changes, and whether somebody looks after it."""
    stream: list[tuple[int, int]] = []  # place, changes
    marks: list[EventMark] = []
    count = 0
    for place, (changes, looked) in enumerate(entries):
        stream.append((place, changes))
        count += changes
        if not looked:
            continue
        marks, first = marked(marks, count, str(place), KEEP)
        if first is not None:
            stream = [entry for entry in stream if entry[0] >= int(first)]
        kept = sum(n for _, n in stream)
        assert kept >= min(count, KEEP)
        assert len(marks) <= MARKS_MAX + 2


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300))
def test_with_a_look_after_each_entry_the_bound_is_a_step_and_two_entries(
    entries: list[int],
) -> None:
    stream: list[tuple[int, int]] = []
    marks: list[EventMark] = []
    for place, changes in enumerate(entries):
        stream.append((place, changes))
        marks, first = marked(marks, sum(entries[: place + 1]), str(place), KEEP)
        if first is not None:
            stream = [entry for entry in stream if entry[0] >= int(first)]
        kept = sum(n for _, n in stream)
        assert kept < KEEP + KEEP // MARKS_MAX + 2 * max(entries)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_is_cut_to_its_newest_changes(redis_url: str, seed: int) -> None:
    chance = random.Random(seed)

    async def work(redis: RedisClient) -> None:
        sizes = [chance.choice((1, 1, 2, 30)) for _ in range(120)]
        for n, size in enumerate(sizes, 1):
            await redis.call(
                [
                    ("XADD", KEYS.events("shop"), f"{n}-0", "d", str(size)),
                    ("HINCRBY", KEYS.changed, "shop", size),
                ]
            )
            await cut_events(redis, KEYS, KEEP)
        (entries,) = await redis.call([("XRANGE", KEYS.events("shop"), "-", "+")])
        assert isinstance(entries, list)
        kept = [int(fields[1]) for _, fields in entries]
        assert kept == sizes[-len(kept) :]
        assert KEEP <= sum(kept) < KEEP + KEEP // MARKS_MAX + 2 * 30

    in_redis(redis_url, work)


def test_an_app_without_changes_and_a_shard_without_apps_are_left_alone(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        await cut_events(redis, KEYS, KEEP)
        await redis.call([("HINCRBY", KEYS.changed, "shop", 5)])  # its stream was deleted
        await cut_events(redis, KEYS, KEEP)
        assert await redis.call([("EXISTS", KEYS.marks)]) == [0]
        assert await events_from(redis, "shop", 0, "0-0") == []

    in_redis(redis_url, work)


def test_what_an_app_leaves_goes_once_nothing_of_its_messages_is_kept(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        for app, newest in (("gone", 70), ("shop", 80)):
            for entry in ("10-0", f"{newest}-0"):
                await redis.call(
                    [
                        ("XADD", KEYS.events(app), entry, "d", "1"),
                        ("HINCRBY", KEYS.changed, app, 1),
                    ]
                )
        await cut_events(redis, KEYS, KEEP, 70)
        assert await redis.call([("XLEN", KEYS.events("gone"))]) == [2]
        await cut_events(redis, KEYS, KEEP, 80)
        assert await redis.call([("EXISTS", KEYS.events("gone"))]) == [0]
        assert await redis.call([("HKEYS", key) for key in (KEYS.changed, KEYS.marks)]) == [
            [b"shop"],
            [b"shop"],
        ]
        assert await redis.call([("XLEN", KEYS.events("shop"))]) == [2]

    in_redis(redis_url, work)


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"\x03rubbish", b"\x91\x01"])
def test_marks_that_cannot_be_read_count_as_none(redis_url: str, damaged: bytes) -> None:
    async def work(redis: RedisClient) -> None:
        for n in range(1, 2 * KEEP + 2):
            await redis.call(
                [
                    ("XADD", KEYS.events("shop"), f"{n}-0", "d", "1"),
                    ("HINCRBY", KEYS.changed, "shop", 1),
                ]
            )
            if n == KEEP:
                await redis.call([("HSET", KEYS.marks, "shop", damaged)])
            if n >= KEEP:
                await cut_events(redis, KEYS, KEEP)
        assert await redis.call([("XLEN", KEYS.events("shop"))]) == [KEEP + 2]

    in_redis(redis_url, work)
