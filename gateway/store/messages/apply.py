"""Events, in batches: loads the messages (and, where needed, their persons), lets
`core.cascade` decide each in turn, commits the lot. Whoever learns of an event (sender,
callback, timer, API) comes through here.

Events of one message in one batch are decided in order on the same record. A lane entry named with
an item is acknowledged by the same transaction that records its outcome. A message whose record is
of a newer Kaskad is left alone: its record, its timer and its lane entry stay as they are. An item
that cannot be decided is set aside (`gateway.store.quarantine`): what brought it, a lane entry or a
timer, ends, and the record stays as it is. Where too much is set aside already it is postponed: its
timer comes a minute later, and its lane entry stays pending. A person that cannot be read counts as
one who holds nothing, and is not written. A message whose stored user is of a newer Kaskad is left
alone as well, where its category needs consent.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from gateway.core import cascade
from gateway.core.effects import Effects
from gateway.core.events import CURRENT, Claimed, Event, Reported, TimerDue
from gateway.core.people.consent import lacking
from gateway.core.people.opt_outs import NONE, OptOuts, widest
from gateway.core.people.persons import note_sent_here
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.message import Message, Step, StepStatus
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.moved import MovedError
from gateway.core.records.person import Person
from gateway.redis.client import Command, RedisClient, Session
from gateway.store import quarantine
from gateway.store.base import Once, StoreBase
from gateway.store.keys import GROUP, Keys
from gateway.store.people.consent import lacking_for
from gateway.store.people.people import People, look_after_waiting, read_others, read_scopes
from gateway.store.transaction import values_in
from gateway.store.writes import Before


class LaneEntry(msgspec.Struct, frozen=True, gc=False):
    """Where a claimed message stands in its lane: the stream's key, the entry's id and the shard,
    which is the message's as well."""

    lane: str
    entry: bytes
    shard: int


class Item(msgspec.Struct, frozen=True, gc=False):
    """One event of one message.

    `entry` is acknowledged, unless the claim holds and it is sent now, or the step is being sent by
    somebody: that one's outcome, or the recovery of it, still needs an entry. With `claimed_ms` the
    event is of that claim alone: when the step was claimed anew meanwhile it changes nothing, so
    what a sender says late or twice cannot undo another's claim. `shard` is where the message is,
    for who knows it; else its id says it, or what stands there."""

    message_id: str
    event: Event
    entry: LaneEntry | None = None
    claimed_ms: int | None = None
    shard: int | None = None

    @property
    def known_shard(self) -> int | None:
        return self.shard if self.entry is None else self.entry.shard


class Applied(msgspec.Struct, gc=False):
    """`message` None: there is no such message (any more), with `newer` it is not for this process
    to read, with `set_aside` it could not be decided, with `postponed` nor be set aside. `moved`:
    nothing was decided, it is in that shard."""

    item: Item
    message: Message | None
    effects: Effects
    newer: bool = False
    set_aside: bool = False
    postponed: bool = False
    moved: int | None = None


