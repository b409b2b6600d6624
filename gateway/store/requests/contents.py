"""What campaigns say: kept once for a campaign, and once a shard for the messages that say it.

`{kaskad}said` has what is declared, by campaign: whoever accepts messages of one reads it once. A
message names the version that it says, by its hash; its transaction puts the version into the
message's shard, where it stands for as long as any message there may need it, by its expiry.
Whoever sends reads a version once. So a message of any age says what it was accepted with, a
version that nobody needs goes by itself, and what is read stands in a bounded cache of the process.

Raises RedisUnavailable, and msgspec.DecodeError or NewerRecordError for what cannot be read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from gateway.core.campaigns.campaign_words import (
    Draft,
    Version,
    drafts_of,
    hash_of,
    unpack_words,
    version_of,
)
from gateway.core.money.days import DAY_MS
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.message import Message
from gateway.core.records.request import MessageRequest
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.store.keys import Keys, keys_of
from gateway.store.shared_keys import CAMPAIGN_WORDS

CACHE_BYTES_MAX = 32 * 1024 * 1024
TIMES = 4  # what is read takes in memory, of its bytes in Redis
SPARE_MS = 2 * DAY_MS  # how much longer than it can be needed a version stands
_UNTIL_BYTES = 8  # of a version in Redis: until when it stands

Drafts = tuple[Draft, ...]
KeptT = TypeVar("KeptT")


class Cache(Generic[KeptT]):
    """By hash, what was used last; one thing alone may exceed the bound."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[bytes, tuple[KeptT, int]] = OrderedDict()
        self.bytes = 0

    def get(self, hash_: bytes) -> KeptT | None:
        found = self._kept.get(hash_)
        if found is None:
            return None
        self._kept.move_to_end(hash_)
        return found[0]

    def put(self, hash_: bytes, value: KeptT, size: int) -> None:
        if hash_ in self._kept:
            self.bytes -= self._kept.pop(hash_)[1]
        self._kept[hash_] = value, size
        self.bytes += size
        while self.bytes > self._bytes_max and len(self._kept) > 1:
            _, (_, gone) = self._kept.popitem(last=False)
            self.bytes -= gone


class Contents:
    """What one process knows of them."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._drafts: Cache[Drafts] = Cache(bytes_max)
        self._versions: Cache[Version] = Cache(bytes_max)

    def drafts(self, words: bytes) -> Drafts | None:
        """What a campaign says that names these words; None: it was not read yet."""
        return self._drafts.get(words)

    async def read_drafts(self, redis: RedisClient, campaign: str, words: bytes) -> bool:
        """Reads what the campaign says; False where that is something else by now."""
        (packed,) = await redis.call([("HGET", CAMPAIGN_WORDS, campaign)])
        if not isinstance(packed, bytes) or hash_of(packed) != words:
            return False
        drafts = drafts_of(unpack_words(packed))
        size = sum(len(d.version.record) for d in drafts if d.version is not None)
        self._drafts.put(words, drafts, (len(packed) + size) * TIMES)
        return True

    async def read_versions(
        self, redis: RedisClient, shard: int, ids: Iterable[bytes]
    ) -> dict[bytes, Version]:
        """The versions of messages of a shard, without a round trip where all are known: they are
        the caller's, whatever the cache keeps of them. One that is gone, or that this process
        cannot read, is left out."""
        found = {id_: self._versions.get(id_) for id_ in sorted(set(ids)) if id_}
        versions = {id_: version for id_, version in found.items() if version is not None}
        unknown = [id_ for id_ in found if id_ not in versions]
        if not unknown:
            return versions
        replies = await redis.call([("GET", keys_of(shard).version(id_)) for id_ in unknown])
        for id_, reply in zip(unknown, replies, strict=True):
            if isinstance(reply, bytes):
                record = reply[_UNTIL_BYTES:]
                with suppress(msgspec.DecodeError, NewerRecordError):
                    versions[id_] = version_of(record)
                    self._versions.put(id_, versions[id_], len(record) * TIMES)
        return versions


class ShardVersions:
    """The versions of one shard in one try at accepting a batch: what stands there is watched, so
    that no other batch makes it stand shorter than this one needs."""

    def __init__(self, keys: Keys, requests: Iterable[MessageRequest], now_ms: int) -> None:
        self._now_ms = now_ms
        said = (each.version for request in requests for each in request.sayings)
        self._versions = {version.id: version for version in said if version is not None}
        self.keys = {keys.version(id_): id_ for id_ in self._versions}
        self._until_ms: dict[bytes, int] = {}  # of those that stand
        self._needed_ms: dict[bytes, int] = {}

    def reads(self) -> list[Command]:
        return [("GETRANGE", key, 0, _UNTIL_BYTES - 1) for key in self.keys]

    def take(self, replies: Sequence[RedisReply]) -> None:
        """The replies to `reads`."""
        for id_, until in zip(self._versions, replies, strict=True):
            assert isinstance(until, bytes)
            self._until_ms[id_] = int.from_bytes(until)

    def need(self, message: Message) -> None:
        """The message may need its version for as long as a step of it can be sent."""
        if message.content_of:
            step_ms = max(step.wait_ms + step.grace_ms for step in message.steps)
            needed_ms = message.expires_ms + step_ms + SPARE_MS
            known_ms = self._needed_ms.get(message.content_of, 0)
            self._needed_ms[message.content_of] = max(needed_ms, known_ms)

    def writes(self) -> list[Command]:
        """Puts in place what does not stand for long enough: for some days at a time."""
        commands: list[Command] = []
        for key, id_ in self.keys.items():
            needed_ms = self._needed_ms.get(id_, 0)
            if needed_ms > self._until_ms[id_]:
                until_ms = (needed_ms // DAY_MS + 1) * DAY_MS
                value = until_ms.to_bytes(_UNTIL_BYTES) + self._versions[id_].record
                commands.append(("SET", key, value, "PX", until_ms - self._now_ms))
        return commands
