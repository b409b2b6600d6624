"""Which step each line of the providers' bills is for, and which of them we never learned of. Pure.

Most providers know a step by our reference. FCM knows its message, and an SMSC an id of its own,
which a step has once it was answered. Where the answer was lost nobody can be asked: the line is
then a step's of the same phone that lost so many answers, and no receipt can tell us of it. The
same goes for a notification, of which no receipt tells at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.chaos.records import STEP_DELIVERED, Record, Step
from bench.stack import FCM, SMPP, SMTP

WITHOUT_LOOK_UPS = (FCM, SMPP, SMTP)
NAMELESS = "nameless-"  # how an SMSC's book calls what it has no reference of ours for
REJECTED = "rejected"

Place = tuple[str, int]  # a message's id, a step
Line = dict[str, Any]
Bill = Mapping[Place, list[Line]]


class Billed(NamedTuple):
    """`every` line by its step; `learned` without those that no answer or receipt told us of;
    `foreign` are nobody's."""

    every: Bill
    learned: Bill
    foreign: list[str]


def of(lines: Mapping[str, Line], messages: Mapping[str, Record]) -> Billed:
    """Finds the step of each line."""
    every: defaultdict[Place, list[Line]] = defaultdict(list)
    learned: defaultdict[Place, list[Line]] = defaultdict(list)
    foreign: list[str] = []
    sessions = _Sessions(messages)
    strangers: list[tuple[str, Line]] = []
    for ref, line in lines.items():
        place = _named(ref, messages)
        if ref.startswith(NAMELESS):
            place = sessions.known(line)
            if place is None:
                strangers.append((ref, line))
                continue
        if place is None:
            foreign.append(ref)
            continue
        every[place].append(line)
        if not _silent(messages.get(place[0]), place[1]):
            learned[place].append(line)
    for ref, line in strangers:
        place = sessions.lost(line)
        if place is not None:
            every[place].append(line)
            if sessions.was_told_of(place):
                learned[place].append(line)
        elif line["outcome"] != REJECTED or not sessions.has(line["to"]):
            foreign.append(ref)
    return Billed(every, learned, foreign)


def _named(ref: str, messages: Mapping[str, Record]) -> Place | None:
    """The step of our own reference, or of a message and its device."""
    if "/" in ref:
        id_ = ref.partition("/")[0]
        message = messages.get(id_)
        steps = message.steps if message is not None else []
        return next(((id_, n) for n, step in enumerate(steps) if step.provider == FCM), None)
    id_, _, rest = ref.partition(".")
    number = rest.partition(".")[0]
    return (id_, int(number)) if number.isdecimal() else None


def _silent(message: Record | None, number: int) -> bool:
    """Whether the step is one of which only its answer could tell, and that was lost."""
    if message is None:
        return False
    step = message.steps[number]
    return step.provider == FCM and step.lost > 0 and step.status < STEP_DELIVERED


class _Sessions:
    """The steps that went over SMPP, by the ids that they were given and by their phones."""

    def __init__(self, messages: Mapping[str, Record]) -> None:
        self._by_id: dict[str, Place] = {}
        self._by_phone: defaultdict[str, list[tuple[Place, Step]]] = defaultdict(list)
        self._lost: Counter[Place] = Counter()
        self._told: Counter[Place] = Counter()
        for id_, message in messages.items():
            for number, step in enumerate(message.steps):
                if step.provider == SMPP:
                    place = id_, number
                    self._by_id |= dict.fromkeys(step.ids, place)
                    self._by_phone[message.to].append((place, step))
                    self._lost[place] = step.lost
                    # A further sending is charged by our own reference, each of its parts apart.
                    self._told[place] = sum(_named(each, messages) == place for each in step.ids)

    def known(self, line: Line) -> Place | None:
        return next((self._by_id[id_] for id_ in line["echo"] if id_ in self._by_id), None)

    def has(self, phone: str) -> bool:
        return phone in self._by_phone

    def lost(self, line: Line) -> Place | None:
        """A step of the phone with an answer lost that no other line has taken yet, first one of
        whose sendings we were told."""
        if line["outcome"] == REJECTED:
            return None
        places = [place for place, _ in self._by_phone.get(line["to"], ())]
        for place in sorted(places, key=lambda each: not self._told[each]):
            if self._lost[place]:
                self._lost[place] -= 1
                return place
        return None

    def was_told_of(self, place: Place) -> bool:
        """Whether a receipt told of that sending, whose answer came late or was lost."""
        self._told[place] -= 1
        return self._told[place] >= 0
