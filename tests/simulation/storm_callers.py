"""The callers of a storm: they send, repeat, cancel and opt out, and remember what was promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from gateway.core.addresses import NOBODY
from gateway.core.events import Cancelled, Reacted
from gateway.core.people.opt_outs import Origin
from gateway.core.records.content import Content
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.records.words import ReactionName
from gateway.ingress.intake.known_users import KnownUsers
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs
from gateway.store.waiting import zones
from tests.simulation.storm_audience import HIDING, LATER, QUIET
from tests.simulation.storm_people import USERS
from tests.simulation.storm_provider import ARRIVING, POISON, Letter
from tests.simulation.storm_seams import AWAY
from tests.worlds.cascade_world import T0, request

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

TRIES_MAX = 6
GIVE_UP_S = 12.0  # an ingress process that dies in the middle of a request
KINDS: tuple[ReactionName, ...] = ("clicked", "replied")


class Callers:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.promised: dict[str, str] = {}  # id: the phone
        self.asked_s: dict[str, tuple[float, float]] = {}  # id: when it was sent, and accepted
        self.refused = 0
        self.unheard = 0
        self.cancelled: set[str] = set()
        self.unfunded: set[str] = set()  # accepted, and held by a budget
        self.reacted_s: dict[str, float] = {}  # id: when a reaction was first taken
        chance = storm.chance
        people = max(3, storm.plan.messages // (5 if storm.plan.merges else 2))
        self.phones = [str(79_160_000_000 + n) for n in range(people)]
        self.campaigns: tuple[str, ...] = ("a", "b")
        if storm.plan.merges:  # of more than a cap allows, where people come to be one
            self.campaigns = ("a", "b", "c", "d", "e")
        if storm.plan.leaves_out:
            self.campaigns += (LATER, QUIET)
        self.users = {phone: chance.choice((None, f"u{phone[-3:]}")) for phone in self.phones}

    def begin(self) -> None:
        storm, chance = self.storm, self.storm.chance
        for number in range(storm.plan.messages):
            at_s = chance.choice((0.0, 1.0, 1.0, 30.0, 3_000.0)) + chance.uniform(0, 5)
            wish = self._wish(number)
            storm.start(at_s, self._send, wish)
        if chance.random() < 0.3:
            phone = chance.choice(self.phones)
            scope = chance.choice(("marketing", "all"))
            storm.start(chance.uniform(0, 20), self._opt_out, phone, scope)

    def _wish(self, number: int) -> dict[str, Any]:
        chance = self.storm.chance
        phone = chance.choice(self.phones)
        category = chance.choice(("otp", "transactional", "marketing", "marketing"))
        if self.storm.plan.hides and chance.random() < 0.2:
            phone = HIDING
        wish: dict[str, Any] = {
            "to": phone,
            "user": self.users.get(phone),
            "category": category,
            "campaign": chance.choice(self.campaigns) if category == "marketing" else None,
            "route": chance.choice((None, None, "sms-only", "viber-only")),
            "content": Content(POISON if chance.random() < 0.05 else "Привет"),
            "ttl_ms": chance.choice((None, None, 20_000, 3_600_000)),
            "idempotency_key": f"k{number}" if chance.random() < 0.6 else None,
            "body_hash": b"%d" % number,
        }
        plan = self.storm.plan
        if plan.merges:
            wish["user"] = chance.choice((self.users.get(phone), *USERS))
            if wish["user"] in USERS and chance.random() < 0.3:
                wish |= {"addresses": NOBODY, "country": ""}  # those of the stored user
        if plan.timed and chance.random() < 0.4:
            wish["not_before_ms"] = T0 + chance.choice((2_000, 60_000, 9 * 3_600_000))
        return wish

    async def _send(self, wish: dict[str, Any]) -> None:
        self.storm.busy += 1
        try:
            await self._ask(wish)
        finally:
            self.storm.busy -= 1

    async def _ask(self, wish: dict[str, Any]) -> None:
        """Asks until it is answered, so many times."""
        storm = self.storm
        clock, store = storm.clock(), storm.store(storm.client())
        known, asked_s = KnownUsers(store, clock), trio.current_time()
        for _ in range(TRIES_MAX):
            id_ = store.new_message_id(wish["to"], clock())
            send: MessageRequest = request(id=id_, **wish)
            answer = None
            with trio.CancelScope() as scope:
                if not storm.calm and storm.chance.random() < storm.plan.die_share * 10:
                    scope.deadline = trio.current_time() + storm.chance.choice((0.0003, 0.001, 0.4))
                try:
                    (send, *_), _ = await known.complete([send])
                    if send.addresses == NOBODY:
                        return  # nobody stored the user
                    (answer,) = await store.admit([send], clock())
                    await store.apply(await zones.accepted(store, [send], [answer]), clock())
                except AWAY:
                    storm.note(f"nobody says whether {id_} was taken")
            if answer is not None:
                self._heard(send, answer, asked_s)
                return
            self.unheard += 1
            await trio.sleep(storm.chance.choice((0.1, 2.0, 15.0)))

    def _heard(self, send: MessageRequest, answer: Answer, asked_s: float) -> None:
        storm = self.storm
        storm.note(f"{send.category} {send.id} to {send.home}: {answer.outcome} {answer.id or ''}")
        if answer.outcome != "accepted":
            self.refused += 1
            return
        assert answer.id is not None
        if answer.held is not None and answer.held.reason == "budget":
            self.unfunded.add(answer.id)
        self.promised[answer.id] = send.home
        self.asked_s[answer.id] = asked_s, trio.current_time()
        storm.people.one_person(asked_s, send.identities)
        if storm.chance.random() < 0.1:
            delay_s = storm.chance.choice((0.01, 1.0, 20.0, 1_000.0))
            storm.start(delay_s, self._cancel, answer.id)

    async def _cancel(self, id_: str) -> None:
        storm = self.storm
        clock, store = storm.clock(), storm.store(storm.client())
        storm.busy += 1
        try:
            (applied,) = await store.apply([Item(id_, Cancelled())], clock())
        except AWAY:
            return
        finally:
            storm.busy -= 1
        storm.note(f"{id_} is cancelled: {applied.effects.refused or 'yes'}")
        if applied.effects.changed:
            self.cancelled.add(id_)

    def read(self, letter: Letter) -> None:
        """A person has what a provider delivered, and may click on it once it arrives."""
        storm = self.storm
        if storm.plan.react_s and letter.fate in ARRIVING and storm.chance.random() < 0.3:
            delay_s = storm.chance.choice((0.5, 20.0, 70.0, 2_000.0, 5_000.0))
            kind = storm.chance.choice(KINDS)
            storm.start(delay_s, self._react, letter, kind)

    async def _react(self, letter: Letter, kind: ReactionName) -> None:
        storm, ref = self.storm, letter.ref
        clock, store = storm.clock(), storm.store(storm.client())
        now_ms = clock()
        storm.busy += 1
        try:
            item = Item(ref.message_id, Reacted(ref.step, kind, now_ms))
            (applied,) = await store.apply([item], now_ms)
        except AWAY:
            storm.start(30.0, self._react, letter, kind)
            return
        finally:
            storm.busy -= 1
        storm.note(f"{ref.message_id}.{ref.step} is {kind}: {applied.effects.refused or 'yes'}")
        if applied.message is not None and applied.effects.refused is None:
            letter.reported = True  # a reaction proves it
            self.saw_reaction(ref.message_id)

    def saw_reaction(self, id_: str) -> None:
        self.reacted_s.setdefault(id_, trio.current_time())

    async def _opt_out(self, phone: str, scope: Any) -> None:
        try:
            client = self.storm.client()
            await opt_outs.put(client, self.storm.store(client).shards, phone, scope, Origin())
        except AWAY:
            self.storm.note("an opt-out was not taken")
            return
        self.storm.people.stop(phone, scope)
