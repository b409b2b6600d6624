"""What a worker asks of the archive: by a process of its own, which alone loads the libraries.

It is started with the first question, ends when nobody asks for a while, and is started again; one
question is under way at a time. What cannot be answered is a 503: the message or line may be there.
So it is where no archive is configured any more and there is one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from functools import partial

import structlog

from gateway.core.archive.hashing import mark_of, short_hashes_of
from gateway.core.archive.manifest import EntryId
from gateway.core.ids import moment_of
from gateway.core.records.message import Message
from gateway.finance.archive_calls import (
    LENGTH_BYTES,
    READER_MODULE,
    AcceptedAsked,
    AcceptedFound,
    ArchiveAnswer,
    ArchiveQuestion,
    Asked,
    LinesAsked,
    LinesFound,
    MessagesAsked,
    MessagesFound,
    NotRead,
    ThroughAsked,
    ThroughFound,
    decode_found,
    framed,
)
from gateway.finance.lines.lines import LinesPage, LinesWanted
from gateway.ingress.http.problems import Refusal, refuse
from gateway.log_throttle import LogThrottle
from gateway.redis.client import RedisClient
from gateway.settings.file import Settings
from gateway.store.archive import archiving
from gateway.store.archive.closed import bring_back
from gateway.store.messages import reads
from gateway.store.messages.message_search import ArchivedMessage
from gateway.store.messages.person_index import IndexPlace
from gateway.store.store import Store

ANSWER_WAIT_S = 20.0
WAITING_MAX = 50  # questions; one more is refused
LOG_EVERY_MS = 60_000  # what could not be answered has a line, and how much that was
TRIES = 2  # the process may have ended just when it was asked

_NOTHING: dict[type[ArchiveQuestion], ArchiveAnswer] = {
    MessagesAsked: MessagesFound({}),
    ThroughAsked: ThroughFound((0, 0)),
    AcceptedAsked: AcceptedFound([], None),
}

_log = structlog.get_logger("ingress")


class ArchiveReader:
    """An `ArchivedLines` of `gateway.finance.lines.lines`, and an `ArchivedIndex` of
    `gateway.store.messages.message_search`; every call raises Refusal (503) and RedisUnavailable.
    `url` may be empty, `key` is that of the archive's hashes."""

    def __init__(self, redis: RedisClient, url: str, key: bytes) -> None:
        self._redis = redis
        self._url = url
        self._key = key
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._lines = LogThrottle(LOG_EVERY_MS)

    async def holds_any(self) -> bool:
        """Whether something may be archived."""
        if self._url:
            return True
        if (await archiving.begun(self._redis)).rows:
            raise self._unread("archive.url is empty, and there is an archive.")
        return False

    async def records(self, message_ids: Iterable[str]) -> dict[str, bytes]:
        """The latest records of messages; what is not archived is absent."""
        ids = [id_ for id_ in message_ids if moment_of(id_) is not None]
        if not ids:
            return {}
        found = await self._ask(MessagesAsked(ids))
        assert isinstance(found, MessagesFound)
        return found.records

    async def through(self, shard: int) -> EntryId:
        found = await self._ask(ThroughAsked(shard))
        assert isinstance(found, ThroughFound)
        return found.through

    async def lines(self, wanted: LinesWanted) -> LinesPage:
        found = await self._ask(LinesAsked(wanted))
        assert isinstance(found, LinesFound)
        return found.page

    async def accepted(
        self, identities: Iterable[str], campaign: str | None, before: IndexPlace, count: int
    ) -> tuple[list[ArchivedMessage], IndexPlace | None]:
        hashes = short_hashes_of(self._key, identities)
        asked = AcceptedAsked(before, count, hashes, mark_of(self._key), campaign)
        found = await self._ask(asked)
        assert isinstance(found, AcceptedFound)
        return found.items, found.next

    async def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def _ask(self, question: ArchiveQuestion) -> ArchiveAnswer:
        if not await self.holds_any():
            return _NOTHING[type(question)]
        if self._waiting >= WAITING_MAX:
            raise refuse("unavailable", "Too many ask the archive at once: ask again later.")
        self._waiting += 1
        try:
            async with self._turn:
                begun = await archiving.begun(self._redis)
                found = await self._answer(Asked(question, begun))
        finally:
            self._waiting -= 1
        if isinstance(found, NotRead):
            raise self._unread(found.reason)
        return found

    async def _answer(self, asked: Asked) -> ArchiveAnswer:
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(ANSWER_WAIT_S):
                    return await self._exchange(asked)
            except TimeoutError:
                await self.close()
                break
            except (OSError, asyncio.IncompleteReadError):
                await self.close()
            except BaseException:
                # Its answer would be read as that to the next question.
                await self.close()
                raise
        raise self._unread("Its reader ended, or did not answer in time.")

    def _unread(self, reason: str) -> Refusal:
        """A question could not be answered. While the archive is away each is one: few are told."""
        if n := self._lines.note("unread", int(time.monotonic() * 1000)):
            _log.error(
                "the archive cannot be read",
                reason=reason,
                url=self._url,
                n=n,
                advice="see that archive.url is there and may be read; `kaskad archive verify`",
            )
        return _unreadable()

    async def _exchange(self, asked: Asked) -> ArchiveAnswer:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", READER_MODULE, self._url),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(framed(asked))
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
        return decode_found(await process.stdout.readexactly(length))


def archive_reader(settings: Settings, redis: RedisClient) -> ArchiveReader:
    archive = settings.archive
    return ArchiveReader(redis, archive.url, settings.secrets.get(archive.hash_key_env).encode())


async def message_anywhere(store: Store, archived: ArchiveReader, id_: str) -> Message | None:
    """A message from Redis or, where it is no longer there, from the archive. Raises Refusal (503)
    and RedisUnavailable."""
    message = await reads.message(store, id_)
    if message is None:
        records = await archived.records([id_])
        return reads.readable(store, id_, records.get(id_))
    return message


class ArchivedMessages:
    """Messages for what comes for them late: those that are in the archive alone are put back into
    Redis first, where they change as ever, and leave it again. Raises RedisUnavailable and Refusal
    (503)."""

    def __init__(self, store: Store, reader: ArchiveReader) -> None:
        self._store = store
        self._reader = reader

    async def find(self, message_ids: Iterable[str]) -> dict[str, Message | Exception]:
        """As `reads.messages_anywhere` does."""
        ids = list(message_ids)
        found = await reads.messages_anywhere(self._store, ids)
        gone = [id_ for id_ in ids if id_ not in found]
        if back := await bring_back(self._store, partial(self._reader.records, gone)):
            found |= await reads.messages_anywhere(self._store, back)
        return found

    async def bring_back(self, message_ids: Iterable[str]) -> None:
        """For whoever reads them afterwards."""
        await self.find(message_ids)


def _unreadable() -> Refusal:
    return refuse("unavailable", "The archive cannot be read now: ask again later.")
