"""What the Redis client promises on any loop, with its limits and its metrics.

Code that awaits nothing but `RedisClient` and `Session` runs on asyncio and on trio alike.
`asyncio_driver.open_client` and `trio_driver.open_client` make one; what both share is in
`multiplexed`.

A client is for one Redis, or for all masters of a cluster (`cluster`). When the server cannot be
reached it reconnects by itself, for ever; callers meanwhile get `RedisUnavailable` after a short
wait.
Error replies raise, see `gateway.redis.errors`, with everything that was answered in
`CommandRefused.replies`. A nil EXEC is None in the list: a watched key changed.

Commands that block (XREADGROUP BLOCK) belong in a session, for less than `Limits.timeout_s`: on the
shared connection they would hold up everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from gateway.backoff import delay_s
from gateway.redis.connection import Command, RedisReply
from gateway.redis.errors import (
    CommandRefused,
    ErrorReply,
    Moved,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
)

__all__ = [
    "LIMITS_DEFAULT",
    "Command",
    "CommandRefused",
    "ErrorReply",
    "Limits",
    "Moved",
    "OutcomeUnknown",
    "RedisClient",
    "RedisError",
    "RedisReply",
    "RedisUnavailable",
    "Session",
    "Statistics",
]


class Limits(msgspec.Struct, frozen=True):
    """Every wait and queue of a client, in seconds, commands and bytes."""

    timeout_s: float = (
        5.0  # a call, from its first byte to its last reply; also a call's wait for room
    )
    down_wait_s: float = 1.0  # a call made while Redis cannot be reached
    connect_timeout_s: float = 3.0  # connecting, TLS and log-in of one connection
    sentinel_timeout_s: float = 1.0  # one sentinel's answer, or a node's about its cluster
    reconnect_delay_min_s: float = 0.05
    reconnect_delay_max_s: float = 2.0
    commands_in_flight_max: int = 20_000  # on the shared connection, and in any one call
    bytes_in_flight_max: int = 32 * 1024 * 1024  # likewise
    callers_waiting_max: int = 10_000  # for room or for Redis to come back
    sessions_max: int = 16
    session_wait_s: float = 5.0  # for one of the sessions to become free


LIMITS_DEFAULT = Limits()

# How often a call is tried again whose slot, or its master, is on the move: for 2.6 s in all, each
# wait twice the one before.
MOVES_MAX = 9
MOVE_DELAY_MIN_S = 0.02
MOVE_DELAY_MAX_S = 0.5


def move_delay_s(tries: int) -> float:
    """How long to wait before try number `tries`, from 1; the first follows what was just learnt,
    so it need not wait."""
    return delay_s(tries - 2, MOVE_DELAY_MIN_S, MOVE_DELAY_MAX_S) if tries > 1 else 0.0


class Statistics(msgspec.Struct, frozen=True):
    """A client's metrics at one moment; the first six only grow."""

    round_trips: int
    commands: int
    reconnects: int
    timeouts: int
    bytes_sent: int
    bytes_received: int
    connected: bool
    commands_in_flight: int
    bytes_in_flight: int
    callers_waiting: int
    sessions_in_use: int
    sessions_idle: int


def add_up(parts: Sequence[Statistics], *, connected: bool) -> Statistics:
    """The metrics of several nodes as those of one client."""
    sums = {
        field: sum(getattr(part, field) for part in parts) for field in Statistics.__struct_fields__
    }
    return Statistics(**(sums | {"connected": connected}))


class Session(Protocol):
    """An exclusive connection, for WATCH … EXEC."""

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        """As `RedisClient.call`, on this connection."""


class RedisClient(Protocol):
    """A Redis client, for any number of tasks of one loop."""

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        """One pipelined round trip on the shared connection; one reply per command, in order.

        Never WATCH, MULTI without its EXEC in the same call, or a blocking command here. A
        cancelled call may or may not have been done. Raises RedisUnavailable, OutcomeUnknown,
        CommandRefused; ValueError for a call beyond the limits.

        Over a cluster it is one round trip to each node concerned, at the same time, and each
        command is done once or not at all; OutcomeUnknown when some are done and some are not.
        """

    def session(self, key: str, /) -> AbstractAsyncContextManager[Session]:
        """An exclusive connection from a bounded pool, returned on leaving.

        It is to the node that serves `key`, and only keys of that slot may be used on it.
        Leave it clean: end with EXEC or UNWATCH. Left by an exception or cancellation, or with an
        answer outstanding, the connection is closed and never reused. Entering raises
        RedisUnavailable.
        """

    async def wait_for_move(self, tries: int) -> None:
        """Waits before try number `tries`, from 1 to MOVES_MAX, of what a session refused with
        `RedisUnavailable.again`."""

    def statistics(self) -> Statistics: ...

    async def aclose(self) -> None:
        """Closes all; calls in flight get OutcomeUnknown, later ones RedisUnavailable."""
