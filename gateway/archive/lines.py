"""The ledger's lines that are archived, a page at a time, as `gateway.finance.lines.lines` gives
those in Redis."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gateway.archive.archive import Archive
from gateway.archive.tables import ENTRY_OF_ROW, LEDGER, group_of
from gateway.core.money.days import Days, day_of
from gateway.finance.lines.lines import (
    AMOUNTS,
    EVERY_AMOUNT,
    LedgerLine,
    LinePlace,
    LinesPage,
    LinesWanted,
)
from gateway.finance.question import BookingSelection

LINES_A_PAGE = 1_000
FILTERS = ("app", "campaign", "variant", "category", "route", "channel", "provider", "country")

_LINES = """
WITH lines AS (
    SELECT *, {entry}, {amounts} * CAST(split_part(id, '-', 4) AS INTEGER)
    + CASE kind WHEN 'bill' THEN 1 ELSE 0 END AS place
    FROM read_parquet($files)
    WHERE booked_at >= make_timestamptz($begins_ms * 1000)
    AND booked_at < make_timestamptz($over_ms * 1000){filters}
)
SELECT ms, seq, place, id, epoch_ms(booked_at), kind, message, step, app, campaign, category, route,
channel, provider, country, parts, CAST(amount * 1000000 AS BIGINT),
CAST(list_amount * 1000000 AS BIGINT), currency, reason, variant
FROM lines WHERE shard = $shard AND (ms, seq, place) > ($ms, $seq, $place)
AND (ms, seq) <= ($last_ms, $last_seq) ORDER BY ms, seq, place LIMIT {count}
"""


def lines_of_archive(archive: Archive, wanted: LinesWanted) -> LinesPage:
    """One page of archived lines. Raises ArchiveFault."""
    first, last = day_of(wanted.begins_ms).isoformat(), day_of(wanted.over_ms).isoformat()
    questions = archive.questions()
    files = [
        file
        for file in questions.files_of(LEDGER)
        if first <= file.day <= last
        and file.has_of(wanted.shard, wanted.after.read_from, wanted.through)
    ]
    found: list[tuple[LinePlace, LedgerLine]] = []
    end = LinePlace(wanted.shard, *wanted.through, EVERY_AMOUNT)
    if not files:
        return LinesPage(found, 0, end)
    selection, days = BookingSelection(wanted.query.report), Days(wanted.zone)
    filters, values = _filters(selection, wanted.query.kinds)
    query = _LINES.format(
        entry=ENTRY_OF_ROW, amounts=len(AMOUNTS), filters=filters, count=LINES_A_PAGE
    )
    _, ms, seq, place = wanted.after
    values |= {"shard": wanted.shard, "ms": ms, "seq": seq, "place": place}
    values |= {"last_ms": wanted.through[0], "last_seq": wanted.through[1]}
    values |= {"begins_ms": wanted.begins_ms, "over_ms": wanted.over_ms}
    rows = [row for page in questions.rows(query, {"files": files}, values) for row in page]
    for row in rows:
        line = LedgerLine(*row[3:-1])
        group = group_of(
            line.app,
            line.campaign,
            line.category,
            line.route,
            line.channel,
            line.provider,
            line.country,
            row[-1],
            line.step,
        )
        if selection.takes(days.of(line.at_ms), group):
            found.append((LinePlace(wanted.shard, *row[:3]), line))
    whole = len(rows) < LINES_A_PAGE
    return LinesPage(found, len(rows), end if whole else LinePlace(wanted.shard, *rows[-1][:3]))


def _filters(selection: BookingSelection, kinds: Collection[str]) -> tuple[str, dict[str, Any]]:
    """What of the query's filters the files can be asked for, which is nearly all."""
    asked = {key: sorted(values) for key, values in selection.wanted.items() if key in FILTERS}
    if kinds:
        asked["kind"] = sorted(kinds)
    text = "".join(f" AND coalesce({key}, '') IN (SELECT unnest(${key}))" for key in asked)
    return text, dict(asked)
