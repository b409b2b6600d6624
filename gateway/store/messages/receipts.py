"""From a provider's receipt to the step it speaks of; and the ones nobody knows yet.

A receipt names our own reference where the provider echoes it. Where the provider gives ids of its
own, dispatch notes id -> reference before it records that the step was sent. Where each part of a
message has its own id and receipts, what arrived is noted part by part, and the last one tells the
step; the first that fails tells it at once. Where a provider charges what arrives, the others are
told as well, as parts: their text may fail. So is the arrival of a part of a text that was refused,
of which nothing else counts. A receipt that matches nothing (it outran the send's
answer, or is none of ours) is kept as unmatched and tried again with growing delays for as long as
the retention says, then dropped with a log line by the caller. One whose message may be archived
waits until a run of the archive has looked for it; one whose step has its provider's new name
already, which is not known here yet, until who knows it tries it. Nothing of this is an error to
the provider.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Literal, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from gateway.backoff import delay_by_age_ms
from gateway.core.events import Reported
from gateway.core.ids import read_ref
from gateway.core.policy import UNKNOWN_PROVIDER
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.entries import UnmatchedReceipt, unmatched_codec
from gateway.core.records.message import Message
from gateway.redis.client import Command
from gateway.redis.replies import as_list, pairs
from gateway.store import quarantine, scans
from gateway.store.archive import archiving
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of, shard_of_provider_id
from gateway.store.messages import raw_receipts
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt

PROVIDER_ID_MS = 7 * 86_400_000
UNMATCHED_MAX = 100_000  # a shard; beyond it the one due next is dropped first, and counted
_LOOSE = "+"  # before a reference: no version took that for one, so older ones keep the receipts
UNMATCHED_DELAY_MS = 900  # doubled with each try
UNMATCHED_DELAY_MS_MAX = 600_000
SWEEP_COUNT = 500

_log = structlog.get_logger("receipts")


class Taken(msgspec.Struct):
    """How many receipts were applied to a message, kept as unmatched, (after the retention)
    dropped, or set aside; `crowded_out`: how many others went because too many are unmatched.
    `unmatched` and `faulty` are the ones that `take_receipts` kept and set aside, the very objects
    it was given. Those of `unmatched` that are `absent` name a message that is not in Redis."""

    applied: int = 0
    kept: int = 0
    dropped: list[Receipt] = []
    set_aside: int = 0
    crowded_out: int = 0
    unmatched: list[Receipt] = []
    absent: list[Receipt] = []
    faulty: list[Receipt] = []


def part_of(ref: str, number: int, total: int) -> str:
    """What is noted for the id of one of several parts."""
    return f"{ref} {number} {total}"


def loose_part_of(ref: str) -> str:
    """What is noted for the id of a part that was taken of a text that was refused."""
    return _LOOSE + ref


def ref_in(noted: str) -> str:
    """Our reference in what is noted for an id."""
    return noted.removeprefix(_LOOSE).partition(" ")[0]


async def note_provider_ids(store: Store, provider: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Notes (provider's id, our ref) pairs, or what `part_of` and `loose_part_of` give for the
    latter; to be called before the steps are recorded as sent."""
    commands: list[Command] = [
        (
            "SET",
            _shard_keys(store, provider, pid).provider_id(provider, pid),
            ref,
            "PX",
            PROVIDER_ID_MS,
        )
        for pid, ref in pairs
    ]
    if commands:
        await store.redis.call(commands)


async def take_receipts(
    store: Store, provider: str, receipts: Sequence[Receipt], now_ms: int
) -> Taken:
    """Applies what can be matched and keeps the rest as unmatched; durable on return."""
    taken = await _apply(store, provider, receipts, now_ms)
    gone = taken.crowded_out = await _keep(store, provider, taken.unmatched, now_ms)
    if gone and store.crowded_out.note(provider, now_ms):
        _log.error("too many receipts are unmatched: some were dropped", provider=provider, n=gone)
    return taken


