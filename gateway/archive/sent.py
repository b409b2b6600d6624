"""Archived messages: by the days they were accepted on, for whoever looks at all of them, or by id.

Each comes as it was last archived, without its addresses. Raises ArchiveFault.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from contextlib import suppress

from gateway.archive.archive import Archive
from gateway.archive.questions import by_day
from gateway.archive.tables import MESSAGES
from gateway.core.archive.manifest import EntryId, reached
from gateway.core.ids import moment_of
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.message import Message
from gateway.core.records.message_codec import unpack_message

_RECORDS = "SELECT id, arg_max(record, revision) FROM read_parquet($messages) GROUP BY id"
_DAY = datetime.timedelta(days=1)


def archived_messages(
    archive: Archive, first: datetime.date, last: datetime.date
) -> Iterator[list[Message]]:
    """Those accepted from one UTC day to another, in pages; a record that this version cannot read
    is left out."""
    questions = archive.questions()
    day = first
    while day <= last:
        files = questions.files_of("messages", [day.isoformat()])
        archive.make_sure(files)
        if files:
            for page in questions.rows(_RECORDS, {"messages": files}):
                yield [message for row in page if (message := _message(*row)) is not None]
        day += _DAY


def archived_through(archive: Archive) -> dict[int, EntryId]:
    """Up to which entry of each shard's list of closed messages they are archived."""
    return reached(archive.files(), [MESSAGES])


def records_of(archive: Archive, ids: Iterable[str]) -> dict[str, bytes]:
    """The records of those that are archived."""
    found = archive.questions().latest(by_day(id_ for id_ in ids if moment_of(id_) is not None))
    return {id_: kept.record for id_, kept in found.items()}


def _message(id_: str, record: bytes) -> Message | None:
    with suppress(NewerRecordError, UnreadableRecordError):
        return unpack_message(id_, record)
    return None
