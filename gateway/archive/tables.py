"""The archive's tables: their columns, and how a ledger entry becomes rows of them.

    ledger     one row an amount: the fields of a `LedgerLine`, and the variant
    counts     what was booked beside those: counts, and what is compared or kept apart
    requests   what became no message: how many, by outcome
    messages   one row a state of a closed message
    clicks     one row for clicks of one link that were alike: how many of them
    index      one row a message that was accepted: its place among all, and by whom it is found

The first three are made from one stream, so an entry's rows of all three appear at the same moment,
and together they are everything it booked: `MEASURES_OF` leads back. An id begins with the shard
and the entry, which `ENTRY_OF_ROW` reads; `group_of` has the group back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import astuple

from gateway.archive.columns import Column, ColumnKind
from gateway.archive.parquet import SumsOf
from gateway.core.archive.manifest import EntryId
from gateway.core.archive.messages import MessageRow
from gateway.core.channels import BASELINE_COLUMN
from gateway.core.effects import NOT_COMPARED
from gateway.core.money.days import day_of
from gateway.core.money.months import NONE_CLOSED, ClosedMonths
from gateway.core.records.entries import NO_STEP, Clicked, Group, Indexed, LedgerEntry
from gateway.finance.lines.lines import lines_of

LEDGER, COUNTS, REQUESTS, MESSAGES = "ledger", "counts", "requests", "messages"
CLICKS = "clicks"
INDEX = "index"
BOOKED = (LEDGER, COUNTS, REQUESTS)  # made from the ledger's stream
OUTCOMES = {"duplicates": "duplicate", "suppressed": "suppressed"}
AMOUNTS = frozenset(
    (BASELINE_COLUMN, NOT_COMPARED, "revenue")
)  # measures that are amounts, but no lines
# Of which measure a kind of line is a part.
MEASURES_OF = {"cost": "cost", "adjust": "cost", "reverse": "cost", "bill": "billed"}

_GROUP = (
    Column("app", "word"),
    Column("campaign", "word"),
    Column("category", "word"),
    Column("route", "word"),
    Column("channel", "word"),
    Column("provider", "word"),
    Column("country", "word"),
    Column("variant", "word"),
)
_ROW = (Column("id", "id"), Column("booked_at", "time"))

_STEPS = (
    Column("channel", "word"),
    Column("provider", "word"),
    Column("status", "word"),
    Column("attempts", "count"),
    Column("sent_at", "time"),
    Column("delivered_at", "time"),
    Column("seen_at", "time"),
    Column("clicked_at", "time"),
    Column("done_at", "time"),
    Column("parts", "count"),
    Column("cost", "money"),
    Column("billed", "money"),
    Column("error", "word"),
)
_MESSAGE_KINDS: dict[str, ColumnKind] = {
    "id": "id",
    "revision": "count",
    "created_at": "time",
    "updated_at": "time",
    "phone_hash": "id",
    "mail_hash": "id",
    "cost": "money",
    "billed": "money",
    "steps": "nested",
    "record": "bytes",
}

COLUMNS: dict[str, tuple[Column, ...]] = {
    LEDGER: (
        *_ROW,
        Column("kind", "word"),
        Column("message", "id"),
        Column("step", "small"),
        *_GROUP[:-1],
        Column("parts", "count"),
        Column("amount", "money"),
        Column("list_amount", "money"),
        Column("currency", "word"),
        Column("reason", "word"),
        Column("variant", "word"),
    ),
    COUNTS: (
        *_ROW,
        Column("measure", "word"),
        Column("step", "small"),
        *_GROUP,
        Column("count", "count"),
        Column("amount", "money"),
        Column("currency", "word"),
    ),
    REQUESTS: (*_ROW, Column("outcome", "word"), *_GROUP, Column("requests", "count")),
    MESSAGES: tuple(
        Column(name, _MESSAGE_KINDS.get(name, "word"), _STEPS if name == "steps" else ())
        for name in MessageRow._fields
    ),
    INDEX: (
        Column("id", "id"),
        Column("accepted_at", "time"),
        Column("sequence", "count"),
        Column("shard", "small"),
        Column("item", "count"),
        Column("campaign", "word"),
        Column("phone_hash", "id"),
        Column("mail_hash", "id"),
        Column("user_hash", "id"),
    ),
    CLICKS: (
        *_ROW,
        Column("link", "id"),
        Column("message", "id"),
        Column("step", "small"),
        Column("app", "word"),
        Column("campaign", "word"),
        Column("channel", "word"),
        Column("device", "word"),
        Column("visitor", "word"),
        Column("clicks", "count"),
    ),
}
HASHES = {"p:": "phone_hash", "e:": "mail_hash", "u:": "user_hash"}  # of `INDEX`, by kind
SUMS: dict[str, tuple[SumsOf, ...]] = {
    LEDGER: (SumsOf("amount", "kind", MEASURES_OF),),
    COUNTS: (SumsOf("amount", "measure"),),
    REQUESTS: (),
    MESSAGES: (SumsOf("cost"), SumsOf("billed")),
    CLICKS: (),
    INDEX: (),
}
ORDERS = {MESSAGES: "id, revision"}  # of rows in a file; else by id, which is one row's alone

ENTRY_OF_ROW = """
CAST(split_part(id, '-', 1) AS INTEGER) AS shard, CAST(split_part(id, '-', 2) AS BIGINT) AS ms,
CAST(split_part(id, '-', 3) AS BIGINT) AS seq
"""
GROUP_OF_ROW = "app, campaign, category, route, channel, provider, country, variant, step"


class Row(NamedTuple):
    """One row: its table, its UTC day, and its values in the order of the columns."""

    table: str
    day: str
    values: Sequence[Any]


def rows_of(
    shard: int,
    id_: EntryId,
    entry: LedgerEntry,
    currency: str,
    months: ClosedMonths = NONE_CLOSED,
) -> Iterator[Row]:
    """Everything that an entry of a shard's ledger booked; `currency` is that of one that names
    none, `months` those that are closed."""
    day = day_of(entry.at_ms).isoformat()
    for place, line in lines_of(shard, id_, entry, currency, closed=months):
        variant = entry.posts[place.post].group.variant or None
        yield Row(LEDGER, day, (*astuple(line), variant))
    counted: defaultdict[tuple[Group, str], int] = defaultdict(int)
    for post in entry.posts:
        for measure, amount in post.measures.items():
            if measure not in ("cost", "billed"):
                counted[post.group, measure] += amount
    for number, ((group, measure), amount) in enumerate(counted.items()):
        start = (f"{shard}-{id_[0]}-{id_[1]}-{number}", entry.at_ms)
        names = _names(group)
        if measure in OUTCOMES:
            yield Row(REQUESTS, day, (*start, OUTCOMES[measure], *names, amount))
            continue
        step = None if group.step == NO_STEP else group.step
        is_money = measure in AMOUNTS
        count, money = (None, amount) if is_money else (amount, None)
        of = (entry.currency or currency) if is_money else None
        yield Row(COUNTS, day, (*start, measure, step, *names, count, money, of))


def rows_of_clicks(shard: int, id_: EntryId, items: Sequence[Clicked]) -> Iterator[Row]:
    """The clicks that an entry of a shard's stream lists."""
    for number, each in enumerate(items):
        values = (
            f"{shard}-{id_[0]}-{id_[1]}-{number}",
            each.at_ms,
            each.link,
            each.message,
            None if each.step == NO_STEP else each.step,
            each.app,
            each.campaign,
            each.channel or None,
            each.device,
            each.who,
            each.clicks,
        )
        yield Row(CLICKS, day_of(each.at_ms).isoformat(), values)


