"""The people of a storm: who turn out to be one person, change addresses, and write back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.people.stop_words import wish_in
from gateway.core.records.message import Message
from gateway.core.records.user import StoredUser
from gateway.ingress.api.people.inbound import InboundEndpoints
from gateway.ingress.http.problems import Refusal
from gateway.store.people import users
from gateway.store.people.users import UserChange
from providers.contract import PersonReply
from tests.simulation.storm_seams import AWAY
from tests.worlds.cascade_world import T0

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

USERS = ("m1", "m2")
EMAILS = (None, None, "anna@shop.example")
TEXTS = ("Спасибо", "Спасибо", "Где заказ?", "STOP", "стоп!")
AGAIN_S = 20.0
MOMENTS_S = (0.0, 2.0, 25.0, 2_000.0, 20_000.0)


class Joined(NamedTuple):
    """Identities that are one person once `heard_s` came, by a call that began at `asked_s`."""

    asked_s: float
    heard_s: float
    identities: frozenset[str]


class Parted(NamedTuple):
    """An address that may have left its person in that time."""

    asked_s: float
    heard_s: float
    identity: str


class People:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.joined: list[Joined] = []
        self.parted: list[Parted] = []
        self.stopped: list[tuple[str, str, float]] = []  # phone, scope, when that was answered
        self._in_turn = trio.Lock()
        self._had: dict[str, set[str]] = {user: set() for user in USERS}
        self._replies = 0

    def begin(self) -> None:
        storm, chance = self.storm, self.storm.chance
        for _ in range(storm.plan.merges):
            user, email = chance.choice(USERS), chance.choice(EMAILS)
            addresses = Addresses(chance.choice(storm.callers.phones), email)
            at_s = chance.choice(MOMENTS_S) + chance.uniform(0, 5)
            storm.start(at_s, self._store, user, addresses)

    async def _store(self, user: str, addresses: Addresses) -> None:
        """Until it is answered."""
        async with self._in_turn:
            asked_s = trio.current_time()
            await self.storm.answered(lambda: self._stored(user, addresses))
            heard_s = trio.current_time()
        self.storm.note(f"{user} is stored: {addresses}")
        identities = addresses.identities(user)
        moved = {*addresses.identities(None), *self._had[user]}
        self._had[user] |= set(identities) - {f"u:{user}"}
        self.parted += [Parted(asked_s, heard_s, identity) for identity in sorted(moved)]
        self.joined.append(Joined(heard_s, heard_s, frozenset(identities)))

    async def _stored(self, user: str, addresses: Addresses) -> None:
        def stored(before: StoredUser | None) -> StoredUser:
            kept = before or StoredUser("shop", clock())
            return replace(kept, addresses=addresses)

        storm, clock = self.storm, self.storm.clock()
        store = storm.store(storm.client())
        change = UserChange(user, "", addresses, stored)
        await users.change(store, [change], clock())

    def has_left(self, identity: str, at_ms: int) -> bool:
        """Whether an address may have changed hands before that moment."""
        at_s = (at_ms - T0) / 1_000
        return any(p.identity == identity and p.asked_s <= at_s for p in self.parted)

    def one_person(self, asked_s: float, identities: list[str]) -> None:
        """A message was accepted that names them."""
        self.joined.append(Joined(asked_s, trio.current_time(), frozenset(identities)))

    # --- what they write

    def read(self, provider: str, phone: str) -> None:
        """A person has what a provider delivered, and may write back."""
        storm = self.storm
        if not storm.plan.replies or storm.chance.random() > 0.3:
            return
        self._replies += 1
        text = storm.chance.choice(TEXTS)
        reply = PersonReply(f"reply {self._replies}", phone, "Shop", text)
        delay_s = storm.chance.choice((0.5, 20.0, 900.0, 4_000.0))
        storm.start(delay_s, self._reply, provider, reply)

    async def _reply(self, provider: str, reply: PersonReply) -> None:
        """The provider brings it until it is answered 200."""
        storm = self.storm
        store, clock = storm.store(storm.client()), storm.clock()
        channel: Any = provider.partition("-")[0]
        storm.busy += 1
        try:
            await InboundEndpoints(store, clock).take(provider, channel, [reply])
        except (*AWAY, Refusal):
            storm.start(AGAIN_S, self._reply, provider, reply)
            return
        finally:
            storm.busy -= 1
        storm.note(f"{reply.sender} wrote {reply.text!r}")
        if wish_in(reply.text, store.policy.stop_words) is not None:
            self.stop(reply.sender, "marketing")

    def stop(self, phone: str, scope: str) -> None:
        self.stopped.append((phone, scope, trio.current_time()))


def starts_of(message: Message) -> list[int]:
    """When its steps were claimed, the first and the last time at each provider."""
    attempts = [attempt for step in message.steps for attempt in step.attempts]
    return [at for a in attempts for at in (a.first_claimed_ms, a.claimed_ms) if at]


def covers(storm: Storm, message: Message, until_s: float) -> set[str]:
    """Who counts as the person of a message: what is held for it goes along when identities
    turn out to be one person, and stays with an address that leaves."""
    people, accepted_s = storm.people, storm.callers.asked_s[message.id][1]
    found = set(message.identities)
    for joined in sorted(people.joined, key=lambda joined: joined.heard_s):
        if joined.heard_s > until_s:
            break
        left = {
            parted.identity
            for parted in people.parted
            if parted.heard_s > joined.asked_s and parted.asked_s <= max(joined.heard_s, accepted_s)
        }
        identities = joined.identities - left
        if found & identities:
            found |= identities
    return found
