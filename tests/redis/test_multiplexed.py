"""The sans-IO core: whatever the pieces and whoever left, replies go to their own calls."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis.client import LIMITS_DEFAULT, Limits
from gateway.redis.connection import Exchange, Tally, pack
from gateway.redis.errors import (
    OutcomeUnknown,
    RedisError,
    StoreReplyError,
    StoreUnavailable,
    judge,
)
from gateway.redis.multiplexed import reconnect_delay_s


class FakeWaiter:
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


class FakeWire:
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


def exchange_on(wire: FakeWire, timeout_s: float = 5.0) -> Exchange:
    exchange = Exchange("here", timeout_s, Tally())
    exchange.wire = wire
    return exchange


def submit(exchange: Exchange, count: int = 1, now: float = 0.0) -> FakeWaiter:
    commands = [("PING",)] * count
    waiter = FakeWaiter()
    exchange.submit(commands, pack(commands), waiter, now)
    return waiter


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
    exchange = exchange_on(FakeWire())
    waiters = [submit(exchange, len(replies)) for replies, _ in calls]
    for waiter, (_, left) in zip(waiters, calls, strict=True):
        waiter.left = left
    stream = b"".join(encode(value) for replies, _ in calls for value in replies)
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        exchange.feed(stream[position : position + size])
        position += size
        turn += 1
    for waiter, (replies, left) in zip(waiters, calls, strict=True):
        assert waiter.result == (None if left else replies)
    assert exchange.idle
    assert (exchange.commands_in_flight, exchange.bytes_in_flight) == (0, 0)


def test_an_error_spoils_only_its_own_call() -> None:
    exchange = exchange_on(FakeWire())
    before, bad, after = submit(exchange), submit(exchange, 2), submit(exchange)
    exchange.feed(b"+a\r\n*2\r\n:1\r\n-ERR in")
    exchange.feed(b"side\r\n+b\r\n+c\r\n")
    assert before.result == [b"a"]
    assert isinstance(bad.result, StoreReplyError)
    assert (bad.result.message, bad.result.replies[1]) == ("ERR inside", b"b")
    assert isinstance(bad.result.replies[0][1], RedisError)
    assert after.result == [b"c"]


def test_a_lost_connection_tells_sent_from_unsent() -> None:
    exchange = exchange_on(FakeWire(unsent=2))
    waiters = [submit(exchange) for _ in range(4)]
    exchange.feed(b"+a\r\n")
    exchange.drop("the cable")
    exchange.drop("again")
    assert [type(waiter.result) for waiter in waiters] == [
        list,
        OutcomeUnknown,
        StoreUnavailable,
        StoreUnavailable,
    ]
    assert "the cable" in str(waiters[1].result)


def test_one_timer_serves_all_calls_and_the_oldest_decides() -> None:
    wire = FakeWire()
    exchange = exchange_on(wire, timeout_s=5.0)
    submit(exchange, now=0.0)
    second = submit(exchange, now=3.0)
    assert wire.deadlines == [5.0]
    exchange.feed(b"+a\r\n")
    exchange.expire(5.0)
    assert wire.deadlines == [5.0, 8.0]
    exchange.expire(8.0)
    assert isinstance(second.result, OutcomeUnknown)
    assert wire.closed == 1


def test_an_idle_connection_needs_no_timer() -> None:
    wire = FakeWire()
    exchange = exchange_on(wire)
    submit(exchange, now=0.0)
    exchange.feed(b"+a\r\n")
    exchange.expire(5.0)
    assert wire.deadlines == [5.0]
    submit(exchange, now=60.0)
    assert wire.deadlines == [5.0, 65.0]


def test_a_retired_connection_closes_when_its_last_call_is_answered() -> None:
    wire = FakeWire()
    exchange = exchange_on(wire)
    gone: list[Exchange] = []
    exchange.on_gone = gone.append
    waiter = submit(exchange)
    exchange.retire()
    assert (exchange.usable, wire.closed, gone) == (False, 0, [exchange])
    exchange.feed(b"+a\r\n")
    assert waiter.result == [b"a"]
    assert (wire.closed, gone) == (1, [exchange])


def test_a_connection_that_breaks_the_protocol_is_closed() -> None:
    wire = FakeWire()
    exchange = exchange_on(wire)
    waiter = submit(exchange)
    exchange.feed(b"HTTP/1.1 400\r\n")
    assert isinstance(waiter.result, OutcomeUnknown)
    assert wire.closed == 1


OOM = RedisError("OOM command not allowed when used memory > 'maxmemory'.")
ABORTED = RedisError("EXECABORT Transaction discarded because of previous errors.")
TRANSACTION = [("WATCH", "a"), (b"multi",), ("SET", "a", 1), ("SET", "b", 1), ("EXEC",)]


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([b"OK", b"OK", b"QUEUED", OOM, ABORTED], StoreUnavailable),
        ([OOM, OOM, OOM, OOM, OOM], StoreUnavailable),
        ([b"OK", b"OK", b"QUEUED", b"QUEUED", [b"OK", OOM]], OutcomeUnknown),
        ([b"OK", OOM, b"OK", OOM, OOM], OutcomeUnknown),
    ],
)
def test_a_transaction_refused_while_queued_is_known_not_to_be_done(
    replies: list[Any], kind: type[StoreUnavailable]
) -> None:
    assert type(judge(TRANSACTION, replies)) is kind


@given(
    attempt=st.integers(1, 10_000),
    fraction=st.floats(0, 1, exclude_max=True),
    limits=st.just(LIMITS_DEFAULT)
    | st.just(Limits(reconnect_delay_min_s=0.5, reconnect_delay_max_s=60.0)),
)
def test_reconnect_delays_grow_and_are_bounded(
    attempt: int, fraction: float, limits: Limits
) -> None:
    delay = reconnect_delay_s(attempt, limits, fraction)
    assert limits.reconnect_delay_min_s / 2 <= delay <= limits.reconnect_delay_max_s
    assert delay <= reconnect_delay_s(attempt + 1, limits, fraction)


def test_the_first_reconnect_is_immediate() -> None:
    assert reconnect_delay_s(0, LIMITS_DEFAULT, 0.9) == 0.0


def test_only_commands_of_bytes_text_and_integers_are_packed() -> None:
    assert pack([("SET", b"a", 1)]) == b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    with pytest.raises(TypeError):
        pack([("SET", "a", object())])  # type: ignore[list-item]
