"""Whether a person is reached on a channel: learned from what providers say of the address, asked
before a step starts. And how often the person was reached and reacted there. Pure.

A refusal that says that the address reaches nobody there (no such user, an unknown number) holds
for as long as `[reach] forget` says, and for that address alone; a delivery to it ends that. Where
a person has several records, the latest that was learned counts. A record is changed only where
what it says changes: `learn` returns whether it is to be written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.campaigns import audience
from gateway.core.channels import CHANNELS
from gateway.core.people import persons
from gateway.core.people.rates import (
    HALF_LIFE_S,
    NOTHING,
    THOUSAND,
    AppRates,
    Counted,
    PersonRate,
    counted_of,
    memories,
    prior_of,
    rate_of,
)
from gateway.core.policy import Policy
from gateway.core.records.message import Step, StepStatus
from gateway.core.records.person import DAY_MS, ChannelMemory, Person
from gateway.core.records.request import MessageRequest
from gateway.core.records.words import ReactionName
from providers.contract import Fault

NOT_REACHABLE = Fault("not_reachable", "not_reachable", True)
AGAIN_S = 86_400  # a refusal that repeats what is known is noted once a day
KEEP_COUNTED_MS = 4 * HALF_LIFE_S * 1000  # after so long without another little is left of a count
HIDDEN_DELIVERIES = 10  # none of them seen
ONE_EXPOSURE, ONE_REACTION = Counted(exposures=THOUSAND), Counted(reactions=THOUSAND)

_encode = msgspec.msgpack.Encoder().encode


def is_unreachable(
    people: Iterable[Person], channel: str, addresses: Addresses, policy: Policy, now_ms: int
) -> bool:
    """Whether it is known that the address for this channel reaches nobody there."""
    latest = _latest(people, channel)
    if latest is None or latest.reached or now_ms >= latest.known_s * 1000 + policy.reach.forget_ms:
        return False
    return latest.address == mark_of(addresses, channel)


def _latest(people: Iterable[Person], channel: str) -> ChannelMemory | None:
    """Of several records what was learned last."""
    known = memories(people, channel)
    return max(known, key=lambda memory: memory.known_s, default=None)


def learn(
    person: Person,
    channel: str,
    addresses: Addresses,
    policy: Policy,
    *,
    reached: bool,
    at_ms: int,
) -> bool:
    """Notes in the record, in place, that the person was reached on a channel, or is not to be
    reached there, at that moment; returns whether that changed it. That the person is reached is
    nothing new where nothing else is known."""
    known = person.channels.get(channel, _NOTHING)
    if reached and (known.reached or not known.known_s):
        return False
    mark, at_s = mark_of(addresses, channel), at_ms // 1000
    same = known.address == mark
    if not mark or at_s < known.known_s or (reached and not same):
        return False
    if not reached and same and not known.reached and at_s < known.known_s + AGAIN_S:
        return False
    keep_d = _day_after(at_ms + policy.reach.forget_ms)
    memory = replace(
        known, known_s=at_s, reached=reached, address=mark, keep_d=max(known.keep_d, keep_d)
    )
    _keep(person, channel, memory)
    return True


def arrived(person: Person, channel: str, addresses: Addresses, policy: Policy, at_ms: int) -> bool:
    """Notes in the record, in place, that something was delivered at that moment; returns whether
    that changed it. It is an exposure where anybody needs to know how many there are."""
    changed = learn(person, channel, addresses, policy, reached=True, at_ms=at_ms)
    if not policy.counts:
        return changed
    known = person.channels.get(channel, _NOTHING)
    mark, at_s = mark_of(addresses, channel), at_ms // 1000
    news = {"deliveries": min(known.deliveries + 1, HIDDEN_DELIVERIES)}
    if mark and at_s >= known.known_s:
        news |= {"known_s": at_s, "reached": True, "address": mark}
    _keep(person, channel, _counted(known, ONE_EXPOSURE, at_ms, **news))
    return True


def reacted(
    person: Person,
    channel: str,
    kind: ReactionName,
    at_ms: int,
    *,
    counts: bool,
) -> None:
    """Notes in the record, in place, what the person did at that moment. `counts`: it is what rates
    count (`rates.counts_as`)."""
    known = person.channels.get(channel, _NOTHING)
    one = ONE_REACTION if counts else NOTHING
    news = {"seen": True} if kind == "seen" else {"acted": True}
    _keep(person, channel, _counted(known, one, at_ms, **news))


def hides_seen(people: Sequence[Person], channel: str) -> bool:
    """Whether the person hides on a channel that something was seen: it was sent enough there, saw
    nothing of it by what is told, and yet clicked or replied."""
    known = memories(people, channel)
    return (
        any(memory.deliveries >= HIDDEN_DELIVERIES for memory in known)
        and any(memory.acted for memory in known)
        and not any(memory.seen for memory in known)
    )


def end_hidden_on_delivery(steps: Iterable[Step], people: Sequence[Person], policy: Policy) -> None:
    """Steps that would wait for what their person hides wait for the delivery alone."""
    if not policy.counts or policy.reach.hidden_seen != "delivered":
        return
    for step in steps:
        if step.until == "seen" and hides_seen(people, step.channel):
            step.until, step.react_ms, step.hidden = "delivered", 0, True


def _counted(known: ChannelMemory, one: Counted, at_ms: int, **news: int) -> ChannelMemory:
    """One more, in whatever order they come, and what else is new."""
    at_s = at_ms // 1000
    now_s = max(at_s, known.counted_s)
    before = Counted(known.exposures, known.reactions).faded(now_s - known.counted_s)
    more = one.faded(now_s - at_s)
    keep_d = max(known.keep_d, _day_after(at_ms + KEEP_COUNTED_MS))
    return replace(
        known,
        exposures=before.exposures + more.exposures,
        reactions=before.reactions + more.reactions,
        counted_s=now_s,
        keep_d=keep_d,
        **news,
    )


def _day_after(at_ms: int) -> int:
    """The first day, of those since 1970, that begins at that moment or later."""
    return -(-at_ms // DAY_MS)


def _keep(person: Person, channel: str, memory: ChannelMemory) -> None:
    person.channels = {**person.channels, channel: memory}


def take_over(person: Person, others: Iterable[Person]) -> bool:
    """Takes over, in place, what other records of the same person remember: what was learned last,
    and the counts of the one that knows more. Returns whether that changed it; taken over again it
    changes nothing."""
    before, others = person.channels, list(others)
    for other in others:
        for channel, theirs in other.channels.items():
            ours = person.channels.get(channel, _NOTHING)
            learned = max(ours, theirs, key=lambda one: one.known_s)
            counts = max(ours, theirs, key=lambda one: (one.exposures, one.reactions))
            memory = replace(
                counts,
                known_s=learned.known_s,
                reached=learned.reached,
                address=learned.address,
                keep_d=max(ours.keep_d, theirs.keep_d),
                deliveries=max(ours.deliveries, theirs.deliveries),
                seen=ours.seen or theirs.seen,
                acted=ours.acted or theirs.acted,
            )
            if memory != ours:
                _keep(person, channel, memory)
    return audience.take_over(person, others) or person.channels is not before


def prune(person: Person, now_ms: int) -> None:
    """Drops what is to be forgotten."""
    for memory in person.channels.values():
        if memory.keep_d * DAY_MS <= now_ms:
            break
    else:
        return  # as almost always
    person.channels = {c: m for c, m in person.channels.items() if m.keep_d * DAY_MS > now_ms}


def skip_unreachable(
    steps: Sequence[Step],
    request: MessageRequest,
    people: Sequence[Person],
    policy: Policy,
    now_ms: int,
) -> None:
    """Skips, of the steps that could run, those on channels where the person is not reached, while
    a later one could run: the last is tried all the same."""
    for index, step in enumerate(steps):
        if step.status != StepStatus.PLANNED:
            continue
        if not is_unreachable(people, step.channel, request.addresses, policy, now_ms):
            continue
        if any(
            later.status == StepStatus.PLANNED
            and persons.full_cap(people, policy, request.category, later.channel, now_ms) is None
            for later in steps[index + 1 :]
        ):
            step.status, step.fault = StepStatus.SKIPPED, NOT_REACHABLE
        else:
            step.doubted = True


class ChannelState(msgspec.Struct, frozen=True):
    """What is known of a person on one channel. `reachable` None: nothing was heard lately of the
    address that the person has now."""

    reachable: bool | None
    reachable_ms: int | None  # since when that is known
    rate: PersonRate


def states(
    people: Sequence[Person],
    addresses: Addresses,
    app: str,
    policy: Policy,
    rates: AppRates,
    now_ms: int,
) -> dict[str, ChannelState]:
    """What is known of a person on each channel for which there is an address, or which is
    remembered, as an app sees it."""
    remembered = {channel for person in people for channel in person.channels}
    return {
        channel: _state(people, channel, addresses, app, policy, rates, now_ms)
        for channel, row in CHANNELS.items()
        if channel in remembered or addresses.has(row.address)
    }


def _state(
    people: Sequence[Person],
    channel: str,
    addresses: Addresses,
    app: str,
    policy: Policy,
    rates: AppRates,
    now_ms: int,
) -> ChannelState:
    latest = _latest(people, channel) or _NOTHING
    holds = now_ms < latest.known_s * 1000 + policy.reach.forget_ms
    of_it = latest.address == (mark_of(addresses, channel) or latest.address)
    known = bool(latest.known_s) and holds and of_it
    rate = rate_of(counted_of(people, channel, now_ms), prior_of(app, channel, policy, rates))
    at_ms = latest.known_s * 1000 if known else None
    return ChannelState(latest.reached if known else None, at_ms, rate)


def mark_of(addresses: Addresses, channel: str) -> int:
    """A mark of the address for a channel, to tell it from another; 0: there is none."""
    row = CHANNELS.get(channel)
    if row is None or not addresses.has(row.address):
        return 0
    return zlib.crc32(_encode(getattr(addresses, row.address))) or 1


_NOTHING = ChannelMemory()
