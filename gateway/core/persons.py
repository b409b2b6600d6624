"""What a person's record says and how it changes: campaign claims and cap slots.

A message may belong to two identities of one person (phone number and the caller's `user` id), each
with a record of its own. Both are changed alike, so a duplicate or a full cap under either counts.
Every function takes the records of all of them and changes those in place; the caller owns freshly
decoded ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.policy import Policy
from gateway.core.records.message import Message
from gateway.core.records.person import Claim, Person
from ratelimit import caps
from ratelimit.caps import Full, Slot


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
) -> Full | None:
    """The strictest cap that one more message on this channel would break, under any identity."""
    if category not in policy.slot_ms:
        return None
    found = [
        full
        for person in people
        if person.slots
        and (full := caps.check(policy.caps, person.slots, category, channel, now_ms, but=but))
    ]
    return max(found, key=lambda full: full.retry_at_ms, default=None)


def take(
    people: Sequence[Person],
    message_id: str,
    campaign: str | None,
    category: str,
    channel: str,
    policy: Policy,
    now_ms: int,
) -> bool:
    """Takes the claim and slot the message needs, or moves its slot; returns whether it has any."""
    takes_slot = category in policy.slot_ms
    if campaign is None and not takes_slot:
        return False
    for person in people:
        if campaign is not None:
            claim = person.claims.get(campaign)
            if claim is None or _is_free(claim, message_id, now_ms):
                person.claims[campaign] = Claim(message_id, 0)
        if takes_slot:
            person.slots = [s for s in person.slots if s.message != message_id]
            person.slots.append(Slot(message_id, now_ms, category, channel))
    return True


def keep(people: Sequence[Person], message: Message, policy: Policy, now_ms: int) -> bool:
    """The message was delivered: its claim lasts for the de-duplication window from now. Returns
    whether it holds anything.

    A late delivery may find its claim given back, or taken by a newer message that is still live.
    Then it takes the claim back: the newer one may end without delivery, and what arrived must not
    be forgotten with it. A claim of another delivered message stays. A slot that no cap counts any
    more, because the delivery came that late, counts from now.
    """
    assert message.delivered_step >= 0
    channel = message.steps[message.delivered_step].channel
    takes_slot = message.category in policy.slot_ms
    for person in people:
        if message.campaign is not None:
            claim = person.claims.get(message.campaign)
            if claim is None or claim.until_ms == 0 or _is_free(claim, message.id, now_ms):
                person.claims[message.campaign] = Claim(message.id, now_ms + policy.dedupe_ms)
        if takes_slot and not any(
            s.message == message.id and _counts(s, policy, now_ms) for s in person.slots
        ):
            person.slots = [s for s in person.slots if s.message != message.id]
            person.slots.append(Slot(message.id, now_ms, message.category, channel))
    return takes_slot or message.campaign is not None


def give_back(people: Sequence[Person], message: Message) -> None:
    """Nothing arrived: claim and slot are free again, so that the app may try once more."""
    release(people, message.id, message.campaign)


def release(people: Sequence[Person], message_id: str, campaign: str | None) -> None:
    """Drops what a message holds; what others hold stays."""
    for person in people:
        if campaign is not None:
            claim = person.claims.get(campaign)
            if claim is not None and claim.message == message_id:
                del person.claims[campaign]
        person.slots = [s for s in person.slots if s.message != message_id]


def prune(person: Person, policy: Policy, now_ms: int) -> int | None:
    """Drops what no rule can need any more; returns when the record as a whole may go.

    None: it holds a live claim and must stay. 0: it is empty already.
    """
    if person.claims:
        person.claims = {k: c for k, c in person.claims.items() if not _lapsed(c, now_ms)}
    if person.slots:
        person.slots = [s for s in person.slots if _counts(s, policy, now_ms)]
    last = 0
    for claim in person.claims.values():
        if claim.until_ms == 0:
            return None
        last = max(last, claim.until_ms)
    for slot in person.slots:
        last = max(last, slot.at_ms + policy.slot_ms.get(slot.category, 0))
    return last


def _is_free(claim: Claim, message_id: str, now_ms: int) -> bool:
    """Whether a message may have it: its own, or over."""
    return claim.message == message_id or _lapsed(claim, now_ms)


def _counts(slot: Slot, policy: Policy, now_ms: int) -> bool:
    """Whether any cap can still count it."""
    return slot.at_ms + policy.slot_ms.get(slot.category, 0) > now_ms


def _lapsed(claim: Claim, now_ms: int) -> bool:
    return claim.until_ms != 0 and claim.until_ms <= now_ms


def copy_state(person: Person, message: Message, policy: Policy, now_ms: int) -> None:
    """Makes one identity's record say what the message's own record says: safe to repeat.

    For an identity whose record lives in another shard and cannot change in one transaction with
    the message. The moments are the message's, so a late copy says the same as a prompt one.
    """
    if not message.holds:
        give_back([person], message)
        return
    step = message.steps[message.delivered_step if message.delivered_step >= 0 else message.current]
    since_ms = message.updated_ms
    if message.delivered_step >= 0:
        # What a provider's wrong clock says must not shorten or lengthen them.
        since_ms = min(max(step.done_ms, step.first_claimed_ms), now_ms)
    if message.category in policy.slot_ms and not any(
        s.message == message.id and s.channel == step.channel and _counts(s, policy, now_ms)
        for s in person.slots
    ):
        person.slots = [s for s in person.slots if s.message != message.id]
        person.slots.append(Slot(message.id, since_ms, message.category, step.channel))
    if message.campaign is None:
        return
    claim = person.claims.get(message.campaign)
    arrived = message.delivered_step >= 0
    live = claim is not None and claim.until_ms == 0
    if claim is None or _is_free(claim, message.id, now_ms) or (arrived and live):
        until_ms = since_ms + policy.dedupe_ms if arrived else 0
        person.claims[message.campaign] = Claim(message.id, until_ms)
