"""What the durable book's lines say, and what a whole book of them amounts to.

A line is one thing that happened: a message accepted with its whole fate, a message sent again,
changes of state, reports nobody is owed any more. So a fate is never drawn twice, whatever the
knobs say by then. Pure: `bookfile` reads and writes the file. A line of no known shape is a
msgspec.MsgspecError.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.book import Book, Entry, Hooks
from providers.simulator.fate import Kind
from providers.simulator.prices import Tag
from providers.simulator.twins import TWINS
from providers.simulator.vocabulary import State

Plan = list[tuple[int, Kind]]  # (epoch ms, what), changes before reports
Item = tuple[str, Kind]  # message id, what

CHANGES: Final = frozenset({Kind.FINISH, Kind.SEE, Kind.REVIVE, Kind.CLICK})
_NAMELESS, _BULK = "nameless-", "bulk-"


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="accepted", gc=False):
    """A message as it was when its send was answered; `plan` is what was still to come of it."""

    twin: str
    channel: Channel
    message_id: str
    to: str
    sender: str
    bulk_id: str
    accepted_ms: int
    parts: int
    amount: Decimal
    currency: str
    status: int
    error: int
    hooks: Hooks
    state: State
    done_ms: int
    seen_ms: int
    charged_ms: int
    news: bool
    plan: Plan
    link: str = ""


class Repeated(msgspec.Struct, frozen=True, array_like=True, tag="repeated", gc=False):
    """The message was sent again."""

    message_id: str


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed", gc=False):
    """A change of state at `at_ms`; `charge`: a delivery was charged then."""

    at_ms: int
    message_id: str
    kind: Kind
    charge: bool


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled", gc=False):
    """Reports that were taken or given up."""

    items: list[Item]


Line = Accepted | Repeated | Changed | Settled


def accepted(entry: Entry, plan: Plan) -> Accepted:
    """The line of a message that has just been accepted or rejected."""
    return Accepted(
        twin=entry.words.provider,
        channel=entry.channel,
        message_id=entry.message_id,
        to=entry.to,
        sender=entry.sender,
        bulk_id=entry.bulk_id,
        accepted_ms=entry.accepted_ms,
        parts=entry.parts,
        amount=entry.tag.amount,
        currency=entry.tag.currency,
        status=entry.status.id,
        error=entry.error.id,
        hooks=entry.hooks,
        state=entry.state,
        done_ms=entry.done_ms,
        seen_ms=entry.seen_ms,
        charged_ms=entry.charged_ms,
        news=entry.news,
        plan=plan,
        link=entry.link,
    )


class Recalled:
    """What the lines taken so far amount to: a book, and by message what is still to come."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.plans: dict[str, Plan] = {}
        self.bulks = self.nameless = 0  # how many ids were given
        self._tags: dict[Tag, Tag] = {}
        self._hooks: dict[Hooks, Hooks] = {}  # as before, messages share them

    def take(self, line: Line) -> None:
        """Takes the next line. One about a message that no line accepted is a ValueError."""
        match line:
            case Accepted():
                self._accepted(line)
            case Repeated(message_id):
                self.book.repeat(self._entry(message_id))
            case Changed(at_ms, message_id, kind, charge):
                self._changed(self._entry(message_id), kind, at_ms, charge=charge)
                self._done([(message_id, kind)])
            case Settled(items):
                self._done(items)

    def _accepted(self, line: Accepted) -> None:
        price = Tag(line.amount, line.currency)
        words = TWINS[line.twin].catalogue
        entry = Entry(
            words=words,
            channel=line.channel,
            message_id=line.message_id,
            to=line.to,
            sender=line.sender,
            bulk_id=line.bulk_id,
            accepted_ms=line.accepted_ms,
            parts=line.parts,
            tag=self._tags.setdefault(price, price),
            status=words.statuses[line.status],
            error=words.errors[line.error],
            hooks=self._hooks.setdefault(line.hooks, line.hooks),
            state=line.state,
            done_ms=line.done_ms,
            seen_ms=line.seen_ms,
            charged_ms=line.charged_ms,
            news=line.news,
            link=line.link,
        )
        self.book.add(entry)
        if line.plan:
            self.plans[line.message_id] = line.plan
        self.bulks = max(self.bulks, _number(line.bulk_id, _BULK))
        self.nameless = max(self.nameless, _number(line.message_id, _NAMELESS))

    def _changed(self, entry: Entry, kind: Kind, at_ms: int, *, charge: bool) -> None:
        if kind is Kind.FINISH:
            self.book.finish(entry, at_ms, charge=charge)
        elif kind is Kind.REVIVE:
            self.book.revive(entry, at_ms, charge=charge)
        elif kind is Kind.CLICK:
            self.book.click(entry, at_ms)
        else:
            entry.seen_ms = at_ms

    def _done(self, items: Sequence[Item]) -> None:
        """The first of each kind is not to come any more."""
        for message_id, kind in items:
            plan = self.plans.get(message_id, [])
            for index, (_, planned) in enumerate(plan):
                if planned is kind:
                    del plan[index]
                    break
            if not plan:
                self.plans.pop(message_id, None)

    def _entry(self, message_id: str) -> Entry:
        entry = self.book.get(message_id)
        if entry is None:
            raise ValueError(f"it speaks of {message_id!r}, which was never accepted")
        return entry


def _number(text: str, prefix: str) -> int:
    number = text.removeprefix(prefix)
    return int(number) if number != text and number.isascii() and number.isdecimal() else 0
