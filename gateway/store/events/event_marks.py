"""An app's stream of status changes, cut to the newest so many changes.

An entry holds what one commit changed, one change or hundreds, so the length of a stream says
little. Each commit adds its number to a count; now and then the count is noted together with the
newest entry at that moment, as a mark. What lies before a mark that has `changes_max` changes
behind it is dropped. So a stream keeps `changes_max` changes and, beside what comes between two
looks, at most a twentieth (1 / MARKS_MAX) more. Several processes may look: marks that one of them
overwrites only make the steps coarser.

A stream whose newest change is older than anything that is kept of a message goes as a whole, count
and marks with it: its app is gone, or sends nothing more. Raises RedisUnavailable.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, whole
from gateway.store import randomness
from gateway.store.keys import Keys
from gateway.store.transaction import CommitCounts, commit

MARKS_MAX = 20

EventMark = tuple[int, str]  # changes so far, and the newest entry then

_decode = msgspec.msgpack.Decoder(list[EventMark]).decode
_encode = msgspec.msgpack.Encoder().encode


def marked(
    marks: list[EventMark], count: int, newest: str, changes_max: int
) -> tuple[list[EventMark], str | None]:
    """The marks as they are to be kept, and the entry before which all goes, or None. Pure."""
    kept = list(marks)
    if not kept or count - kept[-1][0] >= max(changes_max // MARKS_MAX, 1):
        kept.append((count, newest))
    over = [mark for mark in kept if count - mark[0] >= changes_max]
    if not over:
        return kept, None
    return kept[len(over) - 1 :], over[-1][1]


async def cut_events(redis: RedisClient, keys: Keys, changes_max: int, oldest_ms: int = 0) -> None:
    """Looks at every app's stream of a shard. What is no app's name, or no count, is left; what has
    no change since `oldest_ms` is dropped."""
    (found,) = await redis.call([("HKEYS", keys.changed)])
    names = [app.decode(errors="replace") for app in as_list(found)]
    apps = [app for app, said in zip(names, as_list(found), strict=True) if app.encode() == said]
    if not apps:
        return
    newest: list[Command] = [("XREVRANGE", keys.events(app), "+", "-", "COUNT", 1) for app in apps]
    replies = await redis.call(
        [
            ("MULTI",),
            ("HMGET", keys.changed, *apps),
            ("HMGET", keys.marks, *apps),
            *newest,
            ("EXEC",),
        ]
    )
    answers = replies[-1]
    assert isinstance(answers, list)
    counts, marks, *latest = answers
    commands: list[Command] = []
    for app, count, packed, entries in zip(apps, counts, marks, latest, strict=True):
        changes = whole(count)
        if not entries or changes is None:
            continue
        if _moment_of(entries) < oldest_ms:
            await _forget(redis, keys, app, oldest_ms)
            continue
        before = [] if packed is None else _read(packed)
        after, first = marked(before, changes, entries[0][0].decode(), changes_max)
        if after != before:
            commands.append(("HSET", keys.marks, app, _encode(after)))
        if first is not None:
            commands.append(("XTRIM", keys.events(app), "MINID", first))
    if commands:
        await redis.call(commands)


async def _forget(redis: RedisClient, keys: Keys, app: str, oldest_ms: int) -> None:
    """An app's stream goes, unless something happens to it just now."""
    token, stream = keys.token(randomness.token()), keys.events(app)

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, entries = await session.call(
            [("WATCH", token, stream), ("XREVRANGE", stream, "+", "-", "COUNT", 1)]
        )
        if _moment_of(as_list(entries)) >= oldest_ms:
            return [], None
        return [
            ("UNLINK", stream),
            *(("HDEL", each, app) for each in (keys.changed, keys.marks)),
        ], None

    await commit(redis, token, attempt, CommitCounts())


def _moment_of(entries: list[Any]) -> int:
    """When the first of some entries was written; 0: there is none."""
    return int(entries[0][0].partition(b"-")[0]) if entries else 0


def _read(packed: bytes) -> list[EventMark]:
    """Marks that cannot be read are as none: the next look begins anew, and cuts a little later."""
    try:
        return _decode(packed)
    except msgspec.DecodeError:
        return []
