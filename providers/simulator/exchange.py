"""The provider itself, without its wires: accepts sends, lets time pass, says what to report.

It holds the book and the schedule; what a request or a report looks like is its twin's. Time is an
argument, so a test can live a day in a moment; HTTP, retries and the faults of a request belong to
`app` and `pusher`. Never fails: what cannot be sent is rejected in the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, NamedTuple

from providers.contract import Channel
from providers.simulator.book import Book, Entry
from providers.simulator.fate import Fate, Kind, fate, reply_of, timeline
from providers.simulator.knobs import Knobs, Override
from providers.simulator.lines import (
    CHANGES,
    Changed,
    Item,
    Line,
    Plan,
    Recalled,
    Repeated,
    accepted,
)
from providers.simulator.prices import PriceList, Tag
from providers.simulator.replies import Reply
from providers.simulator.schedule import Schedule
from providers.simulator.twin import Destination, Order, Sending, Taken, Twin
from providers.simulator.twins import CHANNELS, TWINS
from providers.simulator.vocabulary import State, Status

_FREE: Final = Tag(Decimal(0), "EUR")


class Push(NamedTuple):
    """One report, or what a person replies, to push; those of one kind to one URL may share a POST.
    `item` names it."""

    twin: Twin
    url: str
    kind: Literal["delivery", "seen", "reply"]
    report: bytes
    item: Item


class Sent(NamedTuple):
    """The answer to a send, and the reports that must be out before it."""

    answer: Reply
    early: list[Push]


class Exchange:
    """`noting`: what must be in a durable book is noted, for `take_notes` to fetch."""

    def __init__(self, knobs: Knobs, *, noting: bool = False) -> None:
        self.book = Book()
        self._notes: list[Line] | None = [] if noting else None
        self._schedule: Schedule[tuple[Kind, Entry]] = Schedule()
        self._bulks = 0
        self._nameless = 0
        self.turn(knobs)

    def turn(self, knobs: Knobs) -> None:
        """Puts other knobs in force for what is accepted from now on."""
        self.knobs = knobs
        self._prices = PriceList(knobs.prices)
        self._charged_on = {channel: knobs.charged_on(channel) for channel in CHANNELS}
        self._overrides = {
            phone.removeprefix("+"): overrides for phone, overrides in knobs.by_phone.items()
        }

    def clear(self) -> None:
        """Forgets every message, and with it every receipt to come."""
        self.book.clear()
        self._schedule = Schedule()
        self._bulks = self._nameless = 0
        self.take_notes()

    def take_notes(self) -> list[Line]:
        """Lines to be written before anybody is told what they say; empty without `noting`."""
        notes = self._notes
        if not notes:
            return []
        self._notes = []
        return notes

    def restore(self, recalled: Recalled) -> None:
        """Goes on where a durable book ends; what was due meanwhile is due now."""
        self.book = recalled.book
        self._bulks, self._nameless = recalled.bulks, recalled.nameless
        for message_id, plan in recalled.plans.items():
            entry = self.book.get(message_id)
            assert entry is not None
            for at_ms, kind in plan:
                self._schedule.add(at_ms, (kind, entry))

    @property
    def pending(self) -> int:
        """How many changes and reports are still to come."""
        return len(self._schedule)

    def next_ms(self) -> int | None:
        """When `tick` has something to do, epoch milliseconds."""
        return self._schedule.next_ms()

    def last_ms(self) -> int | None:
        """When nothing is to come any more, epoch milliseconds."""
        return self._schedule.last_ms()

    def send(self, twin: Twin, sending: Sending, now_ms: int) -> Sent:
        """Accepts or rejects each destination of the request."""
        self._bulks += 1
        bulk_id = sending.bulk_id or f"bulk-{self._bulks}"
        early: list[Push] = []
        taken = [
            self._take(twin, order, bulk_id, destination, now_ms, early)
            for order in sending.orders
            for destination in order.destinations
        ]
        return Sent(twin.answer(bulk_id, sending.counted, taken), early)

    def tick(self, now_ms: int, *, everything: bool = False) -> list[Push]:
        """Lets happen what is due (`everything`: also what is not); returns the reports to push."""
        pushes: list[Push] = []
        for kind, entry in self._schedule.take(None if everything else now_ms):
            if kind in CHANGES:
                charge = self._charges_delivery(entry)
                self._note(Changed(now_ms, entry.message_id, kind, charge))
            self._happen(kind, entry, now_ms, pushes)
        return pushes

    def logs(
        self,
        channel: Channel,
        message_ids: Sequence[str],
        bulk_ids: Sequence[str],
        limit: int,
    ) -> list[Entry]:
        """The messages named, or the latest ones when none is."""
        return list(islice(self._chosen(channel, message_ids, bulk_ids), limit))

    def reports(
        self,
        channel: Channel,
        message_ids: Sequence[str],
        bulk_ids: Sequence[str],
        limit: int,
    ) -> list[Entry]:
        """Messages with a report nobody has pulled yet; each is given once, a newer status makes a
        new one."""
        news = (entry for entry in self._chosen(channel, message_ids, bulk_ids) if entry.news)
        given = list(islice(news, limit))
        for entry in given:
            entry.news = False
        return given

    def _chosen(
        self, channel: Channel, message_ids: Sequence[str], bulk_ids: Sequence[str]
    ) -> Iterator[Entry]:
        entries: Iterable[Entry | None] = self.book.latest()
        if message_ids:
            entries = map(self.book.get, dict.fromkeys(message_ids))
        for entry in entries:
            if entry is None or entry.channel != channel:
                continue
            if not bulk_ids or entry.bulk_id in bulk_ids:
                yield entry

    def _take(
        self,
        twin: Twin,
        order: Order,
        bulk_id: str,
        destination: Destination,
        now_ms: int,
        early: list[Push],
    ) -> Taken:
        message_id, to = destination
        words = twin.catalogue
        known = self.book.get(message_id) if message_id else None
        if known is not None:
            self.book.repeat(known)
            self._note(Repeated(message_id))
            again = words.duplicate
            if again.state is State.ACCEPTED and known.state is State.REJECTED:
                again = known.status  # it knows no message twice: what it refused it refuses again
            return Taken(order, message_id, to, again, accepted=False)
        key = message_id or to
        if not message_id:
            self._nameless += 1
            message_id = f"nameless-{self._nameless}"
        tag = self._prices.find(order.channel, to, order.category, _day(now_ms // 1000))
        override = self._override(order.channel, to)
        destiny = fate(self.knobs, words, order.channel, key, to, override)
        rejected = _rejection(twin, order, to, tag, destiny)
        entry = Entry(
            words=words,
            channel=order.channel,
            message_id=message_id,
            to=to,
            sender=order.sender,
            bulk_id=bulk_id,
            accepted_ms=now_ms,
            parts=order.parts,
            tag=tag or _FREE,
            status=rejected or words.statuses[destiny.status],
            error=words.no_error if rejected else words.errors[destiny.error],
            hooks=order.hooks,
            link=order.link,
        )
        self.book.add(entry)
        if rejected is not None:
            entry.state = State.REJECTED
            entry.done_ms = now_ms
            if order.answered and self._charged_on[entry.channel] == "sent":
                entry.parts, entry.charged_ms = order.answered, now_ms
            self._note_accepted(entry, [])
            return Taken(order, message_id, to, rejected, accepted=False)
        self._begin(entry, order, destiny, now_ms, early)
        return Taken(order, message_id, to, words.accepted, accepted=True)

    def _begin(
        self, entry: Entry, order: Order, destiny: Fate, now_ms: int, early: list[Push]
    ) -> None:
        if self._charged_on[entry.channel] == "sent":
            entry.charged_ms = now_ms
        plan = timeline(
            destiny, self.knobs, now_ms, order.validity_ms, intermediate=order.intermediate
        )
        for at_ms, kind in plan:
            if at_ms <= now_ms:
                self._happen(kind, entry, now_ms, early)
            else:
                self._schedule.add(at_ms, (kind, entry))
        self._note_accepted(
            entry, [(at, kind) for at, kind in plan if at > now_ms or kind not in CHANGES]
        )

    def _note(self, line: Line) -> None:
        if self._notes is not None:
            self._notes.append(line)

    def _note_accepted(self, entry: Entry, plan: Plan) -> None:
        if self._notes is not None:
            self._notes.append(accepted(entry, plan))

    def _override(self, channel: Channel, to: str) -> Override | None:
        override: Override | None = getattr(self._overrides.get(to), channel, None)
        return override

    def _charges_delivery(self, entry: Entry) -> bool:
        return not entry.charged_ms and self._charged_on[entry.channel] == "delivered"

    def _happen(self, kind: Kind, entry: Entry, now_ms: int, pushes: list[Push]) -> None:
        match kind:
            case Kind.FINISH:
                self.book.finish(entry, now_ms, charge=self._charges_delivery(entry))
            case Kind.REVIVE:
                self.book.revive(entry, now_ms, charge=self._charges_delivery(entry))
            case Kind.SEE:
                entry.seen_ms = now_ms
            case Kind.CLICK:
                self.book.click(entry, now_ms)
            case _:
                push = self._report(kind, entry, now_ms)
                if push.url and push.report:
                    pushes.append(push)

    def _report(self, kind: Kind, entry: Entry, now_ms: int) -> Push:
        name, hooks = entry.words.provider, entry.hooks
        twin, usual = TWINS[name], self.knobs.hooks.get(name, "")
        delivery_url, seen_url = hooks.delivery_url or usual, hooks.seen_url or usual
        item = (entry.message_id, kind)
        if kind is Kind.SEEN_REPORT:
            return Push(twin, seen_url, "seen", twin.seen_report(entry), item)
        if kind is Kind.REPLY:
            override = self._override(entry.channel, entry.to)
            text = reply_of(self.knobs, entry.channel, entry.to, override)
            reply = twin.reply(entry, text, now_ms)
            return Push(twin, delivery_url, "reply", reply, item)
        if kind is Kind.COMPLAINT:
            return Push(twin, delivery_url, "reply", twin.complaint(entry, now_ms), item)
        free = self.knobs.price_when_free
        if kind is Kind.REPORT:
            report = twin.final_report(entry, price_when_free=free)
        elif kind is Kind.REVIVE_REPORT:
            report = twin.revived_report(entry, price_when_free=free)
        else:
            report = twin.intermediate_report(entry, now_ms)
        return Push(twin, delivery_url, "delivery", report, item)


@lru_cache(maxsize=64)
def _day(second: int) -> str:
    """The UTC date, YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(second))


def _rejection(twin: Twin, order: Order, to: str, tag: Tag | None, destiny: Fate) -> Status | None:
    """The status a message is rejected with inside the answer, or None."""
    refusal = twin.refusal(order, to)
    if refusal is not None:
        return refusal
    if tag is None:
        return twin.catalogue.no_route
    if destiny.ending == "rejected":
        return twin.catalogue.statuses[destiny.status]
    return None
