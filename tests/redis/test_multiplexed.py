"""The sans-IO core: whatever the pieces and whoever left, replies go to their own calls."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis.connection import Connection, Counters, pack
from gateway.redis.errors import (
    CommandRefused,
    ErrorReply,
    OutcomeUnknown,
    RedisUnavailable,
    judge,
)


class FakeFuture:
    def __init__(self) -> None:
        self.result: Any = None
        self.left = False

    def done(self) -> bool:
        return self.left

    def set_result(self, result: Any, /) -> None:
        assert self.result is None
        assert not self.left
        self.result = result

    def __await__(self) -> Generator[Any, None, Any]:
        raise NotImplementedError


class FakeTransport:
    def __init__(self, unsent: int = 0) -> None:
        self.sent = b""
        self.deadlines: list[float] = []
        self.closed = 0
        self.unsent = unsent

    def write(self, data: bytes, /) -> None:
        self.sent += data

    def watch(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def close(self) -> int:
        self.closed += 1
        return self.unsent


def connection_on(transport: FakeTransport, timeout_s: float = 5.0) -> Connection:
    connection = Connection("here", timeout_s, Counters())
    connection.transport = transport
    return connection


def submit(connection: Connection, count: int = 1, now: float = 0.0) -> FakeFuture:
    commands = [("PING",)] * count
    future = FakeFuture()
    connection.submit(commands, pack(commands), future, now)
    return future


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def encode(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(encode, value))


@given(
    calls=st.lists(
        st.tuples(st.lists(VALUES, min_size=1, max_size=5), st.booleans()), min_size=1, max_size=8
    ),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=10),
)
def test_replies_in_any_pieces_go_to_their_calls_and_those_of_the_gone_to_nobody(
    calls: list[tuple[list[Any], bool]], cuts: list[int]
) -> None:
    connection = connection_on(FakeTransport())
    futures = [submit(connection, len(replies)) for replies, _ in calls]
    for future, (_, left) in zip(futures, calls, strict=True):
        future.left = left
    stream = b"".join(encode(value) for replies, _ in calls for value in replies)
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        connection.feed(stream[position : position + size])
        position += size
        turn += 1
    for future, (replies, left) in zip(futures, calls, strict=True):
        assert future.result == (None if left else replies)
    assert connection.idle
    assert (connection.commands_in_flight, connection.bytes_in_flight) == (0, 0)


def test_an_error_spoils_only_its_own_call() -> None:
    connection = connection_on(FakeTransport())
    before, bad, after = submit(connection), submit(connection, 2), submit(connection)
    connection.feed(b"+a\r\n*2\r\n:1\r\n-ERR in")
    connection.feed(b"side\r\n+b\r\n+c\r\n")
    assert before.result == [b"a"]
    assert isinstance(bad.result, CommandRefused)
    assert (bad.result.message, bad.result.replies[1]) == ("ERR inside", b"b")
    assert isinstance(bad.result.replies[0][1], ErrorReply)
    assert after.result == [b"c"]


def test_a_lost_connection_tells_sent_from_unsent() -> None:
    connection = connection_on(FakeTransport(unsent=2))
    futures = [submit(connection) for _ in range(4)]
    connection.feed(b"+a\r\n")
    connection.drop("the cable")
    connection.drop("again")
    assert [type(future.result) for future in futures] == [
        list,
        OutcomeUnknown,
        RedisUnavailable,
        RedisUnavailable,
    ]
    assert "the cable" in str(futures[1].result)


def test_one_timer_serves_all_calls_and_the_oldest_decides() -> None:
    transport = FakeTransport()
    connection = connection_on(transport, timeout_s=5.0)
    submit(connection, now=0.0)
    second = submit(connection, now=3.0)
    assert transport.deadlines == [5.0]
    connection.feed(b"+a\r\n")
    connection.expire(5.0)
    assert transport.deadlines == [5.0, 8.0]
    connection.expire(8.0)
    assert isinstance(second.result, OutcomeUnknown)
    assert transport.closed == 1


def test_an_idle_connection_needs_no_timer() -> None:
    transport = FakeTransport()
    connection = connection_on(transport)
    submit(connection, now=0.0)
    connection.feed(b"+a\r\n")
    connection.expire(5.0)
    assert transport.deadlines == [5.0]
    submit(connection, now=60.0)
    assert transport.deadlines == [5.0, 65.0]


def test_a_retired_connection_closes_when_its_last_call_is_answered() -> None:
    transport = FakeTransport()
    connection = connection_on(transport)
    gone: list[Connection] = []
    connection.on_gone = gone.append
    future = submit(connection)
    connection.retire()
    assert (connection.usable, transport.closed, gone) == (False, 0, [connection])
    connection.feed(b"+a\r\n")
    assert future.result == [b"a"]
    assert (transport.closed, gone) == (1, [connection])


def test_a_connection_that_breaks_the_protocol_is_closed() -> None:
    transport = FakeTransport()
    connection = connection_on(transport)
    future = submit(connection)
    connection.feed(b"HTTP/1.1 400\r\n")
    assert isinstance(future.result, OutcomeUnknown)
    assert transport.closed == 1


OOM = ErrorReply("OOM command not allowed when used memory > 'maxmemory'.")
ABORTED = ErrorReply("EXECABORT Transaction discarded because of previous errors.")
TRANSACTION = [("WATCH", "a"), (b"multi",), ("SET", "a", 1), ("SET", "b", 1), ("EXEC",)]


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([b"OK", b"OK", b"QUEUED", OOM, ABORTED], RedisUnavailable),
        ([OOM, OOM, OOM, OOM, OOM], RedisUnavailable),
        ([b"OK", b"OK", b"QUEUED", b"QUEUED", [b"OK", OOM]], OutcomeUnknown),
        ([b"OK", OOM, b"OK", OOM, OOM], OutcomeUnknown),
    ],
)
def test_a_transaction_refused_while_queued_is_known_not_to_be_done(
    replies: list[Any], kind: type[RedisUnavailable]
) -> None:
    assert type(judge(TRANSACTION, replies)) is kind


def test_only_commands_of_bytes_text_and_integers_are_packed() -> None:
    assert pack([("SET", b"a", 1)]) == b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    with pytest.raises(TypeError):
        pack([("SET", "a", object())])  # type: ignore[list-item]
