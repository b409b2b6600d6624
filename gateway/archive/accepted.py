"""The archived part of the index of messages: which were accepted before a place, by whom they went
to or by campaign, the newest first, each with its latest record.

One question reads whole days, of so many rows and no more, and says how far it came. Raises
ArchiveFault.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from gateway.archive.archive import Archive
from gateway.archive.questions import Questions, by_day
from gateway.archive.tables import HASHES, INDEX
from gateway.core.archive.manifest import ArchivedFile
from gateway.core.money.days import UTC_DAYS
from gateway.finance.archive_calls import AcceptedAsked, AcceptedFound
from gateway.store.messages.message_search import ArchivedMessage
from gateway.store.messages.person_index import IndexPlace

ROWS_MAX = 5_000_000  # once so many were read, no further day is begun: a second

_ACCEPTED = """
SELECT epoch_ms(accepted_at), sequence, shard, item, id FROM read_parquet($files)
WHERE accepted_at <= make_timestamptz(CAST($at_ms AS BIGINT) * 1000)
AND (epoch_ms(accepted_at), sequence, shard, item) < ($at_ms, $sequence, $shard, $item){filters}
ORDER BY ALL DESC LIMIT {count}
"""


def accepted_before(archive: Archive, asked: AcceptedAsked) -> AcceptedFound:
    """At most as many as are asked for."""
    if asked.hashes:
        archive.make_sure_of_key(asked.key)
    questions = archive.questions()
    every = {file.day for file in questions.files_of(INDEX)}
    days = sorted(day for day in every if _begin(day) < asked.before)
    found: list[tuple[IndexPlace, str]] = []
    looked_at, after = 0, None
    while days and len(found) < asked.count and looked_at < ROWS_MAX:
        day = days.pop()
        files = questions.files_of(INDEX, [day])
        found += _of_day(questions, files, asked, asked.count - len(found))
        looked_at += sum(file.rows for file in files)
        after = _begin(day)
    if len(found) == asked.count:
        after = found[-1][0]
    elif not days:
        after = None
    kept = questions.latest(by_day(id_ for _, id_ in found))
    items = [
        ArchivedMessage(*each, kept[each[1]].record if each[1] in kept else None) for each in found
    ]
    return AcceptedFound(items, after)


def _begin(day: str) -> IndexPlace:
    return IndexPlace(UTC_DAYS.begins_ms(datetime.date.fromisoformat(day)), 0, 0, 0)


def _of_day(
    questions: Questions, files: Sequence[ArchivedFile], asked: AcceptedAsked, count: int
) -> list[tuple[IndexPlace, str]]:
    wanted = {HASHES[kind]: hash_ for kind, hash_ in asked.hashes.items()}
    if asked.campaign is not None:
        wanted["campaign"] = asked.campaign
    filters = "".join(f" AND {column} = ${column}" for column in wanted)
    values: dict[str, Any] = {**wanted, **asked.before._asdict()}
    query = _ACCEPTED.format(filters=filters, count=count)
    pages = questions.rows(query, {"files": files}, values)
    return [(IndexPlace(*row[:4]), row[4]) for page in pages for row in page]
