"""Events, in batches: loads the messages (and, where needed, their persons), lets
`core.cascade` decide each in turn, commits the lot. Whoever learns of an event (sender,
callback, timer, API) comes through here.

Events of one message in one batch are decided in order on the same record. A lane entry named with
an item is acknowledged by the same transaction that records its outcome. A message whose record is
of a newer Kaskad is left alone: its record, its timer and its lane entry stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from gateway.core import cascade
from gateway.core.effects import Effects
from gateway.core.events import CURRENT, Claimed, Event, Reported
from gateway.core.policy import OptOut, Policy
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.message import Message, Step, StepStatus, unpack_message
from gateway.core.records.person import Person, person_codec
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
    """One event of one message.

    `entry` is acknowledged, unless the claim holds and it is sent now, or the step is being sent by
    somebody: that one's outcome, or the recovery of it, still needs an entry. With `claimed_ms` the
    event is of that claim alone: when the step was claimed anew meanwhile it changes nothing, so
    what a sender says late or twice cannot undo another's claim."""

    message_id: str
    event: Event
    entry: LaneEntry | None = None
    claimed_ms: int | None = None


class Applied(msgspec.Struct):
    """`message` None: there is no such message (any more), or with `newer` it is not for this
    process to read."""

    item: Item
    message: Message | None
    effects: Effects
    newer: bool = False


class Application:
    """One try at deciding a batch of events of one shard; made anew for each try."""

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
        self._newer: set[str] = set()  # messages that are left alone
        self._persons: dict[str, Person] = {}
        self._newer_persons: set[str] = set()
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
            if value is None:
                continue
            try:
                message = self._messages[id_] = unpack_message(id_, value)
            except NewerRecordError:
                self._newer.add(id_)
            else:
                self._person_keys[id_] = self._keys_of_person(message)

    def _hinted(self) -> list[str]:
        """The persons that receipts name: read with the messages, they save a round trip (an eighth
        of a commit of ten receipts, 2026-11-22). One that is none of ours, or not this message's,
        was read for nothing."""
        return list(
            dict.fromkeys(
                self._keys.phone(item.event.receipt.to)
                for item in self._items
                if isinstance(item.event, Reported)
                and item.event.receipt.to is not None
                and item.event.receipt.status != "sent"
            )
        )

    def _read_person(self, key: str, value: object) -> None:
        assert value is None or isinstance(value, bytes)
        try:
            self._persons[key] = Person() if value is None else person_codec.decode(value)
        except NewerRecordError:
            self._newer_persons.add(key)

    async def _with_opt_outs(self, session: Session) -> list[Item]:
        """A claim carries whether the person has opted out meanwhile."""
        homes = {
            m.home: None
            for i in self._items
            if isinstance(i.event, Claimed) and (m := self._messages.get(i.message_id))
        }
        if not homes:
            return list(self._items)
        (scopes,) = await session.call([("HMGET", self._keys.opt_outs, *homes)])
        out = {
            h: OPT_OUTS[s] for h, s in zip(homes, values_in(scopes), strict=True) if s is not None
        }
        if not out:
            return list(self._items)
        return [self._opted_out(item, out) for item in self._items]

    def _opted_out(self, item: Item, scopes: dict[str, OptOut]) -> Item:
        message = self._messages.get(item.message_id)
        if message is None or not isinstance(item.event, Claimed) or message.home not in scopes:
            return item
        return replace(item, event=replace(item.event, opt_out=scopes[message.home]))

    def _keys_of_person(self, message: Message) -> list[str]:
        if self._shards == 1:
            return [self._keys.identity(kind, value) for kind, value in message.identities]
        return [
            keys_of(shard_of(value, self._shards)).identity(kind, value)
            for kind, value in message.identities
        ]

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
                    item.event,
                    self._policy,
                    self._now_ms,
                    alone=times[item.message_id] == 1,
                )
                for key in self._person_keys[message.id]
                if key not in self._persons and key not in self._newer_persons
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
        if item.message_id in self._newer:
            return Applied(item, None, Effects(), newer=True)
        if message is None:
            self._acknowledge(item)
            return Applied(item, None, Effects())
        if item.claimed_ms is not None and _step_of(item, message).claimed_ms != item.claimed_ms:
            self._acknowledge(item)
            return Applied(item, message, Effects())
        keys = self._person_keys[message.id]
        if not self._newer_persons.isdisjoint(keys):
            return Applied(item, None, Effects(), newer=True)
        persons = [p for k in keys if (p := self._persons.get(k)) is not None]
        effects = cascade.advance(message, item.event, persons, self._policy, self._now_ms)
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
        isinstance(item.event, Claimed)
        and _step_of(item, message).status == StepStatus.SENDING
        and item.event.provider in (None, _step_of(item, message).provider)
    )


def _step_of(item: Item, message: Message) -> Step:
    """The step an event names, else the current one."""
    index = getattr(item.event, "step", CURRENT)
    return message.steps[message.current if index == CURRENT else index]
