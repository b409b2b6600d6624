"""Scripts by digest: loaded where unknown, run once each."""

from __future__ import annotations

import pytest

from gateway.redis.client import CommandRefused, RedisUnavailable
from gateway.redis.script import Script
from tests.worlds.loops import Loop

COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


def test_an_unknown_script_is_loaded_and_run_once(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await redis.call([("SCRIPT", "FLUSH")])
            assert await COUNT.call(redis, ["n"], [2]) == 2
            before = redis.statistics().round_trips
            assert await COUNT.call(redis, ["n"], [2]) == 4
            assert redis.statistics().round_trips == before + 1
            async with redis.session("a") as session:
                await session.call([("SCRIPT", "FLUSH")])
                assert await COUNT.call(session, ["n"], [1]) == 5

    loop.run(main)


def test_many_runs_each_take_effect_once_also_when_the_script_was_unknown(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await redis.call([("SCRIPT", "FLUSH")])
            runs = [([f"n{i % 3}"], [1]) for i in range(9)]
            assert await COUNT.call_many(redis, runs) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
            assert await COUNT.call_many(redis, runs[:3]) == [4, 4, 4]

    loop.run(main)


def test_a_script_s_own_fault_is_raised_and_nothing_is_run_again(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await COUNT.call(redis, ["n"], [1])
            await redis.call([("SET", "word", "x")])
            with pytest.raises(CommandRefused, match="Redis refused EVALSHA"):
                await COUNT.call_many(redis, [(["n"], [1]), (["word"], [1])])
            assert await redis.call([("GET", "n")]) == [b"2"]

    loop.run(main)


@pytest.mark.parametrize(
    ("setting", "code"), [("maxmemory", "OOM"), ("min-replicas-to-write", "NOREPLICAS")]
)
def test_a_redis_that_refuses_writes_is_away_also_for_a_script(
    loop: Loop, redis_url: str, setting: str, code: str
) -> None:
    """Redis 6 hides the reason in the script's error; a dispatcher must wait, not end."""

    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await COUNT.call(redis, ["n"], [1])
            (usual,) = await redis.call([("CONFIG", "GET", setting)])
            assert isinstance(usual, list)
            await redis.call([("CONFIG", "SET", setting, 1)])
            try:
                with pytest.raises(RedisUnavailable, match=f"cannot serve now: .*{code}"):
                    await COUNT.call(redis, ["n"], [1])
            finally:
                await redis.call([("CONFIG", "SET", setting, usual[1])])
            assert await COUNT.call(redis, ["n"], [1]) == 2

    loop.run(main)