class Application:
    """One try at deciding a batch of events of one shard; made anew for each try."""

    def __init__(
        self, store: StoreBase, keys: Keys, items: Sequence[Item], now_ms: int, once: Once
    ) -> None:
        self._store = store
        self._keys = keys
        self._redis = store.redis
        self._shards = store.shards
        self._items = items
        self._policy = store.policy
        self._now_ms = now_ms
        self._token, self._funds = once
        self._writes = store.writes(keys, now_ms)
        self._people = People(keys, store.policy, now_ms)
        ids = [item.message_id for item in items]
        self._ids = list(dict.fromkeys(ids))
        self._several = _repeated(ids) if len(self._ids) < len(ids) else frozenset[str]()
        self._messages: dict[str, Message] = {}
        self._changed: dict[str, None] = {}  # messages, in the order in which they did
        self._newer: set[str] = set()  # messages that are left alone, and in none of the others
        self._moved: dict[str, int] = {}  # to which shard
        # By message id: under which identity it holds things; that person, and who else it is.
        self._holders: dict[str, str] = {}
        self._persons: dict[str, list[Person]] = {}

    async def attempt(self, session: Session) -> tuple[list[Command], list[Applied]]:
        await self._load_messages(session)
        items = await self._with_opt_outs()
        await self._load_persons(session, items)
        before = {id_: Before.of(message) for id_, message in self._messages.items()}
        applied = [self._decide(item) for item in items]
        for id_ in self._changed:
            self._writes.message(self._messages[id_], before[id_])
        self._people.write(self._writes)
        await self._writes.learn(self._redis)
        return self._writes.commands(), applied

    async def _load_messages(self, session: Session) -> None:
        ids = self._ids
        self._ask_hinted()
        hinted = self._people.wanted()
        keys = [*self._keys.messages(ids), *hinted]
        replies = await session.call([("WATCH", self._token, *keys), ("MGET", *keys)])
        values = values_in(replies[1])
        self._people.read(hinted, values[len(ids) :])
        for id_, value in zip(ids, values, strict=False):
            if value is None:
                continue
            try:
                self._messages[id_] = unpack_message(id_, value)
            except MovedError as moved:
                self._moved[id_] = moved.shard
            except NewerRecordError:
                self._newer.add(id_)
            except UnreadableRecordError as error:
                raise error.at(self._keys.message(id_)) from None

    def _ask_hinted(self) -> None:
        """The persons that receipts name: read with the messages, they save a round trip (an eighth
        of a commit of ten receipts, 2026-11-22). One that is none of ours, or not this message's,
        was read for nothing."""
        for item in self._items:
            event = item.event
            if not isinstance(event, Reported) or event.receipt.status == "sent":
                continue
            if event.receipt.to is not None:
                self._people.ask("p:" + event.receipt.to)

    async def _with_opt_outs(self) -> list[Item]:
        """A claim carries whether the person has opted out meanwhile."""
        claimed = {
            m.id: m
            for i in self._items
            if isinstance(i.event, Claimed) and (m := self._messages.get(i.message_id))
        }
        if not claimed:
            return list(self._items)
        scopes = await read_scopes(self._redis, self._shards, claimed.values(), self._now_ms)
        for id_, lacks in (await self._lacking(list(claimed.values()))).items():
            if lacks:
                scopes[id_] = widest((scopes.get(id_, NONE), lacks))
        if not scopes:
            return list(self._items)
        return [self._opted_out(item, scopes) for item in self._items]

    async def _lacking(self, messages: Sequence[Message]) -> dict[str, OptOuts]:
        """Where their persons did not say yes; a user that cannot be read said yes to nothing, and
        costs a round trip or two a message."""
        try:
            return await lacking_for(self._store, messages)
        except (NewerRecordError, UnreadableRecordError) as error:
            if len(messages) > 1:
                alone = [await self._lacking([each]) for each in messages]
                return {id_: lacks for found in alone for id_, lacks in found.items()}
            (message,) = messages
            if isinstance(error, NewerRecordError):
                self._leave_alone(message.id)
                return {}
            await quarantine.set_aside_record(self._redis, error, self._now_ms)
            return {message.id: lacking(message.category, ())}

    def _opted_out(self, item: Item, scopes: dict[str, OptOuts]) -> Item:
        if not isinstance(item.event, Claimed) or item.message_id not in scopes:
            return item
        return replace(item, event=replace(item.event, opt_outs=scopes[item.message_id]))

    async def _load_persons(self, session: Session, items: Sequence[Item]) -> None:
        # Who was read for nothing is there all the same: what is known may be at an end.
        known = self._people.remembering
        for item in items:
            message = self._messages.get(item.message_id)
            if message is None:
                continue
            alone = message.id not in self._several
            needed = cascade.needs_people(
                message, item.event, self._policy, self._now_ms, alone=alone
            )
            if not (needed or known):
                continue
            if (holder := message.holder) and (needed or holder in known):
                self._holders[message.id] = holder
                self._people.ask(holder)
        if wanted := self._people.wanted():
            replies = await session.call([("WATCH", *wanted), ("MGET", *wanted)])
            self._people.read(wanted, values_in(replies[-1]))
        if self._people.any_apart:
            for id_, holder in self._holders.items():
                self._people.ask_claim_of(holder, self._messages[id_])
            await self._people.read_claims(session)
        for id_, holder in self._holders.items():
            try:
                person = self._people[holder]
                persons = self._persons[id_] = [person]
                if person.home or person.former:
                    persons += await self._others(holder, person, self._messages[id_])
            except NewerRecordError:
                self._leave_alone(id_)
            except UnreadableRecordError as error:
                self._persons.setdefault(id_, [Person()])
                await quarantine.set_aside_record(self._redis, error, self._now_ms)
        people = [person for persons in self._persons.values() for person in persons]
        await look_after_waiting(self._store, people, self._now_ms)

    def _leave_alone(self, message_id: str) -> None:
        """What it needs is of a newer Kaskad."""
        self._newer.add(message_id)
        del self._messages[message_id]

    async def _others(self, holder: str, person: Person, message: Message) -> Iterable[Person]:
        """Under what else the person may hold something, for the caps of a next step, which count
        what came under any identity. Raises NewerRecordError."""
        if message.category not in self._policy.slot_ms:
            return ()
        others = await read_others(self._redis, self._shards, holder, person)
        return [self._people.known(other) or each for other, each in others.items()]

    def _decide(self, item: Item) -> Applied:
        message = self._messages.get(item.message_id)
        if message is None:
            if item.message_id in self._newer:
                return Applied(item, None, Effects(), newer=True)
            self._acknowledge(item)
            moved = self._moved.get(item.message_id) if item.known_shard is None else None
            return Applied(item, None, Effects(), moved=moved)
        if item.claimed_ms is not None and _step_of(item, message).claimed_ms != item.claimed_ms:
            self._acknowledge(item)
            return Applied(item, message, Effects())
        persons = self._persons.get(message.id, ())
        if persons:
            note_sent_here(persons, self._messages)
        event, funds = item.event, self._funds
        effects = cascade.advance(message, event, persons, self._policy, self._now_ms, funds)
        self._writes.effects(message, effects)
        if effects.changed:
            self._changed[message.id] = None
        elif isinstance(event, TimerDue):
            self._writes.timer(message.id, message.due_ms)  # it says what the record says
        if effects.reserved:
            self._writes.budgets.reserve(effects.reserved, funds)
        if effects.people_changed:
            self._people.change(self._holders[message.id])
        if item.entry and not effects.submit and not is_sent_by_another(item, message):
            self._acknowledge(item)
        return Applied(item, message, effects)

    def _acknowledge(self, item: Item) -> None:
        if item.entry is not None:
            self._writes.acknowledge(item.entry.lane, item.entry.entry)