async def sweep_unmatched(store: Store, shard: int, now_ms: int) -> Taken:
    """Tries the unmatched receipts of one shard that are due, those of a provider together, and
    gives up the ones that are too old. (One that outran its answer costs 54 µs CPU so, and 500 each
    in a transaction of its own: 200 of them, the medians of three in turn, 2026-11-29.)"""
    keys = keys_of(shard)
    (members,) = await store.redis.call(
        [("ZRANGEBYSCORE", keys.unmatched_receipts, "-inf", now_ms, "LIMIT", 0, SWEEP_COUNT)]
    )
    assert isinstance(members, list)
    taken = Taken()
    ended: list[bytes] = []
    later: list[int | bytes] = []  # when each is tried again, and which
    told: defaultdict[str, list[tuple[bytes, UnmatchedReceipt]]] = defaultdict(list)
    for member in members:
        try:
            unmatched = unmatched_codec.decode(member)
            told[unmatched.provider].append((member, unmatched))
        except NewerRecordError:
            # Left to the process that wrote it; out of the way of those behind it.
            later += (now_ms + UNMATCHED_DELAY_MS, member)
            store.counts.newer += 1
        except UnreadableRecordError as error:
            place = {f"{keys.unmatched_receipts} {zlib.crc32(member):08x}": member}
            ends: list[Command] = [("ZREM", keys.unmatched_receipts, member)]
            due_ms = now_ms + quarantine.LATER_MS
            put_off: list[Command] = [("ZADD", keys.unmatched_receipts, "XX", due_ms, member)]
            taken.set_aside += await quarantine.set_aside(
                store.redis, shard, place, error, now_ms, ends, put_off
            )
    oldest_ms = now_ms - store.retention.unmatched_ms
    waited = any(each.since_ms <= oldest_ms for found in told.values() for _, each in found)
    # Until when it was looked for in the archive; what waits no longer is not asked that.
    looked_ms = now_ms
    if waited and store.retention.archives:
        looked_ms = await archiving.looked_ms(store.redis)
    for provider, together in told.items():
        tried = await _apply(store, provider, [each.receipt for _, each in together], now_ms)
        taken.applied += tried.applied
        taken.set_aside += tried.set_aside
        unknown = {id(receipt) for receipt in tried.unmatched}
        absent = {id(receipt) for receipt in tried.absent}
        for member, unmatched in together:
            age, which = now_ms - unmatched.since_ms, id(unmatched.receipt)
            may_be_archived = which in absent and unmatched.since_ms >= looked_ms
            if which not in unknown:
                ended.append(member)
            elif unmatched.since_ms <= oldest_ms and not may_be_archived:
                taken.dropped.append(unmatched.receipt)
                ended.append(member)
            else:
                taken.kept += 1
                delay_ms = delay_by_age_ms(age, UNMATCHED_DELAY_MS, UNMATCHED_DELAY_MS_MAX)
                later += (now_ms + delay_ms, member)
    commands: list[Command] = []
    if ended:
        commands.append(("ZREM", keys.unmatched_receipts, *ended))
    if later:
        commands.append(("ZADD", keys.unmatched_receipts, "XX", *later))
    if commands:
        await store.redis.call(commands)
    return taken


class UnmatchedReceipts(NamedTuple):
    """How many receipts are unmatched, and those due next with when they are, in epoch
    milliseconds."""

    total: int
    first: list[tuple[int, UnmatchedReceipt]]


async def unmatched(store: Store, most: int) -> UnmatchedReceipts:
    """What is kept as unmatched in all shards, to look at; what this process cannot read is only
    counted. Raises RedisUnavailable."""
    total, found = 0, []
    for shard in await shards_ever(store.redis, store.shards):
        key = keys_of(shard).unmatched_receipts
        count, members = await store.redis.call(
            [("ZCARD", key), ("ZRANGE", key, 0, most - 1, "WITHSCORES")]
        )
        assert isinstance(count, int)
        total += count
        for member, due in pairs(as_list(members)):
            try:
                found.append((int(float(due)), unmatched_codec.decode(member)))
            except (NewerRecordError, UnreadableRecordError):
                continue
    found.sort(key=lambda each: each[0])
    return UnmatchedReceipts(total, found[:most])


