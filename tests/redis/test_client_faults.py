"""The client when Redis misbehaves, dies, is away or answers with errors; on uvloop and on trio."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.redis.client import (
    CommandRefused,
    Limits,
    Moved,
    OutcomeUnknown,
    RedisClient,
    RedisUnavailable,
)
from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.fake_redis import Canned, Proxy, listen_tcp, listen_unix
from tests.worlds.loops import Loop

IMPATIENT = Limits(down_wait_s=0.05, reconnect_delay_min_s=0.01, reconnect_delay_max_s=0.02)
PATIENT = Limits(down_wait_s=10.0, reconnect_delay_min_s=0.01, reconnect_delay_max_s=0.02)

# Cut before it, inside a length, inside a value, before its last byte.
REPLY = b"$3\r\nabc\r\n:1\r\n+PONG\r\n"


@pytest.mark.parametrize("reply_bytes", [0, 2, 6, len(REPLY) - 1])
def test_a_connection_cut_inside_the_answer_leaves_the_outcome_unknown_and_is_made_anew(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path, reply_bytes: int
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", PATIENT) as redis:
                await redis.call([("PING",)])
                proxy.cut_after(reply_bytes)
                with pytest.raises(OutcomeUnknown, match="lost before the answer"):
                    await redis.call([("ECHO", "abc"), ("INCR", "n"), ("PING",)])
                # It had been done, as it happens.
                assert await redis.call([("GET", "n")]) == [b"1"]
                assert redis.statistics().reconnects == 1

    loop.run(main)


def test_every_call_in_flight_learns_of_a_cut(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", PATIENT) as redis:
                await redis.call([("PING",)])
                proxy.hold()

                async def cut() -> None:
                    await loop.in_thread(lambda: proxy.held.wait(10))
                    while redis.statistics().commands_in_flight < 5:
                        await loop.turn()
                    await loop.turn()
                    proxy.drop_all()

                async def incr() -> Any:
                    return await redis.call([("INCR", "n")])

                outcomes = await loop.together(*[incr] * 5, cut)
                assert [type(outcome) for outcome in outcomes[:5]] == [OutcomeUnknown] * 5
                proxy.release()
                assert await redis.call([("PING",)]) == [b"PONG"]

    loop.run(main)


def test_a_late_answer_breaks_the_connection_and_reaches_nobody(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        limits = Limits(timeout_s=1.0, down_wait_s=10.0)
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", limits) as redis:
                await redis.call([("PING",)])
                proxy.hold()
                with pytest.raises(OutcomeUnknown, match="did not answer within 1 s"):
                    await redis.call([("ECHO", "late")])
                proxy.release()
                assert await redis.call([("ECHO", "next")]) == [b"next"]
                assert (redis.statistics().timeouts, redis.statistics().reconnects) == (1, 1)

    loop.run(main)


def test_kill_9_of_the_server_in_the_middle_of_a_call(loop: Loop, short_dir: Path) -> None:
    async def main() -> None:
        server = EmbeddedRedis(short_dir)
        with server:
            async with loop.open_client(server.url, PATIENT) as redis:
                await redis.call([("SET", "kept", "yes")])

                async def blocked() -> Any:
                    async with redis.session("a") as session:
                        return await session.call([("BLPOP", "nothing", 0)])

                async def kill() -> None:
                    while b"blocked_clients:1" not in (await redis.call([("INFO", "clients")]))[0]:
                        await loop.turn()
                    assert server.pid is not None
                    os.kill(server.pid, signal.SIGKILL)

                outcomes = await loop.together(blocked, kill)
                assert type(outcomes[0]) is OutcomeUnknown
                await loop.in_thread(server.ensure_running)
                assert await answered(redis, ("GET", "kept")) == b"yes"
                async with redis.session("a") as session:
                    assert await session.call([("PING",)]) == [b"PONG"]
                assert server.restarts == 1

    loop.run(main)


async def answered(redis: RedisClient, command: tuple[str, ...]) -> Any:
    """Asks again for as long as the client has not noticed yet that the server is another one."""
    while True:
        try:
            return (await redis.call([command]))[0]
        except RedisUnavailable:
            continue


def test_while_redis_is_away_calls_fail_soon_and_say_where(loop: Loop, short_dir: Path) -> None:
    async def main() -> None:
        path = short_dir / "nobody.sock"
        async with loop.open_client(f"unix://:secret@{path}", IMPATIENT) as redis:
            for use in (redis.call([("PING",)]), redis.session("a").__aenter__()):
                with pytest.raises(RedisUnavailable) as caught:
                    await use
                assert type(caught.value) is RedisUnavailable
                assert str(path) in str(caught.value)
                assert "No such file" in str(caught.value)
                assert "secret" not in str(caught.value)

    loop.run(main)


def test_a_call_that_waits_is_done_when_redis_comes_back(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "later.sock"
        async with loop.open_client(f"unix://{path}", PATIENT) as redis:

            async def in_session() -> Any:
                async with redis.session("a") as session:
                    return await session.call([("PING",)])

            async def start() -> Proxy:
                while redis.statistics().callers_waiting == 0:
                    await loop.turn()
                return Proxy(listen_unix(path), redis_server.socket_path)

            *outcomes, proxy = await loop.together(
                lambda: redis.call([("PING",)]), in_session, start
            )
            assert outcomes == [[b"PONG"], [b"PONG"]]
        proxy.close()

    loop.run(main)


def test_a_caller_that_gave_up_waiting_is_not_served_later(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "later.sock"
        async with loop.open_client(f"unix://{path}", IMPATIENT) as redis:
            with pytest.raises(RedisUnavailable):
                await redis.call([("INCR", "given-up")])
            assert redis.statistics().callers_waiting == 0
            with Proxy(listen_unix(path), redis_server.socket_path):
                assert await answered(redis, ("GET", "given-up")) is None

    loop.run(main)


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR max number of clients reached\r\n"]
)
def test_a_server_that_is_not_redis_or_is_full_is_away(loop: Loop, greeting: bytes) -> None:
    async def main() -> None:
        listener = listen_tcp()
        port = listener.getsockname()[1]
        with Canned(listener, {}) as server:
            server.greeting = greeting
            async with loop.open_client(f"redis://127.0.0.1:{port}", IMPATIENT) as redis:
                with pytest.raises(RedisUnavailable, match="is away"):
                    await redis.call([("PING",)])

    loop.run(main)


def canned(answers: dict[str, bytes]) -> tuple[Canned, str]:
    listener = listen_tcp()
    return Canned(listener, answers), f"redis://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Redis is loading the dataset in memory",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN RedisClient with MASTER is down",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
    ],
)
def test_a_server_that_cannot_serve_now_is_unavailable(loop: Loop, error: str) -> None:
    async def main() -> None:
        server, url = canned({"SET": f"-{error}\r\n".encode(), "GET": b"+x\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                with pytest.raises(RedisUnavailable, match=error.split()[0]) as caught:
                    await redis.call([("SET", "a", 1)])
                assert type(caught.value) is RedisUnavailable
                # One of two was done, so of the call as a whole nobody can say.
                with pytest.raises(OutcomeUnknown):
                    await redis.call([("GET", "a"), ("SET", "a", 1)])

    loop.run(main)


def test_a_server_that_still_loads_is_waited_for(loop: Loop) -> None:
    async def main() -> None:
        server, url = canned({"GET": b"+x\r\n", "PING": b"-LOADING wait\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                # The first attempt is refused; then the server has loaded.
                async def loaded() -> None:
                    while server.connections < 2:
                        await loop.turn()
                    server.answers["PING"] = b"+PONG\r\n"

                outcomes = await loop.together(lambda: redis.call([("GET", "a")]), loaded)
                assert outcomes[0] == [b"x"]

    loop.run(main)


def test_a_replica_makes_the_client_connect_again(loop: Loop) -> None:
    async def main() -> None:
        server, url = canned({"SET": b"-READONLY You can't write\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                async with redis.session("a") as session:
                    await session.call([("PING",)])
                assert redis.statistics().sessions_idle == 1
                with pytest.raises(RedisUnavailable, match="READONLY"):
                    await redis.call([("SET", "a", 1)])
                server.answers["SET"] = b"+OK\r\n"
                assert await redis.call([("SET", "a", 1)]) == [b"OK"]
                assert (redis.statistics().reconnects, redis.statistics().sessions_idle) == (1, 0)

    loop.run(main)


def test_a_replica_seen_in_a_session_makes_the_whole_client_connect_again(loop: Loop) -> None:
    async def main() -> None:
        server, url = canned({"SET": b"-READONLY You can't write\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                with pytest.raises(RedisUnavailable, match="READONLY"):
                    async with redis.session("a") as session:
                        await session.call([("SET", "a", 1)])
                assert await redis.call([("PING",)]) == [b"PONG"]
                assert redis.statistics().reconnects == 1

    loop.run(main)


def test_calls_in_flight_beside_a_readonly_reply_are_still_answered(loop: Loop) -> None:
    async def main() -> None:
        server, url = canned({"SET": b"-READONLY no\r\n", "GET": b"+x\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                await redis.call([("PING",)])
                outcomes = await loop.together(
                    lambda: redis.call([("SET", "a", 1)]),
                    lambda: redis.call([("GET", "a")]),
                    lambda: redis.call([("GET", "a")]),
                )
                assert type(outcomes[0]) is RedisUnavailable
                assert outcomes[1:] == [[b"x"], [b"x"]]

    loop.run(main)


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
def test_a_slot_of_another_node_is_named(loop: Loop, word: str) -> None:
    async def main() -> None:
        server, url = canned({"GET": f"-{word} 3999 10.0.0.7:6381\r\n".encode()})
        with server:
            async with loop.open_client(url) as redis:
                with pytest.raises(Moved, match=r"Slot 3999 is served by 10\.0\.0\.7:6381") as at:
                    await redis.call([("GET", "a")])
                assert (at.value.slot, at.value.host, at.value.port) == (3999, "10.0.0.7", 6381)
                assert at.value.asking is (word == "ASK")

    loop.run(main)


def test_an_aborted_transaction_names_the_command_that_was_refused(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as redis:
            with pytest.raises(CommandRefused) as caught:
                await redis.call([("MULTI",), ("SET", "a"), ("SET", "b", 1), ("EXEC",)])
            assert (caught.value.command, caught.value.index) == ("SET", 1)
            assert await redis.call([("GET", "b")]) == [None]

    loop.run(main)


def test_bytes_nobody_asked_for_break_the_connection(loop: Loop) -> None:
    async def main() -> None:
        server, url = canned({"GET": b"+x\r\n+surplus\r\n"})
        with server:
            async with loop.open_client(url, PATIENT) as redis:
                assert await redis.call([("GET", "a")]) == [b"x"]
                server.answers["GET"] = b"+y\r\n"
                assert await answered(redis, ("GET", "a")) == b"y"
                assert server.connections == 2

    loop.run(main)


def test_a_call_on_a_connection_cut_a_moment_ago_fails_and_the_next_is_served(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str, short_dir: Path
) -> None:
    async def main() -> None:
        path = short_dir / "proxy.sock"
        with Proxy(listen_unix(path), redis_server.socket_path) as proxy:
            async with loop.open_client(f"unix://{path}", PATIENT) as redis:
                await redis.call([("PING",)])
                # The client had no turn yet in which to see it.
                proxy.drop_all()
                with pytest.raises(RedisUnavailable, match="was lost"):
                    await redis.call([("INCR", "n")])
                assert await redis.call([("GET", "n")]) == [None]

    loop.run(main)


def test_closing_tells_callers_that_wait_for_redis(loop: Loop, short_dir: Path) -> None:
    async def main() -> None:
        async with loop.open_client(f"unix://{short_dir / 'nobody.sock'}", PATIENT) as redis:

            async def close() -> None:
                while redis.statistics().callers_waiting == 0:
                    await loop.turn()
                await redis.aclose()

            outcomes = await loop.together(lambda: redis.call([("PING",)]), close)
            assert type(outcomes[0]) is RedisUnavailable
            assert "closed" in str(outcomes[0])

    loop.run(main)


def test_a_call_larger_than_the_kernel_takes_at_once_keeps_its_place(
    loop: Loop, redis_url: str
) -> None:
    async def main() -> None:
        big = b"x" * 4_000_000
        async with loop.open_client(redis_url) as redis:
            await redis.call([("PING",)])
            outcomes = await loop.together(
                *(lambda n=n: redis.call([("ECHO", big), ("ECHO", n)]) for n in range(6))
            )
            assert outcomes == [[big, str(n).encode()] for n in range(6)]

    loop.run(main)


@pytest.mark.parametrize(("setting", "code"), [("maxmemory", "OOM"), ("min-replicas-to-write", "")])
def test_a_redis_that_becomes_full_before_exec_has_done_nothing_and_is_away(
    loop: Loop, redis_url: str, setting: str, code: str
) -> None:
    """The commands were queued, EXEC alone is refused and names the reason. Taken for a bug, it
    cost receipts: the provider was told that they were taken."""

    async def main() -> None:
        async with loop.open_client(redis_url) as redis, redis.session("a") as session:
            await session.call([("WATCH", "n"), ("MULTI",), ("SET", "n", 1)])
            (usual,) = await redis.call([("CONFIG", "GET", setting)])
            assert isinstance(usual, list)
            await redis.call([("CONFIG", "SET", setting, 1)])
            try:
                with pytest.raises(RedisUnavailable, match=f"cannot serve now: EXECABORT.*{code}"):
                    await session.call([("EXEC",)])
            finally:
                await redis.call([("CONFIG", "SET", setting, usual[1])])
            assert await redis.call([("GET", "n")]) == [None]

    loop.run(main)
