"""How scheduled reports stand, by their names, and who makes them. Raises RedisUnavailable."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, pairs
from gateway.store import leases, randomness
from gateway.store.shared_keys import REPORTER, SCHEDULED, installation_token
from gateway.store.transaction import CommitCounts, commit

LEASE_MS = 60_000
REASON_CHARS = 300


class ScheduleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """`through`: the last day that was made or given up, or the one before the first that was
    tried, as ISO 8601 has it; empty: none was.
    `made` is the period that was handed over last, at `made_ms`. After a failed try `tries` of the
    period after `through` failed, the last at `failed_ms` for a `reason`, and `again_ms` is when it
    is tried again."""

    through: str = ""
    made: str = ""
    made_ms: int = 0
    tries: int = 0
    failed_ms: int = 0
    again_ms: int = 0
    reason: str = ""

    @property
    def through_day(self) -> datetime.date | None:
        """`through` as a day; None: none was made."""
        return datetime.date.fromisoformat(self.through) if self.through else None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ScheduleState).decode


async def hold(redis: RedisClient, holder: str) -> bool:
    """Whether it is the holder who makes them."""
    return await leases.hold(redis, REPORTER, holder, LEASE_MS)


async def give_back(redis: RedisClient, holder: str) -> None:
    await leases.give_back(redis, REPORTER, holder)


async def states(redis: RedisClient) -> Mapping[str, ScheduleState]:
    """Of those that were tried once, also of those that are no longer configured."""
    (found,) = await redis.call([("HGETALL", SCHEDULED)])
    every = pairs(as_list(found))
    return {name.decode(errors="replace"): _read(state) for name, state in every}


async def note(redis: RedisClient, name: str, before: ScheduleState, after: ScheduleState) -> bool:
    """How a schedule stands after a try that began when it stood so. False where it stands
    otherwise by now, as another process made it meanwhile: then nothing is changed."""
    token = installation_token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], bool]:
        _, found = await session.call([("WATCH", token, SCHEDULED), ("HGET", SCHEDULED, name)])
        stands = _read(found) if isinstance(found, bytes) else ScheduleState()
        if stands != before:
            return [], False
        return [("HSET", SCHEDULED, name, _encode(after))], True

    return await commit(redis, token, attempt, CommitCounts())


def _read(state: bytes) -> ScheduleState:
    """What this version cannot read counts as one that was not tried yet."""
    try:
        return _decode(state)
    except msgspec.DecodeError:
        return ScheduleState()