async def set_item_aside(
    redis: RedisClient, keys: Keys, item: Item, error: Exception, now_ms: int
) -> Applied:
    """An item that cannot be decided, by its record or by a fault of ours."""
    key = keys.message(item.message_id)
    found, ends, later = {key: b""}, list[Command](), list[Command]()
    if isinstance(item.event, Reported):
        # The message is not at fault where only the receipt is. It need not say to whom it went.
        unnamed = replace(item.event, receipt=replace(item.event.receipt, to=None))
        said = msgspec.json.encode(unnamed)
        found = {f"{key} receipt {zlib.crc32(said):08x}": said}
    if item.entry is not None:
        ends += [
            ("XACK", item.entry.lane, GROUP, item.entry.entry),
            ("XDEL", item.entry.lane, item.entry.entry),
        ]
    if isinstance(item.event, TimerDue):
        ends.append(("ZREM", keys.timers, item.message_id))
        due_ms = now_ms + quarantine.LATER_MS
        later.append(("ZADD", keys.timers, "XX", due_ms, item.message_id))
    listed = await quarantine.set_aside(redis, keys.shard, found, error, now_ms, ends, later)
    return Applied(item, None, Effects(), set_aside=listed, postponed=not listed)


def _repeated(ids: Iterable[str]) -> frozenset[str]:
    """Messages of which there are several events."""
    return frozenset(id_ for id_, times in Counter(ids).items() if times > 1)


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
