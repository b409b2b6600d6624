"""The client while all is well: replies, sessions, cancellation, limits; on uvloop and on trio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.redis.client import (
    CommandRefused,
    ErrorReply,
    Limits,
    OutcomeUnknown,
    RedisUnavailable,
)
from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.fake_redis import Proxy, listen_unix
from tests.worlds.loops import Loop


def test_a_call_is_answered_in_order_with_plain_values(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            assert await redis.call(
                [
                    ("SET", b"\x00\xff", "\u043f\u0440\u0438\u0432\u0435\u0442"),
                    ("GET", b"\x00\xff"),
                    ("GET", "absent"),
                    ("INCRBY", "n", 41),
                    ("RPUSH", "l", "a", 1),
                    ("LRANGE", "l", 0, -1),
                ]
            ) == [b"OK", "\u043f\u0440\u0438\u0432\u0435\u0442".encode(), None, 41, 2, [b"a", b"1"]]
            assert await redis.call([]) == []

    loop.run(main)


def test_many_callers_at_once_each_get_their_own_replies(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:

            async def caller(number: int) -> bool:
                size = number % 7 + 1
                sent = [("ECHO", f"{number}/{i}") for i in range(size)]
                replies = await redis.call(sent)
                return replies == [f"{number}/{i}".encode() for i in range(size)]

            answers = await loop.together(*(lambda n=n: caller(n) for n in range(300)))
            assert answers == [True] * 300

    loop.run(main)


def test_a_large_call_and_a_large_reply_pass(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        big = b"x" * (8 * 1024 * 1024)
        async with loop.open_client(redis_url) as redis:
            stored = await redis.call([("SET", "big", big), ("GET", "big")])
            assert stored == [b"OK", big]
            counted = await redis.call([("INCR", "n")] * 5000)
            assert counted == list(range(1, 5001))

    loop.run(main)


def test_a_refused_command_raises_and_names_it_and_the_others_are_done(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            with pytest.raises(CommandRefused, match="Redis refused INCR: ERR value") as caught:
                await redis.call([("SET", "word", "x"), ("INCR", "word"), ("SET", "other", 1)])
            assert (caught.value.code, caught.value.index) == ("ERR", 1)
            assert caught.value.replies[0] == caught.value.replies[2] == b"OK"
            assert isinstance(caught.value.replies[1], ErrorReply)
            assert await redis.call([("GET", "other")]) == [b"1"]

    loop.run(main)


def test_an_error_inside_exec_is_not_overlooked(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await redis.call([("SET", "word", "x")])
            with pytest.raises(CommandRefused, match="Redis refused EXEC: WRONGTYPE"):
                await redis.call([("MULTI",), ("SET", "a", 1), ("RPUSH", "word", 1), ("EXEC",)])

    loop.run(main)


def test_a_caller_s_mistake_harms_nobody_else(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            with pytest.raises(TypeError):
                await redis.call([("SET", "a", None)])  # type: ignore[list-item]
            assert await redis.call([("GET", "a")]) == [None]

    loop.run(main)


def test_a_watched_key_changed_by_another_session_makes_exec_nil(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            async with redis.session("a") as loser, redis.session("a") as winner:
                await loser.call([("WATCH", "k"), ("GET", "k")])
                await winner.call([("WATCH", "k"), ("GET", "k")])
                first = await winner.call([("MULTI",), ("SET", "k", "winner"), ("EXEC",)])
                second = await loser.call([("MULTI",), ("SET", "k", "loser"), ("EXEC",)])
            assert first[-1] == [b"OK"]
            assert second[-1] is None
            assert await redis.call([("GET", "k")]) == [b"winner"]

    loop.run(main)


def test_a_session_left_normally_is_reused_and_one_left_by_an_exception_is_not(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:

            async def visit(fault: Exception | None = None) -> Any:
                async with redis.session("a") as session:
                    identity = (await session.call([("CLIENT", "ID")]))[0]
                    if fault is not None:
                        await session.call([("WATCH", "k")])
                        raise fault
                return identity

            first = await visit()
            assert await visit() == first
            with pytest.raises(KeyError):
                await visit(KeyError())
            assert await visit() != first
            assert redis.statistics().sessions_in_use == 0

    loop.run(main)


def test_a_session_cancelled_in_the_middle_is_not_reused(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            async with redis.session("a") as session:
                first = (await session.call([("CLIENT", "ID")]))[0]

            async def wait_for_ever() -> None:
                async with redis.session("a") as session:
                    await session.call([("BLPOP", "nothing", 0)])

            async def blocked() -> None:
                while b"blocked_clients:1" not in (await redis.call([("INFO", "clients")]))[0]:
                    await loop.turn()

            await loop.cancelled_when(wait_for_ever, blocked)
            async with redis.session("a") as session:
                assert (await session.call([("CLIENT", "ID")]))[0] != first

    loop.run(main)


def test_sessions_are_bounded_and_waiting_for_one_is_too(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        limits = Limits(sessions_max=2, session_wait_s=0.05)
        async with loop.open_client(redis_url, limits) as redis:
            async with redis.session("a"), redis.session("a"):
                with pytest.raises(RedisUnavailable, match="All 2 session connections"):
                    async with redis.session("a"):
                        pytest.fail("a third session")
            async with redis.session("a") as session:
                assert await session.call([("PING",)]) == [b"PONG"]

    loop.run(main)


def test_more_callers_than_sessions_all_get_their_turn(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url, Limits(sessions_max=3)) as redis:

            async def once() -> Any:
                async with redis.session("a") as session:
                    return (await session.call([("INCR", "n")]))[0]

            assert sorted(await loop.together(*[once] * 30)) == list(range(1, 31))
            assert redis.statistics().sessions_idle <= 3

    loop.run(main)


def test_a_cancelled_call_s_reply_is_dropped_and_shifts_to_nobody(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}") as redis:
                await redis.call([("PING",)])
                proxy.hold()

                async def held() -> None:
                    await loop.in_thread(lambda: proxy.held.wait(10))

                await loop.cancelled_when(lambda: redis.call([("ECHO", "dropped")] * 3), held)
                assert redis.statistics().commands_in_flight == 3

                async def release() -> None:
                    proxy.release()

                replies = await loop.together(lambda: redis.call([("ECHO", "mine")]), release)
                assert replies[0] == [b"mine"]
                assert redis.statistics().reconnects == 0

    loop.run(main)


def test_what_exceeds_the_limits_waits_its_turn(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        limits = Limits(commands_in_flight_max=10, callers_waiting_max=3)
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", limits) as redis:
                await redis.call([("PING",)])
                proxy.hold()

                async def look() -> None:
                    await loop.in_thread(lambda: proxy.held.wait(10))
                    seen = redis.statistics()
                    assert (seen.commands_in_flight, seen.callers_waiting) == (8, 3)
                    with pytest.raises(RedisUnavailable, match="3 calls wait"):
                        await redis.call([("PING",)])
                    proxy.release()

                async def four() -> Any:
                    return await redis.call([("INCR", "n")] * 4)

                results = await loop.together(*[four] * 5, look)
                assert results.pop() is None
                # trio starts the callers in any order.
                assert sorted(results) == [[i + 1, i + 2, i + 3, i + 4] for i in range(0, 20, 4)]
                assert redis.statistics().callers_waiting == 0

    loop.run(main)


def test_waiting_for_room_ends_with_the_time_out_and_nothing_is_sent(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        limits = Limits(bytes_in_flight_max=60, timeout_s=1.0)
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", limits) as redis:
                await redis.call([("PING",)])
                proxy.hold()

                async def incr(key: str) -> Any:
                    return await redis.call([("INCRBY", key, 12345678)])

                async def second() -> Any:
                    while redis.statistics().commands_in_flight == 0:
                        await loop.turn()
                    return await incr("second")

                outcomes = await loop.together(lambda: incr("first"), second)
                assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, RedisUnavailable]
                proxy.release()
            async with loop.open_client(redis_url) as direct:
                assert await direct.call([("GET", "first"), ("GET", "second")]) == [
                    b"12345678",
                    None,
                ]

    loop.run(main)


def test_a_call_beyond_the_limits_is_a_programming_error(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        limits = Limits(commands_in_flight_max=10, bytes_in_flight_max=1000)
        async with loop.open_client(redis_url, limits) as redis:
            await redis.call([("PING",)])
            with pytest.raises(ValueError, match="split it"):
                await redis.call([("PING",)] * 11)
            with pytest.raises(ValueError, match="split it"):
                await redis.call([("ECHO", "x" * 1000)])

    loop.run(main)


def test_the_figures_add_up(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            before = redis.statistics()
            await redis.call([("PING",)])
            start = redis.statistics()
            await redis.call([("ECHO", "abc"), ("PING",)])
            end = redis.statistics()
            assert not before.connected
            assert start.connected
            assert end.round_trips - start.round_trips == 1
            assert end.commands - start.commands == 2
            assert end.bytes_sent - start.bytes_sent == len(
                b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n*1\r\n$4\r\nPING\r\n"
            )
            assert end.bytes_received - start.bytes_received == len(b"$3\r\nabc\r\n+PONG\r\n")
            assert (end.commands_in_flight, end.bytes_in_flight, end.reconnects) == (0, 0, 0)

    loop.run(main)


def test_closing_ends_calls_in_flight_and_refuses_later_ones(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            await redis.call([("PING",)])

            async def blocked() -> Any:
                return await redis.call([("BLPOP", "nothing", 0)])

            async def close() -> None:
                while redis.statistics().commands_in_flight == 0:
                    await loop.turn()
                # The bytes leave at the end of the turn in which the call was made.
                await loop.turn()
                await redis.aclose()

            outcome, _ = await loop.together(blocked, close)
            assert type(outcome) is OutcomeUnknown
            for use in (redis.call([("PING",)]), redis.session("a").__aenter__()):
                with pytest.raises(RedisUnavailable, match="closed"):
                    await use

    loop.run(main)


def test_what_the_block_raises_passes_unchanged(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        loop.run(main)
