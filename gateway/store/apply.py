"""Happenings, in batches: loads the messages (and, where needed, their persons), lets
`core.cascade` decide each in turn, commits the lot. Whoever learns of a happening (sender,
callback, timer, API) comes through here.

Happenings of one message in one batch are decided in order on the same record. A lane entry named
with an item is acknowledged by the same transaction that records what became of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from gateway.core import cascade
from gateway.core.admission import OptOut
from gateway.core.effects import Effects
from gateway.core.events import CURRENT, Claimed, Happening, Reported
from gateway.core.model import (
    Message,
    Person,
    Step,
    StepStatus,
    decode_person,
    unpack_message,
)
from gateway.core.policy import Policy
from gateway.redis.client import Command, Link, Reply, Session
from gateway.store.admit import OPT_OUTS
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.transaction import values_in
from gateway.store.writes import Retention, Writes


class LaneEntry(msgspec.Struct, frozen=True):
    """Where a claimed message stands in its lane: the stream's key and the entry's id."""

    lane: str
    entry: bytes


class Item(msgspec.Struct, frozen=True):
    """One happening of one message.

    `entry` is acknowledged, unless the claim holds and it is sent now, or the step is being sent by
    somebody: that one's outcome, or the recovery of it, still needs an entry. With `claimed_ms` the
    happening is of that claim alone: when the step was claimed anew meanwhile it changes nothing,
    so what a sender says late or twice cannot undo another's claim."""

    message_id: str
    happening: Happening
    entry: LaneEntry | None = None
    claimed_ms: int | None = None


class Applied(msgspec.Struct):
    """`message` None: there is no such message (any more)."""

    item: Item
    message: Message | None
    effects: Effects


