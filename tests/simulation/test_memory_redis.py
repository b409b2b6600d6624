"""The Redis in memory answers as the real one does, whatever sequence of commands it is given."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.redis.allow_oom import SOURCE as ALLOW_OOM_SOURCE
from gateway.redis.allow_oom import allow_oom
from gateway.redis.asyncio_driver import open_client
from gateway.redis.errors import CommandRefused
from gateway.redis.script import Script
from gateway.store.archive.archived_index import RAISE_SCRIPT
from gateway.store.archive.closed import UNLINK_SCRIPT
from ratelimit.limiter import SCRIPTS
from tests.simulation.memory_redis import Connection, MemoryRedis

STRINGS = st.sampled_from(["a", "b"])
MEMBERS = st.sampled_from(["x", "y", "z"])
NUMBERS = st.integers(-3, 9)
IDS = st.integers(0, 6).map(lambda n: ("id", n))  # the n-th entry that was added
LANE = st.just("lane")
WHO = st.sampled_from(["c1", "c2"])
HOUR = 3_600_000


def command(*parts: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*(p if isinstance(p, st.SearchStrategy) else st.just(p) for p in parts))


SIMPLE = st.one_of(
    command("GET", STRINGS),
    command("MGET", STRINGS, STRINGS),
    command("MSET", STRINGS, MEMBERS, STRINGS, MEMBERS),
    command("SET", STRINGS, MEMBERS),
    command("SET", STRINGS, MEMBERS, "PX", HOUR),
    command("DEL", STRINGS, STRINGS),
    command("EXISTS", STRINGS),
    command("SETBIT", STRINGS, st.integers(0, 20), st.integers(0, 1)),
    command("BITCOUNT", STRINGS),
    command("HSET", "hash", MEMBERS, NUMBERS),
    command("HGET", "hash", MEMBERS),
    command("HMGET", "hash", MEMBERS, MEMBERS),
    command("HDEL", "hash", MEMBERS),
    command("HINCRBY", "hash", MEMBERS, NUMBERS),
    command("SADD", "set", MEMBERS, MEMBERS),
    command("SREM", "set", MEMBERS),
    command("SMEMBERS", "set"),
    command("ZADD", "zset", NUMBERS, MEMBERS),
    command("ZADD", "zset", st.sampled_from(["NX", "XX"]), NUMBERS, MEMBERS),
    command("ZREM", "zset", MEMBERS),
    command("ZCARD", "zset"),
    command("ZRANGEBYSCORE", "zset", "-inf", NUMBERS, "LIMIT", 0, 2),
    command("ZREVRANGEBYSCORE", "zset", "+inf", NUMBERS, "LIMIT", 0, 2),
    command("ZREMRANGEBYRANK", "zset", 0, st.sampled_from([-1, -2, -3, -9])),
    command("ZREMRANGEBYSCORE", "zset", "-inf", NUMBERS),
)
SCRIPTED = st.one_of(
    st.lists(SIMPLE, min_size=1, max_size=3).map(allow_oom),
    command("EVAL", RAISE_SCRIPT, 2, "hash", "never", MEMBERS, NUMBERS),
    command("EVAL", UNLINK_SCRIPT, 2, STRINGS, STRINGS, MEMBERS, MEMBERS),
)
STREAMS = st.one_of(
    command("XADD", LANE, "*", "m", MEMBERS),
    command("XADD", LANE, "*", "m", MEMBERS),
    command("XDEL", LANE, IDS),
    command("XACK", LANE, "g", IDS, IDS),
    command("XLEN", LANE),
    command("XRANGE", LANE, "-", "+", "COUNT", 1),
    command("XRANGE", LANE, IDS, "+"),
    command("XREAD", "COUNT", 1, "STREAMS", LANE, IDS),
    command("XGROUP", "CREATE", LANE, "g", "0", "MKSTREAM"),
    command("XGROUP", "DELCONSUMER", LANE, "g", WHO),
    command(
        "XREADGROUP", "GROUP", "g", WHO, "COUNT", 2, "STREAMS", LANE, st.sampled_from([">", "0"])
    ),
    command("XPENDING", LANE, "g", "-", "+", 5, WHO),
    command("XCLAIM", LANE, "g", WHO, 0, IDS, IDS),
    command("XINFO", "STREAM", LANE),
    command("XINFO", "CONSUMERS", LANE, "g"),
)
# What else a transaction of another connection does between WATCH and EXEC.
COMMANDS = st.one_of(
    SIMPLE,
    SCRIPTED,
    STREAMS,
    command("WATCH", st.sampled_from(["a", "hash", "zset", "lane"])),
    command("UNWATCH"),
    st.lists(SIMPLE | STREAMS, max_size=3).map(lambda body: ("transaction", *body)),
)


def resolved(given: tuple[Any, ...], ids: list[bytes]) -> tuple[Any, ...]:
    return tuple(
        (ids[part[1]] if part[1] < len(ids) else b"1-1") if isinstance(part, tuple) else part
        for part in given
    )


def comparable(name: str, words: tuple[Any, ...], reply: Any) -> Any:
    """Without times and without an order where there is none; of XINFO what the store reads."""
    if isinstance(reply, Exception):
        code = str(reply).split()[0]
        return code if code in ("NOGROUP", "BUSYGROUP") else "ERR"
    if name in ("HGETALL", "SMEMBERS") and isinstance(reply, list):
        return sorted(reply)
    if name == "XPENDING" and isinstance(reply, list):
        return [[id_, who, times] for id_, who, _, times in reply]
    if name == "XINFO" and isinstance(reply, list):
        if words[1] == "STREAM":
            pairs = dict(zip(reply[::2], reply[1::2], strict=True))
            return pairs[b"length"], pairs[b"last-generated-id"]
        return sorted(r[:4] for r in reply)
    if words[:2] == ("EVAL", ALLOW_OOM_SOURCE) and isinstance(reply, list):
        # 6.2 sorts what has no order when a script asks, 7.0 does not
        done = commands_of(words[4:])
        return [comparable(str(w[0]), w, r) for w, r in zip(done, reply, strict=True)]
    return reply


def commands_of(words: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The commands that `allow_oom` wrote behind one another."""
    commands = []
    while words:
        commands.append(words[1 : words[0] + 1])
        words = words[words[0] + 1 :]
    return commands


