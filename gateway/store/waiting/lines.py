"""The lines of a lane: which app stands in which, so that apps take turns.

A lane of a shard is up to LINES_MAX streams, its lines. An app's messages stand in one of them, the
same in every lane, and a dispatcher takes one message of each line in turn. Line 0 is the stream
that was the whole lane before there were lines: the first app has it, and where there is one app
nothing else is read or written. Each look at a lane reads all its streams, so that many shards have
fewer lines each: 384 empty ones of three categories take Redis 77 µs, 96 take it 29 (2026-12-01).

`{kaskad}lines` says who has which line, and when that was last confirmed. A process asks for an app
when it first enqueues a message of it, and again each minute in which it does. A new app gets a
line of its own: the lowest that is free, then the one that was unused for longest, an hour at
least. Where all are in use (more apps than lines write within the hour) it shares one. Two
processes that disagree for a while share a line too early or too late; nothing is lost by it, since
every line is read whoever stands in it.

While no dispatcher has said that it reads lines, all messages go to line 0, and while none has said
how many, to the first FORMER_MAX, so that what ingress of this version writes is read by
dispatchers of an earlier one. The first start on an empty Redis says it, since no earlier one is at
work there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import msgspec

from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.replies import as_list, pairs, whole
from gateway.store.shared_keys import LINES

LINES_MAX = 128  # are read, whoever made them
STREAMS_MAX = 512  # of a lane in all shards together
FORMER_MAX = 32  # so many has every installation, and versions that do not say how many they read
CONFIRM_MS = 60_000
UNUSED_MS = 3_600_000  # a line may be another app's then
UNREAD_MS = 1_000  # how soon it is asked again whether somebody reads lines
READ_FIELD = b"read"  # how many lines a dispatcher reads


class Use(msgspec.Struct, frozen=True):
    """Who has a line, and when it last enqueued something, give or take CONFIRM_MS."""

    app: str
    at_ms: int


class _Place(msgspec.Struct, frozen=True):
    line: int
    until_ms: int


class Lines:
    """What one process knows of them. `count` is how many it reads, from 0 on; whoever reads lanes
    keeps it up to date. `most` is how many apps may have one of their own."""

    def __init__(self, shards: int = 1) -> None:
        self.count = 1
        self.most = max(FORMER_MAX, min(LINES_MAX, STREAMS_MAX // shards))
        self._places: dict[str, _Place] = {}
        self._wanted: set[str] = set()
        self._quiet_until_ms = 0  # nothing is asked before

    def of(self, app: str, now_ms: int) -> int:
        """The line of an app as far as it is known, else line 0, which is right for everybody."""
        place = self._places.get(app)
        if place is None or now_ms >= place.until_ms:
            self._wanted.add(app)
        return 0 if place is None else place.line

    def share_of(self, limit: int) -> int:
        """How much of something one app may have: half, where more than one sends."""
        return limit if self.count == 1 else -(-limit // 2)

    def known(self, app: str) -> int | None:
        """The line of an app, if it was learned."""
        place = self._places.get(app)
        return None if place is None else place.line

    async def learn(self, redis: RedisClient, now_ms: int, apps: Iterable[str] = ()) -> None:
        """Asks for the apps, and for those whose line was not known to `of`; without a round trip
        where all are known. What is known stands where Redis cannot be asked."""
        wanted, self._wanted = {*apps, *self._wanted}, set()
        for app in sorted(wanted):
            place = self._places.get(app)
            if now_ms < self._quiet_until_ms or (place is not None and now_ms < place.until_ms):
                continue
            try:
                line = await _find_line(redis, app, now_ms, self.most)
            except RedisUnavailable:
                self._quiet_until_ms = now_ms + CONFIRM_MS
            else:
                if line is None:
                    self._quiet_until_ms = now_ms + UNREAD_MS
                else:
                    self._places[app] = _Place(line, now_ms + CONFIRM_MS)

    async def in_use(self, redis: RedisClient) -> int:
        """How many lines somebody stands in or did. Raises RedisUnavailable."""
        return _count(await _read(redis))

    async def announce(self, redis: RedisClient) -> int:
        """A dispatcher reads lines: says how many, and returns how many are in use."""
        found = await _read(redis)
        if (whole(found.get(READ_FIELD, b"")) or 0) < LINES_MAX:
            await redis.call([("HSET", LINES, READ_FIELD, LINES_MAX)])
        return _count(found)


def choose(app: str, uses: Mapping[int, Use], now_ms: int, most: int = LINES_MAX) -> int:
    """The line in which an app is to stand, of so many. Pure."""
    for line, use in uses.items():
        if use.app == app:
            return line
    for line in range(most):
        if line not in uses:
            return line
    oldest = min(uses, key=lambda line: (uses[line].at_ms, line))
    if now_ms - uses[oldest].at_ms >= UNUSED_MS:
        return oldest
    return zlib.crc32(app.encode()) % most


async def _find_line(redis: RedisClient, app: str, now_ms: int, most: int) -> int | None:
    """The line of an app, taken where it had none; None while nobody reads lines."""
    note = f"{now_ms} {app}"
    for _ in range(LINES_MAX):
        found = await _read(redis)
        if READ_FIELD not in found:
            return None
        uses = _uses(found)
        are_read = max(whole(found[READ_FIELD]) or 0, FORMER_MAX)
        line = choose(app, uses, now_ms, min(most, are_read))
        use = uses.get(line)
        if use is None:
            (made,) = await redis.call([("HSETNX", LINES, line, note)])
            if not made:  # another app was there first
                continue
        elif use.app == app or now_ms - use.at_ms >= UNUSED_MS:
            await redis.call([("HSET", LINES, line, note)])
        return line
    return None


async def _read(redis: RedisClient) -> dict[bytes, bytes]:
    (found,) = await redis.call([("HGETALL", LINES)])
    return dict(pairs(as_list(found)))


def _uses(found: Mapping[bytes, bytes]) -> dict[int, Use]:
    """A line of which this version cannot read whose it is counts as one that was not used for
    long; what is no line of this version's is passed over."""
    uses = {}
    for field, note in found.items():
        line = whole(field)
        if line is not None and 0 <= line < LINES_MAX:
            at_ms, _, app = note.decode(errors="replace").partition(" ")
            uses[line] = Use(app, whole(at_ms.encode()) or 0)
    return uses


def _count(found: Mapping[bytes, bytes]) -> int:
    return max(_uses(found), default=0) + 1
