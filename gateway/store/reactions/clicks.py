"""Clicks as they are kept: a counter for each hour, sort of device and sort of visitor of a link.

Those of a message's link stand beside its range and lapse as that does; those of a link that was
made for itself stand as long as it does. A batch of clicks is one transaction a shard, which says
by the caller's token that it was applied, so that none counts twice. That a person reacted goes the
way of every reaction. Where there is an archive the same transaction lists the clicks for it, a
stream a shard. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from gateway.core.archive.manifest import EntryId
from gateway.core.channels import CHANNELS
from gateway.core.effects import group_of
from gateway.core.events import Reacted
from gateway.core.money.days import HOUR_MS
from gateway.core.reactions.clickers import Visitor, clicked_by
from gateway.core.reactions.clicks import (
    BY_QR,
    PERSON,
    ClickCounts,
    DeviceClass,
    counted,
    counter_of,
)
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import NO_STEP, Clicked, ClickEntry, Post, clicked_codec
from gateway.core.records.message import Message
from gateway.redis.client import Command, RedisClient, Session
from gateway.store import scans
from gateway.store.archive import archiving
from gateway.store.compression import pack, unpack
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.reactions.links import Link
from gateway.store.store import Store
from gateway.store.transaction import commit
from gateway.store.writes import BLOB_FIELD

BATCH_MAX = 500
ENTRIES_A_PAGE = 20  # of the stream for the archive: each has up to BATCH_MAX sorts of clicks
SPARE_MS = 31 * 86_400_000  # a message may be sent so long after it was accepted


class Click(msgspec.Struct):
    """Somebody followed a link; `qr`: by its picture. `times`: he and others like him, of whom the
    first came at `at_ms`."""

    link: Link
    at_ms: int
    visitor: Visitor
    device: DeviceClass
    qr: bool = False
    times: int = 1

    @property
    def sort(self) -> tuple[object, ...]:
        """What clicks have in common that may be one with `times`. Whoever may be judged by the
        moment is alone."""
        link, visitor = self.link, self.visitor
        alone = link.own is None and visitor.unmarked and visitor.reason is None
        when = self.at_ms if alone else self.at_ms // HOUR_MS
        return link.code, when, visitor, self.device, self.qr


async def judged(store: Store, clicks: Sequence[Click]) -> list[tuple[Click, str]]:
    """Each click with who it was. Only of links in e-mails does that depend on when the message was
    sent."""
    asked = {c.link.message for c in clicks if c.visitor.reason is None and c.visitor.unmarked}
    messages = await reads.messages_anywhere(store, [id_ for id_ in asked if id_ is not None])
    found = []
    for click in clicks:
        message = messages.get(click.link.message or "")
        age_ms = _mail_age_ms(click, message) if isinstance(message, Message) else None
        reason = clicked_by(click.visitor, age_ms)
        found.append((click, reason or (BY_QR if click.qr else PERSON)))
    return found


def _mail_age_ms(click: Click, message: Message) -> int | None:
    step = message.steps[click.link.step]
    if not CHANNELS[step.channel].scanned or step.carrier is None:
        return None
    return click.at_ms - step.carrier.sent_ms


async def count(store: Store, clicks: Sequence[tuple[Click, str]], token: str, now_ms: int) -> None:
    """Counts clicks with who each was, of links of one shard, and books those of programs; once for
    a token."""
    lives_ms = store.policy.links.ttl_ms + SPARE_MS
    shard, _, _ = _counters_of(store, clicks[0][0].link)
    counters: Counter[tuple[str, str]] = Counter()
    lapsing: set[str] = set()
    for click, who in clicks:
        _, place, prefix = _counters_of(store, click.link)
        counters[place, prefix + counter_of(click.at_ms, click.device, who)] += click.times
        if click.link.own is None:
            lapsing.add(place)
    writes: list[Command] = [("HINCRBY", place, name, n) for (place, name), n in counters.items()]
    writes += [("PEXPIRE", place, lives_ms) for place in sorted(lapsing)]
    if store.retention.archives:
        entry = pack(clicked_codec.encode(ClickEntry(list(map(_archived, clicks)))))
        writes.append(("XADD", keys_of(shard).clicked, "*", BLOB_FIELD, entry))
    writes += await _bookings(store, shard, clicks, now_ms)
    key = keys_of(shard).token(token)

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, applied = await session.call([("WATCH", key), ("GET", key)])
        return ([] if applied is not None else writes), None

    await commit(store.redis, key, attempt, store.counts)


def _archived(clicked: tuple[Click, str]) -> Clicked:
    click, who = clicked
    link = click.link
    of = (link.campaign, link.channel, link.message)
    step = NO_STEP if link.message is None else link.step
    return Clicked(link.code, link.app, click.at_ms, click.device, who, click.times, *of, step)


async def listed(
    redis: RedisClient, shard: int, after: EntryId, until: EntryId
) -> list[tuple[EntryId, list[Clicked]]]:
    """What was counted where there is an archive: entries after one and up to another, the oldest
    first. One that cannot be read has nothing: the counters stand without it."""
    page = await archiving.entries(redis, shard, "clicked", after, until, ENTRIES_A_PAGE)
    return [(id_, _items(record)) for id_, record in page]


def _items(record: bytes) -> list[Clicked]:
    try:
        return clicked_codec.decode(unpack(record)).items
    except (NewerRecordError, msgspec.DecodeError):
        return []


async def _bookings(
    store: Store, shard: int, clicks: Sequence[tuple[Click, str]], now_ms: int
) -> list[Command]:
    """What tells programs' clicks apart in reports; of messages that are gone nothing does."""
    fetched: Counter[tuple[str, int]] = Counter()
    for click, who in clicks:
        if click.link.message is not None and who not in (PERSON, BY_QR):
            fetched[click.link.message, click.link.step] += click.times
    if not fetched:
        return []
    messages = await reads.messages_anywhere(store, {id_ for id_, _ in fetched})
    writes = store.writes(keys_of(shard), now_ms)
    for (id_, index), times in fetched.items():
        message = messages.get(id_)
        step = message.steps[index] if isinstance(message, Message) else None
        if isinstance(message, Message) and step is not None and step.carrier is not None:
            group = group_of(message, index, step.provider_of(step.carrier))
            writes.post(Post(group, {"bot_clicks": times}))
    await writes.learn(store.redis)
    return writes.commands()