class Application:
    """One try at deciding a batch of happenings of one shard; made anew for each try."""

    def __init__(
        self,
        keys: Keys,
        items: Sequence[Item],
        policy: Policy,
        retention: Retention,
        now_ms: int,
        token: str,
        link: Link,
        shards: int = 1,
    ) -> None:
        self._keys = keys
        self._link = link
        self._shards = shards
        self._items = items
        self._policy = policy
        self._now_ms = now_ms
        self._token = token
        self._writes = Writes(keys, policy, retention, now_ms)
        self._messages: dict[str, Message] = {}
        self._persons: dict[str, Person] = {}
        self._person_keys: dict[str, list[str]] = {}  # by message id
        self._dirty: set[str] = set()

    async def attempt(self, session: Session) -> tuple[list[Command], list[Applied]]:
        await self._load_messages(session)
        items = await self._with_opt_outs(session)
        await self._load_persons(session, items)
        due_before = {id_: message.due_ms for id_, message in self._messages.items()}
        applied = [self._decide(item) for item in items]
        for id_ in dict.fromkeys(
            a.message.id for a in applied if a.message is not None and a.effects.changed
        ):
            self._writes.message(self._messages[id_], due_before[id_])
        for key in self._dirty:
            self._writes.person(key, self._persons[key])
        return self._writes.commands(), applied

    async def _load_messages(self, session: Session) -> None:
        ids = list(dict.fromkeys(item.message_id for item in self._items))
        hinted = self._hinted()
        keys = [*(self._keys.message(id_) for id_ in ids), *hinted]
        replies = await session.call([("WATCH", self._token, *keys), ("MGET", *keys)])
        values = values_in(replies[1])
        for key, value in zip(hinted, values[len(ids) :], strict=True):
            self._read_person(key, value)
        for id_, value in zip(ids, values, strict=False):
            if value is not None:
                message = self._messages[id_] = unpack_message(id_, value)
                self._person_keys[id_] = self._keys_of_person(message)

    def _hinted(self) -> list[str]:
        """The persons that receipts name: read with the messages, they save a round trip (an eighth
        of a commit of ten receipts, 2026-11-22). One that is none of ours, or not this message's,
        was read for nothing."""
        return list(
            dict.fromkeys(
                self._keys.phone(item.happening.receipt.to)
                for item in self._items
                if isinstance(item.happening, Reported)
                and item.happening.receipt.to is not None
                and item.happening.receipt.status != "sent"
            )
        )

    def _read_person(self, key: str, value: object) -> None:
        assert value is None or isinstance(value, bytes)
        self._persons[key] = Person() if value is None else decode_person(value)

    async def _with_opt_outs(self, session: Session) -> list[Item]:
        """A claim carries whether the person has opted out meanwhile."""
        phones = {
            m.to: None
            for i in self._items
            if isinstance(i.happening, Claimed) and (m := self._messages.get(i.message_id))
        }
        if not phones:
            return list(self._items)
        (scopes,) = await session.call([("HMGET", self._keys.opt_outs, *phones)])
        out = {
            p: OPT_OUTS[s] for p, s in zip(phones, values_in(scopes), strict=True) if s is not None
        }
        if not out:
            return list(self._items)
        return [self._opted_out(item, out) for item in self._items]

    def _opted_out(self, item: Item, scopes: dict[str, OptOut]) -> Item:
        message = self._messages.get(item.message_id)
        if message is None or not isinstance(item.happening, Claimed) or message.to not in scopes:
            return item
        claim = replace(item.happening, opt_out=scopes[message.to])
        return replace(item, happening=claim)

    def _keys_of_person(self, message: Message) -> list[str]:
        keys = [self._keys.phone(message.to)]
        if message.user is not None:
            shard = shard_of(message.user, self._shards)
            keys.append(keys_of(shard).user(message.user))
        return keys

    def _is_here(self, key: str) -> bool:
        return key.startswith(self._keys.tag)

    async def _load_persons(self, session: Session, items: Sequence[Item]) -> None:
        times = Counter(item.message_id for item in items)
        keys = list(
            dict.fromkeys(
                key
                for item in items
                if (message := self._messages.get(item.message_id)) is not None
                and cascade.needs_people(
                    message,
                    item.happening,
                    self._policy,
                    self._now_ms,
                    alone=times[item.message_id] == 1,
                )
                for key in self._person_keys[message.id]
                if key not in self._persons
            )
        )
        if not keys:
            return
        here = [key for key in keys if self._is_here(key)]
        values: dict[str, Reply] = {}
        if here:
            replies = await session.call([("WATCH", *here), ("MGET", *here)])
            values = dict(zip(here, values_in(replies[1]), strict=True))
        elsewhere = [key for key in keys if key not in values]
        if elsewhere:
            # Read for the caps only; what changes there is copied after the commit.
            values |= dict(
                zip(elsewhere, await self._link.call([("GET", k) for k in elsewhere]), strict=True)
            )
        for key, value in values.items():
            self._read_person(key, value)

    def _decide(self, item: Item) -> Applied:
        message = self._messages.get(item.message_id)
        if message is None:
            self._acknowledge(item)
            return Applied(item, None, Effects())
        if item.claimed_ms is not None and _step_of(item, message).claimed_ms != item.claimed_ms:
            self._acknowledge(item)
            return Applied(item, message, Effects())
        keys = self._person_keys[message.id]
        persons = [p for k in keys if (p := self._persons.get(k)) is not None]
        effects = cascade.advance(message, item.happening, persons, self._policy, self._now_ms)
        self._writes.effects(message.id, effects)
        if effects.people_changed:
            self._dirty.update(key for key in keys if self._is_here(key))
            if not all(self._is_here(key) for key in keys):
                self._writes.copy_later(message.id)
        if not effects.submit and not is_sent_by_another(item, message):
            self._acknowledge(item)
        return Applied(item, message, effects)

    def _acknowledge(self, item: Item) -> None:
        if item.entry is not None:
            self._writes.acknowledge(item.entry.lane, item.entry.entry)


def is_sent_by_another(item: Item, message: Message) -> bool:
    """Whether a claim held for nothing because the step is claimed already."""
    return (
        isinstance(item.happening, Claimed)
        and _step_of(item, message).status == StepStatus.SENDING
        and item.happening.provider in (None, _step_of(item, message).provider)
    )


def _step_of(item: Item, message: Message) -> Step:
    """The step a happening names, else the current one."""
    index = getattr(item.happening, "step", CURRENT)
    return message.steps[message.current if index == CURRENT else index]
