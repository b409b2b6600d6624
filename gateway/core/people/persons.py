"""What a person holds and how it changes: campaign claims and cap slots.

Every function that changes something changes the first of the records it is given, in place: the
one under which the message is admitted. The others are what the same person still holds from when
some identities were a person of their own; a duplicate or a full cap there counts as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.core.policy import SENDING_LIMIT_MS, Policy
from gateway.core.records.message import Message, Step, StepStatus
from gateway.core.records.person import DedupeClaim, Person
from gateway.core.records.request import MessageRequest
from gateway.core.timing import within_ms
from ratelimit import caps
from ratelimit.caps import Full, Slot

KEEP_STEP_MS = 86_400_000  # a record's end is rounded up to this, so that most sends leave it alone
OLD_HOLD_MS = 35 * 86_400_000  # no message of schema 2 was live for longer


def claimed_by(people: Sequence[Person], campaign: str, own_id: str, now_ms: int) -> str | None:
    """The message that holds (person, campaign) under any identity; None when it is free or our
    own."""
    for person in people:
        claim = person.claims.get(campaign)
        if claim is not None and claim.message != own_id and not _lapsed(claim, now_ms):
            return claim.message
    return None


def full_cap(
    people: Sequence[Person],
    policy: Policy,
    category: str,
    channel: str,
    now_ms: int,
    *,
    but: str | None = None,
    leg: int = 0,
) -> Full | None:
    """The strictest cap that one more message on this channel would break; `but`: that one, in the
    leg that begins."""
    if category not in policy.slot_ms:
        return None
    slots = _slots_of(people)
    if not slots:
        return None
    return caps.check(policy.caps, slots, category, channel, now_ms, but=but, leg=leg)


def cap_states(
    people: Sequence[Person], policy: Policy, now_ms: int, *, but: str | None = None
) -> list[Full]:
    """How much of each cap is used, and when one more fits. `but`: a message whose own slots do
    not count."""
    slots = [slot for slot in _slots_of(people) if slot.message != but]
    return [caps.used(cap, slots, now_ms) for cap in policy.caps]


def _slots_of(people: Sequence[Person]) -> list[Slot]:
    """One slot a message and leg: that of the first record that has one, under which it was moved
    last."""
    if len(people) <= 1:
        return people[0].slots if people else []
    slots = [slot for person in people for slot in person.slots]
    return list({(slot.message, slot.leg): slot for slot in reversed(slots)}.values())


def overdue(people: Iterable[Person], policy: Policy, now_ms: int) -> list[str]:
    """The messages of slots that some cap counts only if they wait still: whether they do, their
    records say."""
    old_ms = now_ms - min([cap.window_ms for cap in policy.caps], default=0)
    return [
        slot.message
        for person in people
        for slot in person.slots
        if slot.waits and slot.at_ms <= old_ms
        for cap in policy.caps
        if slot.at_ms + cap.window_ms <= now_ms and cap.counts(slot.category, slot.channel)
    ]


def note_sent(person: Person, messages: Collection[str]) -> None:
    """The slots of these messages do not wait any more: they count from when they were taken."""
    for slot in person.slots:
        if slot.message in messages:
            slot.waits = False


def note_sent_here(people: Iterable[Person], messages: Mapping[str, Message]) -> None:
    """The same of those messages that were sent since their records were read."""
    for person in people:
        for slot in person.slots:
            if slot.waits and (m := messages.get(slot.message)) and not still_waits(m):
                slot.waits = False


def still_waits(message: Message) -> bool:
    """Whether the step it is at is yet to be sent."""
    return not message.finished and message.step.status <= StepStatus.SENDING


def may_hold(request: MessageRequest, policy: Policy) -> bool:
    """Whether the message would need a claim or a slot, so that it matters who the person is."""
    return request.campaign is not None or request.category in policy.slot_ms


def surely_holds_claim(person: Person, message: Message, now_ms: int) -> bool:
    """Whether its campaign's claim is the message's own and live, without a look at the claim: it
    took it when it was accepted, in this record, and lost it to nobody since."""
    return (
        message.holds
        and message.delivered_step < 0
        and not person.contested
        and now_ms < message.expires_ms <= person.keep_ms
    )


def take(people: Sequence[Person], message: Message, policy: Policy, now_ms: int) -> bool:
    """Takes the claim and slot the message needs for its current step, or moves the slot of its
    leg, which counts from when the step is held no more; returns whether it has any."""
    takes_slot = message.category in policy.slot_ms
    if message.campaign is None and not takes_slot:
        return False
    person = people[0]
    if message.campaign is not None and message.delivered_step < 0:
        claim = person.claims.get(message.campaign)
        if claim is None or _is_free(claim, message.id, now_ms):
            person.claims[message.campaign] = DedupeClaim(message.id, 0)
    if takes_slot:
        step, held = message.step, message.held
        at_ms = max(now_ms, held.until_ms) if held is not None else now_ms
        slot = Slot(message.id, at_ms, message.category, step.channel, waits=True, leg=step.leg)
        _take_slot(person, message.id, step.leg)
        person.slots.append(slot)
    step_ms = max([step.wait_ms + step.grace_ms for step in message.steps])
    _keep_until(person, message.expires_ms + held_after_ms(step_ms, message.category, policy))
    return True


def keep(
    people: Sequence[Person],
    message: Message,
    step: Step,
    policy: Policy,
    now_ms: int,
    *,
    came_first: bool,
) -> bool:
    """The step was the first of its leg to arrive: the message's claim lasts for the de-duplication
    window from now, unless it goes on; then it stays as it is. Returns whether it holds anything.
    `came_first`: before the step that the leg's slot was moved to went out, so the slot is as it
    was.

    A late delivery may find its claim given back, or taken by a newer message that is still live.
    Then it takes the claim back: the newer one may end without delivery, and what arrived must not
    be forgotten with it. A claim of another delivered message stays. The slot counts from the
    delivery on.
    """
    assert message.delivered_step >= 0
    takes_slot = message.category in policy.slot_ms
    person = people[0]
    goes_on = step.until != "delivered" and not message.finished
    if message.campaign is not None and not goes_on:
        claim = person.claims.get(message.campaign)
        if claim is None or claim.until_ms == 0 or _is_free(claim, message.id, now_ms):
            if claim is not None and claim.until_ms == 0 and claim.message != message.id:
                person.contested = True
            person.claims[message.campaign] = DedupeClaim(message.id, now_ms + policy.dedupe_ms)
            _keep_until(person, now_ms + policy.dedupe_ms)
    if takes_slot:
        _keep_slot(person, message, step, policy, now_ms, came_first=came_first)
    return takes_slot or message.campaign is not None


def give_back(people: Sequence[Person], message: Message) -> None:
    """Nothing arrived: claim and slot are free again, so that the app may try once more. What
    others hold stays."""
    person = people[0]
    if message.campaign is not None:
        claim = person.claims.get(message.campaign)
        if claim is not None and claim.message == message.id:
            del person.claims[message.campaign]
    person.slots = [s for s in person.slots if s.message != message.id]


def give_back_leg(people: Sequence[Person], message: Message) -> None:
    """Where nothing of its latest leg arrived, the slot of that leg is free again."""
    person = people[0]
    if person.slots and not message.has_arrived(leg := message.leg):
        own = message.id, leg
        person.slots = [s for s in person.slots if (s.message, s.leg) != own]


def release(people: Sequence[Person], message: Message, policy: Policy, now_ms: int) -> None:
    """A message that arrived does not go on: its claim, where it is live, has an end from its
    latest delivery on."""
    give_back_leg(people, message)
    person = people[0]
    claim = person.claims.get(message.campaign) if message.campaign is not None else None
    if message.campaign is not None and claim == DedupeClaim(message.id):
        latest_ms = max([step.delivered_ms for step in message.steps if step.arrived])
        until_ms = within_ms(message, latest_ms, now_ms) + policy.dedupe_ms
        person.claims[message.campaign] = DedupeClaim(message.id, until_ms)
        _keep_until(person, until_ms)


def prune(person: Person, policy: Policy, now_ms: int) -> None:
    """Drops what no rule can need any more."""
    if person.claims:
        person.claims = {k: c for k, c in person.claims.items() if not _lapsed(c, now_ms)}
    if person.slots:
        lasts = policy.slot_ms  # the longest that any cap can count it
        person.slots = [
            s
            for s in person.slots
            if s.category in lasts and (s.waits or s.at_ms + lasts[s.category] > now_ms)
        ]


def is_old(person: Person) -> bool:
    """Whether it comes from a record of schema 2, where what is held may have no end."""
    return not person.keep_ms and bool(person.claims or person.slots)


def bound_old(person: Person, policy: Policy, now_ms: int) -> None:
    """Gives what a record of schema 2 holds an end. Nobody noted then who lost a claim."""
    person.contested = True
    ends = [now_ms + OLD_HOLD_MS + policy.dedupe_ms] if person.claims else []
    ends += [slot.at_ms + policy.slot_ms.get(slot.category, 0) for slot in person.slots]
    _keep_until(person, max(ends, default=0))


def held_after_ms(step_ms: int, category: str, policy: Policy) -> int:
    """How long after its last moment to start a step a message can hold anything."""
    lasts_ms = max(policy.dedupe_ms, policy.slot_ms.get(category, 0))
    return step_ms + SENDING_LIMIT_MS + lasts_ms


def _keep_until(person: Person, until_ms: int) -> None:
    if until_ms > person.keep_ms:
        person.keep_ms = -(-until_ms // KEEP_STEP_MS) * KEEP_STEP_MS


def _keep_slot(
    person: Person, message: Message, step: Step, policy: Policy, now_ms: int, *, came_first: bool
) -> None:
    """The slot of a leg that was delivered, on the channel it was moved to unless that came too
    late."""
    held = _take_slot(person, message.id, step.leg)
    channel = step.channel if came_first or held is None else held.channel
    at_ms = within_ms(message, step.delivered_ms, now_ms)
    person.slots.append(Slot(message.id, at_ms, message.category, channel, leg=step.leg))
    _keep_until(person, at_ms + policy.slot_ms[message.category])


def _take_slot(person: Person, message_id: str, leg: int) -> Slot | None:
    """Takes the one slot of a message's leg out of the record, where there is one."""
    for place, slot in enumerate(person.slots):
        if slot.message == message_id and slot.leg == leg:
            return person.slots.pop(place)
    return None


def _is_free(claim: DedupeClaim, message_id: str, now_ms: int) -> bool:
    """Whether a message may have it: its own, or over."""
    return claim.message == message_id or _lapsed(claim, now_ms)


def _lapsed(claim: DedupeClaim, now_ms: int) -> bool:
    return claim.until_ms != 0 and claim.until_ms <= now_ms
