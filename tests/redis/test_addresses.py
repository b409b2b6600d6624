"""Where and how the client connects: socket, TCP, TLS, log-in, database, Sentinel; and its URLs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.redis.address import AddressError, Endpoint, parse_address
from gateway.redis.client import Limits, RedisUnavailable
from gateway.redis.server.binary import find_binary
from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.fake_redis import TLS, Canned, Proxy, listen_tcp
from tests.worlds.loops import Loop
from tests.worlds.ports import free_port

pytestmark = pytest.mark.redis
IMPATIENT = Limits(down_wait_s=0.2, reconnect_delay_min_s=0.01, reconnect_delay_max_s=0.02)
PATIENT = Limits(down_wait_s=10.0, reconnect_delay_min_s=0.01, reconnect_delay_max_s=0.02)


def test_a_user_with_a_password_is_logged_in_to_the_database_named(
    loop: Loop, redis_server: EmbeddedRedis, redis_url: str
) -> None:
    async def main() -> None:
        async with loop.open_client(redis_url) as admin:
            await admin.call([("ACL", "SETUSER", "tester", "on", ">s:c/t", "~*", "+@all")])
            url = redis_url.replace("unix://", "unix://tester:s%3Ac%2Ft@") + "?db=3"
            async with loop.open_client(url) as client:
                assert await client.call([("ACL", "WHOAMI"), ("SET", "a", 3)]) == [b"tester", b"OK"]
                async with client.session("a") as session:
                    assert await session.call([("ACL", "WHOAMI"), ("GET", "a")]) == [
                        b"tester",
                        b"3",
                    ]
            assert await admin.call([("GET", "a"), ("SELECT", 3), ("GET", "a"), ("SELECT", 0)]) == [
                None,
                b"OK",
                b"3",
                b"OK",
            ]

    loop.run(main)


def test_a_wrong_password_is_told_and_not_shown(loop: Loop, redis_url: str) -> None:
    async def main() -> None:
        url = redis_url.replace("unix://", "unix://nobody:hidden-word@")
        async with loop.open_client(url, IMPATIENT) as client:
            with pytest.raises(RedisUnavailable, match="WRONGPASS") as caught:
                await client.call([("PING",)])
            assert "hidden-word" not in str(caught.value)

    loop.run(main)


def test_tls_is_verified_and_used(loop: Loop, redis_server: EmbeddedRedis, redis_url: str) -> None:
    async def main() -> None:
        listener = listen_tcp()
        port = listener.getsockname()[1]
        with Proxy(listener, redis_server.socket_path, tls=True):
            trusted = f"rediss://localhost:{port}?ssl_ca_certs={TLS / 'localhost-cert.pem'}"
            async with loop.open_client(trusted, PATIENT) as client:
                big = b"x" * 500_000
                assert await client.call([("SET", "a", big), ("GET", "a")]) == [b"OK", big]
                replies = await loop.together(*[lambda: client.call([("INCR", "n")])] * 20)
                assert sorted(reply[0] for reply in replies) == list(range(1, 21))
            async with loop.open_client(f"rediss://localhost:{port}", IMPATIENT) as client:
                with pytest.raises(
                    RedisUnavailable, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"
                ):
                    await client.call([("PING",)])

    loop.run(main)


@pytest.fixture(scope="module")
def sentinel_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The TCP ports of a real master and of a real sentinel that watches it as `orders`."""
    directory = tmp_path_factory.mktemp("sentinel")
    binary, _ = find_binary()
    master, sentinel = free_port(), free_port()
    (directory / "master.conf").write_text(f'port {master}\nsave ""\nrequirepass word\n')
    (directory / "sentinel.conf").write_text(
        f"port {sentinel}\nsentinel monitor orders 127.0.0.1 {master} 1\n"
        "sentinel auth-pass orders word\n"
    )
    processes = [
        subprocess.Popen([binary, *arguments], cwd=directory, stdout=subprocess.DEVNULL)
        for arguments in (["master.conf"], ["sentinel.conf", "--sentinel"])
    ]
    for port, password in ((master, "word"), (sentinel, None)):
        with redis.Redis(port=port, password=password, retry=patient_retry()) as client:
            client.ping()
    yield master, sentinel
    for process in processes:
        process.kill()
        process.wait()


def patient_retry() -> redis.retry.Retry:
    return redis.retry.Retry(redis.backoff.ConstantBackoff(0.01), 1000)


def test_sentinels_are_asked_in_turn_for_the_master(
    loop: Loop, sentinel_world: tuple[int, int]
) -> None:
    master, sentinel = sentinel_world

    async def main() -> None:
        dead = free_port()
        url = f"redis+sentinel://:word@127.0.0.1:{dead},127.0.0.1:{sentinel}/orders/2"
        async with loop.open_client(url, PATIENT) as client:
            await client.call([("SET", "a", "by sentinel")])
        async with loop.open_client(f"redis://:word@127.0.0.1:{master}/2") as client:
            assert await client.call([("GETDEL", "a")]) == [b"by sentinel"]

    loop.run(main)


