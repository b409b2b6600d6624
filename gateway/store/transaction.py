"""The guarded commit: WATCH and read, decide, then MULTI … EXEC, on one shard.

When a record changed meanwhile nothing is applied and the decision is made again from what is there
now. When the connection broke during EXEC nobody knows whether it was applied: every transaction
therefore sets a token of its own and watches it, so the next try asks for the token first, and an
old EXEC that arrives late at the server cannot be applied a second time. A process that stood
still for longer than a token stands (a stopped process, a machine that slept) cannot ask any more,
and does not try again: a message that was accepted would be accepted anew, and sent twice.

In a cluster a slot can be on its way to another node: then nothing was applied, and the decision is
made again a little later, MOVES_MAX times. The token travels with its slot.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from gateway.redis.client import MOVES_MAX, Command, RedisClient, RedisReply, Session
from gateway.redis.errors import OutcomeUnknown, RedisUnavailable

TOKEN_MS = 60_000
ASKED_S = TOKEN_MS / 1000 - 5  # for so long after its EXEC a token can be asked for
# Each means that another commit went through, so this is far beyond any real contention.
CONFLICTS_MAX = 50
UNKNOWN_MAX = 3

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

T = TypeVar("T")


class ConflictError(Exception):
    """A watched record changed before EXEC: nothing was applied."""


class CommitCounts(msgspec.Struct):
    """For /metrics: how commits went. `unjoined`: requests whose identities were not joined,
    because they would have been too many for one person."""

    commits: int = 0
    conflicts: int = 0
    unknown: int = 0
    items: int = 0
    unjoined: int = 0
    newer: int = 0  # records of a newer Kaskad that were met and left alone


MakeCommands = Callable[[Session], Awaitable[tuple[list[Command], T]]]


def passing_s() -> float:
    """A clock that nobody sets, and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


async def commit_once(
    redis: RedisClient, token: str, attempt: MakeCommands[T], *, unknown_s: float | None
) -> T | None:
    """One try. `attempt` reads (with WATCH) and returns the writes and its result. `unknown_s`: by
    `passing_s`, when a try began of which nobody knows whether it was applied.

    Returns the result, or None when such a try turns out to have been applied. Raises
    ConflictError, OutcomeUnknown (the writes may be applied) or RedisUnavailable (they are not).
    """
    async with redis.session(token) as session:
        if unknown_s is not None:
            replies = await session.call([("WATCH", token), ("GET", token)])
            if replies[1] is not None:
                await session.call([("UNWATCH",)])
                return None
            if passing_s() - unknown_s >= ASKED_S:
                raise OutcomeUnknown("This process stood still too long to learn what was applied.")
        writes, result = await attempt(session)
        if not writes:
            await session.call([("UNWATCH",)])
            return result
        replies = await session.call(
            [("MULTI",), *writes, ("SET", token, 1, "PX", TOKEN_MS), ("EXEC",)]
        )
        if replies[-1] is None:
            raise ConflictError
        return result


async def commit(
    redis: RedisClient, token: str, attempt: MakeCommands[T], counts: CommitCounts
) -> T:
    """Tries until the decision is committed.

    `attempt` is called anew for each try, must WATCH `token` beside the records, and decides from
    what it reads then. The result of the try that was applied is returned, also when only the token
    can tell that it was. Raises RedisUnavailable (nothing was applied), OutcomeUnknown (Redis
    stayed away: nobody knows), or ConflictError after CONFLICTS_MAX, for the caller to split.
    """
    decided: list[T] = []  # the latest try that came as far as EXEC

    async def remembering(session: Session) -> tuple[list[Command], T]:
        try:
            writes, result = await attempt(session)
        except OutcomeUnknown as error:
            # Only reads were on the way.
            raise RedisUnavailable(str(error), again=error.again) from error
        decided[:] = [result]
        return writes, result

    unknown = conflicts = moves = 0
    unknown_s: float | None = None
    while True:
        began_s = passing_s()
        try:
            result = await commit_once(redis, token, remembering, unknown_s=unknown_s)
        except ConflictError:
            conflicts += 1
            counts.conflicts += 1
            if conflicts >= CONFLICTS_MAX:
                raise
        except OutcomeUnknown:
            counts.unknown += 1
            unknown += 1
            unknown_s = began_s if unknown_s is None else unknown_s
            if unknown >= UNKNOWN_MAX:
                raise
        except RedisUnavailable as error:
            if error.again and moves < MOVES_MAX:
                moves += 1
                await redis.wait_for_move(moves)
                continue
            if unknown:
                raise OutcomeUnknown(str(error)) from error
            raise
        else:
            counts.commits += 1
            return decided[0] if result is None else result


def values_in(reply: RedisReply) -> list[bytes | None]:
    """A reply that is a list of values, such as MGET's."""
    assert isinstance(reply, list)
    return reply
