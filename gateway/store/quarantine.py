"""What cannot be read or decided is set aside, so that it costs itself alone.

One hash a shard: what was met (a key; for a stream or set also the entry or member) with why, when,
and its bytes; of a record that stays under its key, nothing more: a text or an address in it ends
with that. Whatever led to it (a timer, a lane entry, a place among the unmatched receipts) ends
in the same transaction, so that it is not met again; a record itself stays under its key. One that
is met again keeps its first line. Beyond ENTRIES_MAX a shard nothing more is kept, only logged:
what led to it stays, and is met again a minute later or by the next process, so that nothing is
lost that is not listed. Whoever repairs the first ones finds the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog
from msgspec import field

from gateway.core.records.codec import UnreadableRecordError
from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of, shard_in

ENTRIES_MAX = 500  # a shard
LATER_MS = 60_000  # what had no place is met again after so long
BYTES_MAX = 8_192  # of one thing: the rest of a longer one is cut off
REASON_MAX = 300  # characters

_log = structlog.get_logger("store")


class Note(msgspec.Struct, frozen=True):
    """Why and when something was set aside, and its bytes; of a record under its key none."""

    reason: str = field(name="r")
    at_ms: int = field(name="t")
    raw: bytes = field(name="b")


class SetAside(msgspec.Struct, frozen=True):
    """One thing in quarantine."""

    what: str
    reason: str
    at_ms: int
    raw: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Note).decode


def reason_of(error: BaseException) -> str:
    """A fault as it is shown."""
    return f"{type(error).__name__}: {error}"[:REASON_MAX]


async def set_aside(
    redis: RedisClient,
    shard: int,
    found: Mapping[str, bytes],
    why: BaseException | str,
    now_ms: int,
    ends: Sequence[Command] = (),
    later: Sequence[Command] | None = None,
) -> bool:
    """Keeps `found` (what, and its bytes), and in the same transaction does what `ends` says. Where
    there is no place for all of it, it does what `later` says instead, and returns False; None: by
    `ends` nothing is lost. All of it lies in `shard`. May be repeated. Raises RedisUnavailable."""
    key = keys_of(shard).quarantine
    held, *there = await redis.call([("HLEN", key), *(("HEXISTS", key, what) for what in found)])
    assert isinstance(held, int)
    new = [each for each, known in zip(found.items(), there, strict=True) if not known]
    place = max(ENTRIES_MAX - held, 0)
    fits = len(new) <= place
    rest = ends if fits or later is None else later
    reason = why[:REASON_MAX] if isinstance(why, str) else reason_of(why)
    notes: list[Command] = [
        ("HSETNX", key, what, _encode(Note(reason, now_ms, raw[:BYTES_MAX])))
        for what, raw in new[:place]
    ]
    if notes or rest:
        await redis.call([("MULTI",), *notes, *rest, ("EXEC",)])
    for what in found:
        _log.error(
            "set aside" if fits else "cannot be set aside, there is too much",
            what=_without_people(what),
            reason=reason,
            exc_info=why if isinstance(why, BaseException) else None,
        )
    return fits


async def set_aside_record(redis: RedisClient, error: Exception, now_ms: int) -> None:
    """Lists a record that was read in vain, by its key; any other fault is only logged."""
    if isinstance(error, UnreadableRecordError) and error.key:
        await set_aside(redis, shard_in(error.key), {error.key: b""}, error, now_ms)
    else:
        _log.error("cannot be decided", reason=reason_of(error), exc_info=error)


async def count(redis: RedisClient, shards: int) -> int:
    """How many things are set aside in all shards there ever were. Raises RedisUnavailable."""
    every = await shards_ever(redis, shards)
    replies = await redis.call([("HLEN", keys_of(shard).quarantine) for shard in every])
    return sum(reply for reply in replies if isinstance(reply, int))


async def drop(redis: RedisClient, shards: int, unwanted: Callable[[SetAside], bool]) -> None:
    """Forgets what is unwanted of all that was set aside. Raises RedisUnavailable."""
    for shard in await shards_ever(redis, shards):
        key = keys_of(shard).quarantine
        (reply,) = await redis.call([("HGETALL", key)])
        if names := [name for name, note in pairs(as_list(reply)) if unwanted(_read(name, note))]:
            await redis.call([("HDEL", key, *names)])


async def listed(redis: RedisClient, shards: int) -> list[SetAside]:
    """Everything that is set aside, by shard and name. Raises RedisUnavailable."""
    every = await shards_ever(redis, shards)
    replies = await redis.call([("HGETALL", keys_of(shard).quarantine) for shard in every])
    found = []
    for reply in replies:
        found += [_read(name, note) for name, note in sorted(pairs(as_list(reply)))]
    return found


def _without_people(what: str) -> str:
    """As it is logged: keys that name a person or its address are cut off at their kind."""
    kind = what[what.find("}") + 1 :].partition(":")[0]
    return what[: what.find("}") + 1] + kind if kind in ("p", "e", "u", "c", "i") else what


def _read(name: bytes, value: bytes) -> SetAside:
    what = name.decode(errors="replace")
    try:
        note = _decode(value)
    except msgspec.DecodeError:
        return SetAside(what, "This line of the quarantine cannot be read itself.", 0, value)
    return SetAside(what, note.reason, note.at_ms, note.raw)