async def waited_for(store: Store, shard: int) -> dict[str, list[bytes]]:
    """The messages that the unmatched receipts of one shard speak of, as far as they say, each with
    those receipts as they are kept."""
    key = keys_of(shard).unmatched_receipts
    found: dict[str, list[bytes]] = {}
    async with aclosing(scans.pages(store.redis, "ZSCAN", key)) as pages:
        async for page in pages:
            members: dict[int, bytes] = {}  # by their receipts
            told: defaultdict[str, list[Receipt]] = defaultdict(list)
            for member, _ in page:
                with suppress(NewerRecordError, UnreadableRecordError):
                    unmatched = unmatched_codec.decode(member)
                    members[id(unmatched.receipt)] = member
                    told[unmatched.provider].append(unmatched.receipt)
            for provider, receipts in told.items():
                for item in (await _match(store, provider, receipts)).items:
                    assert isinstance(item.event, Reported)
                    found.setdefault(item.message_id, []).append(members[id(item.event.receipt)])
    return found


async def try_again(store: Store, shard: int, members: Sequence[bytes], now_ms: int) -> None:
    """Unmatched receipts are due now, and tried."""
    due = [part for member in members for part in (now_ms, member)]
    await store.redis.call([("ZADD", keys_of(shard).unmatched_receipts, "XX", *due)])
    await sweep_unmatched(store, shard, now_ms)


class _Matched(NamedTuple):
    """`items` are to be applied; `unmatched` are known to nobody; `noted` say what one part of a
    message came to, which changes nothing yet."""

    items: list[Item]
    unmatched: list[Receipt]
    noted: int = 0


class _Part(NamedTuple):
    """A part of a message that arrived; `item` tells its step once all `total` of them have."""

    ref: str
    number: int
    total: int
    item: Item


async def _apply(store: Store, provider: str, receipts: Sequence[Receipt], now_ms: int) -> Taken:
    """Applies what can be matched; what is `unmatched` is still to be kept."""
    items, unmatched, noted = await _match(store, provider, receipts)
    taken = Taken(applied=noted)
    missing, later = list[Receipt](), list[Receipt]()
    await raw_receipts.keep(store, provider, items, now_ms)
    told = await store.apply(items, now_ms)
    await raw_receipts.check(store, told)
    for applied in told:
        assert isinstance(applied.item.event, Reported)
        if applied.set_aside:
            taken.faulty.append(applied.item.event.receipt)
        elif applied.message is None:
            missing.append(applied.item.event.receipt)
        elif _is_of_new_name(store, applied.message, applied.item.event):
            later.append(applied.item.event.receipt)
    taken.applied += len(told) - len(taken.faulty) - len(missing) - len(later)
    taken.absent, taken.unmatched = missing, [*unmatched, *missing, *later]
    taken.kept, taken.set_aside = len(taken.unmatched), len(taken.faulty)
    return taken


def _is_of_new_name(store: Store, message: Message, reported: Reported) -> bool:
    """Whether the step that it names is of a provider that this configuration does not have. Of
    1,726 messages that were sent while a rename went round 9 were billed by their provider and not
    booked here (2026-11-30)."""
    if reported.step >= len(message.steps):
        return False
    step = message.steps[reported.step]
    attempt = step.attempt_of(reported.series)
    name = reported.provider if attempt is None else step.provider_of(attempt)
    return name != reported.provider and store.policy.provider(name) is UNKNOWN_PROVIDER


