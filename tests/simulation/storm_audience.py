"""Whom a storm's campaigns leave out, when people may be written to, and who hides what is seen.

What is drawn of that, and what must hold at the end, reckoned by what callers were told and by the
wall clock alone: nothing here asks the product's own rules.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import trio
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.records.message import Message
from gateway.core.records.person import ChannelMemory, Person, pack_person
from gateway.core.records.user import StoredUser
from gateway.store.campaigns import declarations
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of, shard_of_identity
from gateway.store.people import users
from gateway.store.people.users import UserChange
from gateway.store.waiting import zones
from tests.simulation.storm_campaigns import KNOWN_S
from tests.simulation.storm_people import covers, starts_of
from tests.worlds.cascade_world import DAY, T0

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

LATER, QUIET = "later", "quiet"  # one leaves out the people of "a", the other who reacted lately
LEAVES_OUT: dict[str, dict[str, object]] = {
    LATER: {"exclude_campaigns": ("a",)},
    QUIET: {"silent_for": "1h", "silent_ms": 3_600_000},
}
SILENT_S = 3_600.0
NAMES = ("Europe/Moscow", "Asia/Vladivostok", "America/New_York")
MOMENTS_S = (0.0, 3.0, 900.0, 30_000.0, 100_000.0)
OPEN, SHUT = datetime.time(9), datetime.time(21)
A_NIGHT_S = 26 * 3_600  # whoever is known for so long may be written to for some hours of it
HIDING = "79169999999"
HIDDEN = ChannelMemory(deliveries=10, acted=True, keep_d=T0 // DAY + 30)


class Zone(NamedTuple):
    """A user's, from a moment between these two on."""

    asked_s: float
    heard_s: float
    user: str
    name: str


