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
from gateway.core.model import Message, Person, Step, StepStatus, unpack_message
from gateway.redis.client import Command, Session
from gateway.store.base import StoreBase
from gateway.store.keys import Keys
from gateway.store.people import People, read_opt_outs, read_others
from gateway.store.transaction import values_in
from gateway.store.writes import Writes


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
        self, store: StoreBase, keys: Keys, items: Sequence[Item], now_ms: int, token: str
    ) -> None:
        self._keys = keys
        self._link = store.link
        self._shards = store.shards
        self._items = items
        self._policy = store.policy
        self._now_ms = now_ms
        self._token = token
        self._writes = Writes(keys, store.policy, store.retention, now_ms)
        self._people = People(keys, store.policy, now_ms)
        self._messages: dict[str, Message] = {}
        self._persons: dict[str, list[Person]] = {}  # by message id: its holder, and the others

    async def attempt(self, session: Session) -> tuple[list[Command], list[Applied]]:
        await self._load_messages(session)
        items = await self._with_opt_outs()
        await self._load_persons(session, items)
        due_before = {id_: message.due_ms for id_, message in self._messages.items()}
        applied = [self._decide(item) for item in items]
        for id_ in dict.fromkeys(
            a.message.id for a in applied if a.message is not None and a.effects.changed
        ):
            self._writes.message(self._messages[id_], due_before[id_])
        self._people.write(self._writes)
        return self._writes.commands(), applied

    async def _load_messages(self, session: Session) -> None:
        ids = list(dict.fromkeys(item.message_id for item in self._items))
        self._ask_hinted()
        hinted, _ = self._people.wanted()
        keys = [*(self._keys.message(id_) for id_ in ids), *hinted]
        replies = await session.call([("WATCH", self._token, *keys), ("MGET", *keys)])
        values = values_in(replies[1])
        self._people.read(hinted, values[len(ids) :])
        for id_, value in zip(ids, values, strict=False):
            if value is not None:
                self._messages[id_] = unpack_message(id_, value)

    def _ask_hinted(self) -> None:
        """The persons that receipts name: read with the messages, they save a round trip where no
        claim is to be read (an eighth of a commit of ten receipts, 2026-11-22). One that is none of
        ours, or not this message's, was read for nothing."""
        for item in self._items:
            happening = item.happening
            if not isinstance(happening, Reported) or happening.receipt.status == "sent":
                continue
            if happening.receipt.to is not None:
                self._people.ask("p:" + happening.receipt.to)

    async def _with_opt_outs(self) -> list[Item]:
        """A claim carries whether the person has opted out meanwhile."""
        phones = {
            m.to: None
            for i in self._items
            if isinstance(i.happening, Claimed) and (m := self._messages.get(i.message_id))
        }
        out = await read_opt_outs(self._link, self._shards, phones)
        if not out:
            return list(self._items)
        return [self._opted_out(item, out) for item in self._items]

    def _opted_out(self, item: Item, scopes: dict[str, OptOut]) -> Item:
        message = self._messages.get(item.message_id)
        if message is None or not isinstance(item.happening, Claimed) or message.to not in scopes:
            return item
        claim = replace(item.happening, opt_out=scopes[message.to])
        return replace(item, happening=claim)

    async def _load_persons(self, session: Session, items: Sequence[Item]) -> None:
        times = Counter(item.message_id for item in items)
        needing: dict[str, Message] = {}
        for item in items:
            message = self._messages.get(item.message_id)
            if message is not None and cascade.needs_people(
                message,
                item.happening,
                self._policy,
                self._now_ms,
                alone=times[item.message_id] == 1,
            ):
                needing[message.id] = message
                self._people.ask(message.holder, [message.campaign])
        records, claims = self._people.wanted()
        if wanted := [*records, *claims]:
            commands: list[Command] = [("WATCH", *records)] if records else []
            replies = await session.call([*commands, ("MGET", *wanted)])
            self._people.read(wanted, values_in(replies[-1]))
        for id_, message in needing.items():
            person = self._people[message.holder]
            self._persons[id_] = [person]
            if (person.home or person.former) and message.category in self._policy.slot_ms:
                # For the caps of a next step, which count what the person got under any identity.
                others = await read_others(self._link, self._shards, message.holder, person)
                self._persons[id_] += others.values()

    def _decide(self, item: Item) -> Applied:
        message = self._messages.get(item.message_id)
        if message is None:
            self._acknowledge(item)
            return Applied(item, None, Effects())
        if item.claimed_ms is not None and _step_of(item, message).claimed_ms != item.claimed_ms:
            self._acknowledge(item)
            return Applied(item, message, Effects())
        persons = self._persons.get(message.id, [])
        effects = cascade.advance(message, item.happening, persons, self._policy, self._now_ms)
        self._writes.effects(message.id, effects)
        if effects.people_changed:
            self._people.change(message.holder)
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