def rows_of_accepted(
    shard: int, id_: EntryId, items: Iterable[Indexed], hashes: Mapping[str, Mapping[str, str]]
) -> Iterator[Row]:
    """What an entry of a shard's index names; `hashes` are those of whom its messages do."""
    day = day_of(id_[0]).isoformat()
    for number, item in enumerate(items):
        whose = hashes.get(item.message, {})
        who = map(whose.get, HASHES)
        yield Row(INDEX, day, (item.message, *id_, shard, number, item.campaign, *who))


def _names(group: Group) -> tuple[str | None, ...]:
    return (
        group.app,
        group.campaign or None,
        group.category,
        group.route or None,
        group.channel or None,
        group.provider or None,
        group.country or None,
        group.variant or None,
    )


def group_of(
    app: str,
    campaign: str | None,
    category: str,
    route: str | None,
    channel: str | None,
    provider: str | None,
    country: str | None,
    variant: str | None,
    step: int | None,
) -> Group:
    """The other way, from the columns of `GROUP_OF_ROW`."""
    # Where there is no route, it was booked before groups had a step.
    of_step = NO_STEP if step is None or route is None else step
    return Group(
        app,
        campaign or "",
        category,
        channel or "",
        provider or "",
        country or "",
        route or "",
        of_step,
        variant or "",
    )
