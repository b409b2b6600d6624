"""Conversions: each is put down to a message's step once, under its id, and booked there once.

What a conversion is put down to is decided from the messages as they stand, and kept under its id
in the id's shard: whoever comes first says it for good. Then it is booked with those messages, each
in its own shard, whose record remembers it by a mark. A process may die in between: whoever sends
the id again books what is missing, and finds the rest booked.

A conversion names a message, or a user: then the messages count that the person of that user holds
something for, which is what was sent in a campaign for as long as its de-duplication window, and
what counts in a cap. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b

import msgspec

from gateway.core.events import Converted
from gateway.core.reactions.conversions import Attribution, attribute
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.conversion import Conversion, Target, conversion_codec
from gateway.core.records.message import Message
from gateway.core.records.person import Person
from gateway.redis.client import Command
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Applied, Item
from gateway.store.people.people import read_others
from gateway.store.store import Store

KEPT_MS = 90 * 86_400_000

Find = Callable[[Iterable[str]], Awaitable[dict[str, Message | Exception]]]


class ToldConversion(msgspec.Struct, frozen=True):
    """A conversion as an app told it: of a `message`, or of a `user` (as an identity), where there
    is a `campaign` in that alone."""

    id: str
    at_ms: int
    value: int = 0
    message: Message | None = None
    user: str = ""
    campaign: str | None = None

    @property
    def of_campaign(self) -> str | None:
        """Whose cascades it ends where nothing has it."""
        return self.campaign if self.message is None else self.message.campaign


class Booked(msgspec.Struct, frozen=True):
    """`again`: its id was known, and this is what was said then; an exception where that cannot be
    read, or is a newer Kaskad's. `failed` are those of its messages with which it could not be
    booked."""

    conversion: Conversion | Exception
    again: bool
    failed: Sequence[Applied] = ()


async def book(
    store: Store, app: str, asked: Sequence[ToldConversion], now_ms: int, find: Find | None = None
) -> list[Booked]:
    """Puts an app's conversions down and books them; one answer each, in order, durable. `find` is
    for messages that may have left Redis; what it raises passes unchanged. Corrections come last,
    with the messages as they are by then: what they correct may stand beside them."""
    find = find or partial(reads.messages_anywhere, store)
    first = {each.id: each for each in reversed(asked)}
    if not 0 < sum(each.value < 0 for each in first.values()) < len(first):
        return await _book(store, app, asked, now_ms, find)
    told = [each for each in asked if first[each.id].value >= 0]
    booked = iter(await _book(store, app, told, now_ms, find))
    last = [each for each in asked if first[each.id].value < 0]
    found = await find(dict.fromkeys(each.message.id for each in last if each.message is not None))
    for place, each in enumerate(last):
        message = found.get(each.message.id) if each.message is not None else None
        if isinstance(message, Message):
            last[place] = msgspec.structs.replace(each, message=message)
    corrected = iter(await _book(store, app, last, now_ms, find))
    return [next(corrected if first[each.id].value < 0 else booked) for each in asked]


async def _book(
    store: Store, app: str, asked: Sequence[ToldConversion], now_ms: int, find: Find
) -> list[Booked]:
    known, unread = await _kept(store, app, {each.id for each in asked})
    there = known.keys() | unread.keys()
    new = {each.id: each for each in reversed(asked) if each.id not in there}
    held = {id_: await _held(store, each) for id_, each in new.items()}
    ids = dict.fromkeys(message for each in held.values() for message in each)
    found = await find(ids)
    first: dict[str, Conversion] = {}
    for id_, each in new.items():
        candidates = [each.message] if each.message is not None else []
        candidates += [m for i in held[id_] if isinstance(m := found.get(i), Message)]
        first[id_] = _put_down(store, each, [m for m in candidates if m.app == app])
    kept = known | await _keep(store, app, first)
    failed = await _apply(store, app, kept, now_ms)
    booked = []
    for each in asked:
        if (fault := unread.get(each.id)) is not None:
            booked.append(Booked(fault, again=True))
            continue
        again = first.pop(each.id, None) is not kept[each.id]
        booked.append(Booked(kept[each.id], again, failed.get(each.id, ())))
    return booked


async def _kept(
    store: Store, app: str, ids: Iterable[str]
) -> tuple[dict[str, Conversion], dict[str, Exception]]:
    """What is kept under these ids; and of those that this process cannot read, why."""
    keys = {id_: _key(store, app, id_) for id_ in ids}
    values = await store.redis.call([("GET", key) for key in keys.values()])
    known, unread = dict[str, Conversion](), dict[str, Exception]()
    for id_, value in zip(keys, values, strict=True):
        try:
            if isinstance(value, bytes):
                known[id_] = conversion_codec.decode(value)
        except (NewerRecordError, UnreadableRecordError) as error:
            unread[id_] = error
    return known, unread


async def _keep(store: Store, app: str, first: Mapping[str, Conversion]) -> dict[str, Conversion]:
    """Keeps each under its id, unless another process came first; what is kept is returned."""
    commands: list[Command] = []
    for id_, conversion in first.items():
        key, record = _key(store, app, id_), conversion_codec.encode(conversion)
        commands += [("SET", key, record, "NX", "PX", KEPT_MS), ("GET", key)]
    if not commands:
        return {}
    replies = await store.redis.call(commands)
    return {
        id_: conversion if taken else conversion_codec.decode(value)
        for (id_, conversion), taken, value in zip(
            first.items(), replies[::2], replies[1::2], strict=True
        )
    }


async def _apply(
    store: Store, app: str, kept: Mapping[str, Conversion], now_ms: int
) -> dict[str, list[Applied]]:
    """Books what is not booked yet; returns, by id, what could not be."""
    ids: dict[int, str] = {}
    items: list[Item] = []
    for id_, conversion in kept.items():
        for target in conversion.targets:
            event = Converted(
                _mark(app, id_),
                conversion.at_ms,
                conversion.value,
                not conversion.corrects,
                target.step,
                target.assisted,
            )
            ids[id(event)] = id_
            items.append(Item(target.message, event))
    failed: dict[str, list[Applied]] = {}
    for done in await store.apply(items, now_ms):
        if done.newer or done.set_aside or done.postponed or done.effects.refused is not None:
            failed.setdefault(ids[id(done.item.event)], []).append(done)
    return failed


def _put_down(store: Store, asked: ToldConversion, messages: Sequence[Message]) -> Conversion:
    corrects = asked.value < 0
    had = attribute(messages, asked.at_ms, store.policy.conversions, corrects=corrects)
    campaign = asked.of_campaign if had is None else had.touch.campaign
    targets = {} if had is None else _targets(had)
    if not corrects:
        for message in messages:
            if not message.finished and message.campaign == campaign:
                targets.setdefault(message.id, Target(message.id))
    if had is None:
        return Conversion(asked.at_ms, asked.value, targets=tuple(targets.values()))
    return Conversion(
        asked.at_ms,
        asked.value,
        had.touch.by,
        tuple(targets.values()),
        campaign,
        had.touch.channel,
        tuple(touch.channel for touch in had.assisted),
    )


def _targets(had: Attribution) -> dict[str, Target]:
    places = [(had.touch.message, had.touch.step)]
    assisted: dict[str, tuple[int, ...]] = {had.touch.message: ()}
    for touch in had.assisted:
        assisted[touch.message] = (*assisted.get(touch.message, ()), touch.step)
    steps = dict(places)
    return {
        id_: Target(id_, steps[id_], found) if id_ in steps else Target(id_, assisted=found)
        for id_, found in assisted.items()
    }


async def _held(store: Store, asked: ToldConversion) -> Collection[str]:
    """The messages that its user holds something for; of one that names a message none."""
    if asked.message is not None:
        return ()
    campaigns = [asked.campaign] if asked.campaign is not None else []
    held: dict[str, None] = {}
    with suppress(NewerRecordError, UnreadableRecordError):
        people = await read_others(
            store.redis, store.shards, "", Person(), campaigns, more=[asked.user]
        )
        for person in people.values():
            held |= {c.message: None for n, c in person.claims.items() if n in campaigns}
            if not campaigns:
                held |= {claim.message: None for claim in person.claims.values()}
                held |= {slot.message: None for slot in person.slots}
    return held


def _key(store: Store, app: str, id_: str) -> str:
    return keys_of(shard_of(f"{app}:{id_}", store.shards)).conversion(app, id_)


def _mark(app: str, id_: str) -> int:
    """What a message remembers a conversion by."""
    digest = blake2b(f"{app}:{id_}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
