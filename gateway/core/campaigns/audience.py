"""Whom a campaign leaves out: who was in another one, and who reacted lately. Pure.

A live or delivered message of the other campaign is known by its claim. Once that is over, a
person's record says it, where a declared campaign asked for it when the message was delivered: a
mark of the campaign and the day, for a year, the last REACHED_MAX of them, in some 8 bytes each.
When the person reacted last is one number, kept for a year where a declared campaign asks for it or
reactions are counted anyway; before that the messages say it for which the person holds something
still. Of several records of a person each says what it knows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from gateway.core.campaigns.campaigns import Campaign, Declared
from gateway.core.people.persons import claimed_by
from gateway.core.records.message import Message
from gateway.core.records.person import DAY_MS, REMEMBERED_MS, Person

REACHED_MAX = 64


def left_out(people: Sequence[Person], campaign: Campaign, own_id: str, now_ms: int) -> str | None:
    """Why a campaign leaves the person out; None: it does not."""
    if not (campaign.exclude_campaigns or campaign.silent_ms):
        return None
    for name in campaign.exclude_campaigns:
        if claimed_by(people, name, own_id, now_ms) or _was_reached(people, name, now_ms):
            return f"in {name}"
    reacted_s = max((person.reacted_s for person in people), default=0)
    if campaign.silent_ms and now_ms < reacted_s * 1000 + campaign.silent_ms:
        return f"reacted within {campaign.silent_for}"
    return None


def note_reached(person: Person, campaign: str | None, declared: Declared, at_ms: int) -> bool:
    """Notes in the record, in place, that a message of the campaign arrived at that moment; returns
    whether that changed it."""
    if campaign is None or campaign not in declared.excluded:
        return False
    day = at_ms // DAY_MS
    if person.reached.get(mark_of(campaign), 0) >= day:
        return False
    person.reached = _latest(person.reached | {mark_of(campaign): day})
    return True


def note_reaction(person: Person, at_ms: int) -> None:
    """Notes in the record, in place, that the person reacted at that moment."""
    person.reacted_s = max(person.reacted_s, at_ms // 1000)


def reacted_ms(message: Message) -> int:
    """When its person reacted to a message last; 0: not. Of a reply it is not kept: at the latest
    then."""
    if not message.reaction:
        return 0
    moments = [max(step.seen_ms, step.clicked_ms) for step in message.steps]
    return max(moments) or message.updated_ms


def take_over(person: Person, others: Iterable[Person]) -> bool:
    """Takes over, in place, what other records of the same person say; returns whether that changed
    it."""
    reached, reacted_s = person.reached, person.reacted_s
    for other in others:
        known = person.reached
        theirs = {mark: max(day, known.get(mark, 0)) for mark, day in other.reached.items()}
        if theirs.items() - known.items():
            person.reached = _latest(known | theirs)
        person.reacted_s = max(person.reacted_s, other.reacted_s)
    return person.reached != reached or person.reacted_s != reacted_s


def prune(person: Person, now_ms: int) -> None:
    """Drops what is to be forgotten."""
    if any(not _counts(day, now_ms) for day in person.reached.values()):
        person.reached = {m: day for m, day in person.reached.items() if _counts(day, now_ms)}


def _was_reached(people: Iterable[Person], campaign: str, now_ms: int) -> bool:
    mark = mark_of(campaign)
    return any(_counts(person.reached.get(mark, 0), now_ms) for person in people)


def _counts(day: int, now_ms: int) -> bool:
    return now_ms < day * DAY_MS + REMEMBERED_MS


def _latest(reached: dict[int, int]) -> dict[int, int]:
    """The last of them, in a steady order."""
    if len(reached) <= REACHED_MAX:
        return reached
    return dict(sorted(reached.items(), key=lambda item: (item[1], item[0]))[-REACHED_MAX:])


def mark_of(campaign: str) -> int:
    return zlib.crc32(campaign.encode())