class Both:
    """The same commands to a real connection and to one in memory."""

    def __init__(self) -> None:
        self.memory = MemoryRedis(lambda: time.time_ns() // 1_000)
        self.ids: list[bytes] = []
        self.connections = (Connection(), Connection())

    async def ask(self, session: Any, place: int, words: tuple[Any, ...]) -> None:
        words = resolved(words, self.ids)
        ours = self.connections[place]
        try:
            (real,) = await session.call([words])
        except CommandRefused as error:
            real = error.replies[0] if error.replies else error
        if words[0] == "XADD":
            self.memory.forced_id = real
            self.ids.append(real)
        (mine,) = self.memory.run(ours, [words])
        name = words[0]
        assert comparable(name, words, mine) == comparable(name, words, real), words

    async def transact(self, session: Any, place: int, body: list[tuple[Any, ...]]) -> None:
        """No new stream entries in it: their ids would have to be known before."""
        kept = [resolved(words, self.ids) for words in body if words[0] != "XADD"]
        wire = [("MULTI",), *kept, ("EXEC",)]
        try:
            real = (await session.call(wire))[-1]
        except CommandRefused as error:
            real = error.replies[-1]
        mine = self.memory.run(self.connections[place], wire)[-1]
        if mine is None or real is None:  # a watched key has changed
            assert mine is real
            return
        for words, ours, theirs in zip(kept, mine, real, strict=True):
            assert comparable(words[0], words, ours) == comparable(words[0], words, theirs), words


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.integers(0, 1), COMMANDS), min_size=5, max_size=40))
def test_it_answers_as_the_real_one(
    redis_url: str, script: list[tuple[int, tuple[Any, ...]]]
) -> None:
    asyncio.run(answered_alike(redis_url, script))


async def answered_alike(redis_url: str, script: list[tuple[int, tuple[Any, ...]]]) -> None:
    async with open_client(redis_url) as redis:
        await redis.call([("FLUSHALL",)])
        both = Both()
        async with redis.session("a") as one, redis.session("a") as two:
            sessions = (one, two)
            for place, words in script:
                if words[0] == "transaction":
                    await both.transact(sessions[place], place, list(words[1:]))
                else:
                    await both.ask(sessions[place], place, words)
            for place in (0, 1):
                await both.ask(sessions[place], place, ("UNWATCH",))


def test_what_a_script_reads_of_a_set_has_no_order(redis_url: str) -> None:
    added, read = [("SADD", "set", m, "y") for m in "yxz"], allow_oom([("SMEMBERS", "set")] * 2)
    asyncio.run(answered_alike(redis_url, [(0, command) for command in (*added, read)]))


def test_what_is_over_is_gone_and_breaks_a_watch() -> None:
    now_us = [1_000_000]
    memory, watcher = MemoryRedis(lambda: now_us[0]), Connection()
    memory.run(Connection(), [("SET", "a", 1, "PX", 5)])
    assert memory.run(watcher, [("WATCH", "a"), ("GET", "a")]) == [b"OK", b"1"]
    now_us[0] += 5_000
    assert memory.run(watcher, [("MULTI",), ("GET", "a"), ("EXEC",)])[-1] is None
    assert memory.run(watcher, [("EXISTS", "a")]) == [0]


def test_the_limits_scripts_are_learned_and_obeyed() -> None:
    now_us = [1_000_000]
    memory, connection = MemoryRedis(lambda: now_us[0]), Connection()
    take = Script(SCRIPTS["take"])
    asked = take.command(["limit"], [5, 2, 10**6, 100_000, 0])
    (refused,) = memory.run(connection, [asked])
    assert refused.code == "NOSCRIPT"
    whole = ("EVAL", SCRIPTS["take"], *asked[2:])
    assert memory.run(connection, [whole]) == [[2, 0, 3_000_000]]
    assert memory.run(connection, [asked]) == [[0, 1_900_000, 0]]


def test_an_unknown_command_is_not_answered() -> None:
    with pytest.raises(AttributeError):
        MemoryRedis(lambda: 0).run(Connection(), [("KEYS", "*")])