class Audience:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.zones: list[Zone] = []
        self.declared_s: dict[str, float] = {}  # a campaign that leaves people out: when told

    def begin(self) -> None:
        storm, chance = self.storm, self.storm.chance
        if storm.plan.leaves_out:
            for name in LEAVES_OUT:
                storm.start(0.0, self._declare, name)
        if storm.plan.zones:
            for user in sorted(filter(None, storm.callers.users.values())):
                storm.start(chance.choice(MOMENTS_S), self._locate, user, chance.choice(NAMES))
        if storm.plan.hides:
            identity = f"p:{HIDING}"
            keys = keys_of(shard_of_identity(identity, storm.plan.shards))
            person = Person(channels={"viber": HIDDEN})
            lives = str(HIDDEN.keep_d * DAY - storm.server.now_us() // 1_000).encode()
            storm.server.do_set(keys.person(identity).encode(), pack_person(person), b"PX", lives)

    async def _declare(self, name: str) -> None:
        def decide(before: Campaign | None, content: bytes) -> tuple[Campaign, bytes]:
            return replace(before or Campaign(), **LEAVES_OUT[name]), content

        async def once() -> None:
            deed = Deed(clock(), "shop", "campaign", name)
            client = storm.client()
            await declarations.change(client, storm.plan.shards, name, decide, lambda _: deed)

        storm, clock = self.storm, self.storm.clock()
        await storm.answered(once)
        self.declared_s[name] = trio.current_time()

    async def _locate(self, user: str, name: str) -> None:
        """It becomes known where a user is, until it is answered."""

        def located(before: StoredUser | None) -> StoredUser:
            return replace(before or StoredUser("shop", clock()), tz=name)

        async def once() -> None:
            store = storm.store(storm.client())
            change = UserChange(user, "", Addresses(), located)
            (kept,) = await users.change(store, [change], clock())
            await store.apply(await zones.stored(store, {user: kept}), clock())

        storm, clock = self.storm, self.storm.clock()
        asked_s = trio.current_time()
        await storm.answered(once)
        self.zones.append(Zone(asked_s, trio.current_time(), user, name))
        storm.note(f"{user} is in {name}")


# --- what holds at the end


def each_is_written_to_by_day(storm: Storm, messages: dict[str, Message]) -> None:
    """By the clock of a zone that was stored of its user by then; and who has one is not left to
    wait for it. (A budget may be full until the last night of a message, as of seed 710.)"""
    spare_s = storm.plan.clocks_apart_s + 1.0
    for message in messages.values():
        if message.category != "marketing":
            continue
        known = [zone for zone in storm.audience.zones if zone.user == message.user]
        for at_s in starts_s(message):
            there = {z.name for z in known if z.asked_s <= at_s + spare_s}
            moments = (at_s, at_s - spare_s, at_s + spare_s)
            fits = any(is_open(zone, moment) for zone in there for moment in moments)
            assert fits, f"{at_s}: at night, or nobody knows where, of {there}: {message}"
        ended_s = (message.expires_ms - T0) / 1_000
        waited = message.reason == "send_window" and not any(starts_s(message))
        waited &= not storm.plan.budget
        long_known = [zone for zone in known if zone.heard_s < ended_s - A_NIGHT_S]
        from_s = max((message.created_ms - T0) / 1_000, min((z.heard_s for z in known), default=0))
        if waited and long_known and from_s < ended_s - A_NIGHT_S:
            raise AssertionError(f"its zone was known since {long_known}: {message}")


def who_is_left_out_gets_nothing(storm: Storm, messages: dict[str, Message]) -> None:
    """Nothing of a campaign to who had the one that it leaves out, or reacted lately."""
    callers = storm.callers
    for message, earlier, since_s in later_ones(storm, messages, LATER):
        had = earlier.campaign == "a" and callers.asked_s[earlier.id][1] < since_s
        assert not had, f"{earlier.id} had reached the person of {message}"
    for message, earlier, since_s in later_ones(storm, messages, QUIET):
        at_s = callers.reacted_s.get(earlier.id, -SILENT_S)
        spare_s = 2 * storm.plan.clocks_apart_s + 1.0
        lately = since_s - SILENT_S + spare_s < at_s < since_s
        # A reaction after its address left counts for the address (seed 30926).
        lately &= not storm.people.has_left(earlier.holder, T0 + round(at_s * 1_000))
        assert not lately, f"somebody reacted to {earlier.id}, {since_s - at_s} s before {message}"


def who_hides_gets_one_leg(storm: Storm, messages: dict[str, Message]) -> None:
    """Nobody waits for a reaction that is never shown. (Who becomes one with others may have seen
    what they were sent, as of seed 20675.)"""
    for message in messages.values() if not storm.plan.merges else ():
        if message.addresses.phone == HIDING:
            legs = {step.leg for step in message.steps if step.attempts}
            assert legs <= {0}, f"its person hides what is seen: {message}"


def later_ones(
    storm: Storm, messages: dict[str, Message], campaign: str
) -> Iterator[tuple[Message, Message, float]]:
    """Each message of a campaign, once it is known what that leaves out, with each that had arrived
    or did so afterwards of the same person, and the earliest at which it was decided: it may have
    been asked for before, without an answer, as of seed 20681."""
    asked_s = storm.callers.asked_s
    known_s = storm.audience.declared_s.get(campaign, float("inf")) + KNOWN_S
    kept = [m for m in messages.values() if m.delivered_step >= 0 and not m.ended_ms]
    kept = [m for m in kept if m.id in asked_s]
    for message in messages.values():
        if message.campaign != campaign or message.id not in asked_s:
            continue
        created_s = (message.created_ms - T0) / 1_000 - storm.plan.clocks_apart_s
        since_s = max(asked_s[message.id][0], created_s)
        if since_s <= known_s:
            continue
        for earlier in kept:
            if earlier is not message and covers(storm, earlier, since_s) & {*message.identities}:
                yield message, earlier, since_s


def starts_s(message: Message) -> list[float]:
    return [(at_ms - T0) / 1_000 for at_ms in starts_of(message)]


def is_open(zone: str, at_s: float) -> bool:
    """By a clock on the wall there."""
    there = datetime.datetime.fromtimestamp(T0 / 1_000 + at_s, ZoneInfo(zone))
    return OPEN <= there.time() < SHUT