async def _match(store: Store, provider: str, receipts: Sequence[Receipt]) -> _Matched:
    names = store.policy.names_of(store.policy.present(provider))
    provider = names[0]
    items: list[Item] = []
    unmatched: list[Receipt] = []
    foreign: list[Receipt] = []
    for receipt in receipts:
        # What comes back in the place of our reference may be another's; the id is then still ours.
        item = _item(provider, receipt.ref, receipt) or _item(
            provider, receipt.provider_id, receipt
        )
        if item is not None:
            items.append(item)
        elif receipt.provider_id is not None or receipt.ref is not None:
            foreign.append(receipt)
        else:
            unmatched.append(receipt)
    if not foreign:
        return _Matched(items, unmatched)
    commands: list[Command] = []
    for receipt in foreign:
        pid = told_id(receipt)
        commands += (
            ("GET", _shard_keys(store, name, pid).provider_id(name, pid)) for name in names
        )
    refs = iter(await store.redis.call(commands))
    parts: list[_Part] = []
    noted = 0
    charges_parts = store.policy.provider(provider).charged_on == "delivered"
    for receipt in foreign:
        found = [ref for _, ref in zip(names, refs, strict=False) if ref is not None]
        told = found[0].decode(errors="replace") if found else ""
        ref, (_, _, part) = ref_in(told), told.partition(" ")
        item = _item(provider, ref, receipt)
        arrived = receipt.status in ("delivered", "seen")
        if item is None:
            unmatched.append(receipt)
        elif told.startswith(_LOOSE):
            if arrived and charges_parts:
                items.append(_of_part(item, "loose"))
            else:
                noted += 1
        elif part and arrived:
            number, _, total = part.partition(" ")
            if not (number.isdecimal() and total.isdecimal()):
                unmatched.append(receipt)  # what is noted for its id cannot be read
                continue
            parts.append(_Part(ref, int(number), int(total), item))
        else:
            items.append(item)
    telling = await _note_parts(store, provider, parts, each=charges_parts)
    return _Matched(items + telling, unmatched, noted + len(parts) - len(telling))


async def _note_parts(
    store: Store, provider: str, parts: Sequence[_Part], *, each: bool
) -> list[Item]:
    """Notes parts that arrived; those which were the last of their message tell its step. `each`:
    the others tell that they arrived."""
    if not parts:
        return []
    commands: list[Command] = []
    for part in parts:
        key = _shard_keys(store, provider, part.ref).provider_id(provider, part.ref)
        commands += (
            ("SETBIT", key, part.number, 1),
            ("PEXPIRE", key, PROVIDER_ID_MS),
            ("BITCOUNT", key),
        )
    counts = (await store.redis.call(commands))[2::3]
    return [
        part.item if count == part.total else _of_part(part.item, "of_whole")
        for part, count in zip(parts, counts, strict=True)
        if each or count == part.total
    ]


def _of_part(item: Item, which: Literal["of_whole", "loose"]) -> Item:
    assert isinstance(item.event, Reported)
    return replace(item, event=replace(item.event, part=which))


def told_id(receipt: Receipt) -> str:
    """By what a receipt that nobody knows yet is kept."""
    return receipt.provider_id or receipt.ref or ""


def _item(provider: str, ref: str | None, receipt: Receipt) -> Item | None:
    named = read_ref(ref) if ref is not None else None
    if named is None:
        return None
    return Item(named.message_id, Reported(named.step, receipt, provider, named.series))


async def _keep(store: Store, provider: str, receipts: Sequence[Receipt], now_ms: int) -> int:
    """How many others had to go."""
    commands: list[Command] = []
    for receipt in receipts:
        pid = told_id(receipt)
        key = _shard_keys(store, provider, pid).unmatched_receipts
        if receipt.raw and not store.retention.raw_receipts_ms:
            receipt = replace(receipt, raw="")
        member = unmatched_codec.encode(UnmatchedReceipt(provider, receipt, now_ms))
        commands.append(("ZADD", key, "NX", now_ms + UNMATCHED_DELAY_MS, member))
        commands.append(("ZREMRANGEBYRANK", key, 0, -UNMATCHED_MAX - 1))
    if not commands:
        return 0
    replies = await store.redis.call(commands)
    return sum(map(int, replies[1::2]))


def _shard_keys(store: Store, provider: str, provider_id: str) -> Keys:
    return keys_of(shard_of_provider_id(provider, provider_id, store.shards))