async def react(store: Store, clicks: Sequence[tuple[Click, str]], now_ms: int) -> None:
    """Has the first click of a person on each step be a reaction; repeated, it changes nothing."""
    first: dict[tuple[str, int], Item] = {}
    for click, who in clicks:
        link = click.link
        if link.message is not None and who in (PERSON, BY_QR):
            event = Reacted(link.step, "clicked", click.at_ms)
            first.setdefault((link.message, link.step), Item(link.message, event))
    if first:
        await store.apply(list(first.values()), now_ms)


async def counts_of(store: Store, link: Link) -> ClickCounts:
    """What was counted of a link."""
    _, key, prefix = _counters_of(store, link)
    found: dict[str, int] = {}  # by name, because one can come twice
    async with aclosing(scans.pages(store.redis, "HSCAN", key, f"{prefix}*")) as pages:
        async for page in pages:
            found |= {name[len(prefix) :].decode(): int(n) for name, n in page}
    return counted(found.items())


def shard_of_click(store: Store, click: Click) -> int:
    return _counters_of(store, click.link)[0]


def _counters_of(store: Store, link: Link) -> tuple[int, str, str]:
    """The shard and key of a link's counters, and what their names begin with."""
    if link.place is None:
        shard = shard_of(link.code, store.shards)
        return shard, keys_of(shard).own_clicks(link.code), ""
    at = link.place
    return at.shard, keys_of(at.shard).link_clicks(at.range), f"{at.place}.{at.link}:"