def test_a_service_no_sentinel_knows_is_told(loop: Loop, sentinel_world: tuple[int, int]) -> None:
    async def main() -> None:
        url = f"redis+sentinel://127.0.0.1:{sentinel_world[1]}/absent"
        async with loop.open_client(url, IMPATIENT) as client:
            with pytest.raises(RedisUnavailable, match="does not know that service"):
                await client.call([("PING",)])

    loop.run(main)


def master_answer(port: int) -> bytes:
    return f"*2\r\n$9\r\n127.0.0.1\r\n${len(str(port))}\r\n{port}\r\n".encode()


def test_after_a_failover_the_new_master_is_found_and_an_old_one_is_not_believed(
    loop: Loop,
) -> None:
    role_master = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
    role_replica = b"*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"

    async def main() -> None:
        listeners = [listen_tcp() for _ in range(3)]
        ports = [listener.getsockname()[1] for listener in listeners]
        old = Canned(listeners[0], {"ROLE": role_master, "GET": b"+old\r\n"})
        new = Canned(listeners[1], {"ROLE": role_replica, "GET": b"+new\r\n"})
        sentinel = Canned(listeners[2], {"SENTINEL": master_answer(ports[0])})
        url = f"redis+sentinel://127.0.0.1:{ports[2]}/orders"
        with old, new, sentinel:
            async with loop.open_client(url, PATIENT) as client:
                assert await client.call([("GET", "a")]) == [b"old"]
                # The old master steps down, the sentinel names the new one a moment too early.
                old.answers |= {"ROLE": role_replica, "GET": b"-READONLY stepped down\r\n"}
                sentinel.answers["SENTINEL"] = master_answer(ports[1])
                with pytest.raises(RedisUnavailable, match="READONLY"):
                    await client.call([("GET", "a")])

                async def promote() -> None:
                    while new.connections < 2:
                        await loop.turn()
                    new.answers["ROLE"] = role_master

                outcomes = await loop.together(lambda: client.call([("GET", "a")]), promote)
                assert outcomes[0] == [b"new"]
                assert old.connections == 1

    loop.run(main)


@pytest.mark.parametrize(
    ("url", "label", "db"),
    [
        ("redis://", "localhost:6379", 0),
        ("redis://u:p%40ss@h.example:7000/5", "h.example:7000", 5),
        ("redis://[::1]:7000", "[::1]:7000", 0),
        ("rediss://h", "h:6379", 0),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock", 2),
        ("redis+sentinel://a,b:1/svc/4", "a:26379, b:1 (sentinels of svc)", 4),
        ("rediss+sentinel://:p@a/svc?sentinel_password=q", "a:26379 (sentinels of svc)", 0),
        ("redis+cluster://u:p@a,b:7001/", "a:6379, b:7001 (cluster)", 0),
        ("rediss+cluster://a", "a:6379 (cluster)", 0),
    ],
)
def test_urls_say_where(url: str, label: str, db: int) -> None:
    address = parse_address(url)
    assert (address.label, address.db) == (label, db)
    assert address.tls is url.startswith("rediss")


def test_log_ins_are_decoded_and_never_printed() -> None:
    address = parse_address("redis+sentinel://us%3Aer:p%40ss@h/svc?sentinel_password=guard")
    assert (address.username, address.password) == ("us:er", "p@ss")
    assert address.sentinel_password == "guard"
    assert address.endpoints == (Endpoint(host="h", port=26379),)
    assert "p@ss" not in f"{address!r} {address}"
    assert "guard" not in f"{address!r} {address}"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "no scheme"),
        ("http://h", "'http'"),
        ("redis://h:port", "port"),
        ("redis://h:70000", "port"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://word@h", "user without a password"),
        ("redis://h?timeout=1", "unknown option 'timeout'"),
        ("rediss://h?ssl_cert_reqs=none", "unknown option 'ssl_cert_reqs'"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("redis+sentinel://h", "a service"),
        ("redis+sentinel:///svc", "needs sentinels"),
        ("redis+sentinel://a,,b/svc", "empty host"),
        ("redis+cluster://", "some nodes"),
        ("redis+cluster://a,,b", "empty host"),
        ("redis+cluster://a/1", "only one"),
        ("redis+cluster://a?ssl_ca_certs=f", "unknown option 'ssl_ca_certs'"),
    ],
)
def test_a_faulty_url_is_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(url)


def test_a_faulty_url_is_refused_on_opening_with_unreadable_tls_files_too(loop: Loop) -> None:
    async def main(url: str) -> None:
        async with loop.open_client(url):
            pytest.fail("opened")

    for url in ("http://h", "rediss://h?ssl_ca_certs=/absent.pem"):
        with pytest.raises(AddressError):
            loop.run(lambda url=url: main(url))  # type: ignore[misc]


def test_the_socket_of_a_path_with_odd_characters_is_reached(loop: Loop, short_dir: Path) -> None:
    async def main() -> None:
        with EmbeddedRedis(short_dir / 'a "b" \\c') as server:
            async with loop.open_client(server.url) as client:
                assert await client.call([("PING",)]) == [b"PONG"]

    loop.run(main)
