"""The provider itself, without its wires: accepts sends, lets time pass, says what to report.

Holds the book and the schedule. Time is an argument, so a test can live a day in a moment; HTTP,
retries and the faults of a request belong to `app` and `pusher`. Never fails: what cannot be sent
is rejected in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from msgspec import Raw

from providers.contract import Channel
from providers.simulator import catalogue, reports
from providers.simulator.book import Book, Entry, Hooks, State
from providers.simulator.catalogue import ERRORS, STATUSES, Status
from providers.simulator.fate import VALIDITY_MS_MAX, Fate, Kind, fate, timeline
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
from providers.simulator.prices import PriceList, Tag, tag_of
from providers.simulator.schedule import Schedule
from providers.simulator.segments import octet_parts, text_parts
from providers.simulator.wire import (
    ENCODER,
    Answer,
    AnswerDetails,
    AnswerItem,
    Destination,
    LogItem,
    SmsMessage,
    SmsRequest,
    ValidityPeriod,
    ViberMessage,
    ViberRequest,
)

PARTS_MAX: Final = 25  # more is REJECTED_MESSAGE_TOO_LONG
TO_DIGITS_MIN: Final = 5
TO_DIGITS_MAX: Final = 15  # E.164
_UNIT_MS: Final = {"SECONDS": 1_000, "MINUTES": 60_000, "HOURS": 3_600_000}
_FREE: Final = tag_of(Decimal(0), "EUR")


class Push(NamedTuple):
    """One report to push; reports of one kind to one URL may share a POST. `item` names it."""

    url: str
    kind: Literal["delivery", "seen"]
    report: bytes
    item: Item


class Sent(NamedTuple):
    """The answer to a send, and the reports that must be out before it."""

    answer: bytes
    early: list[Push]


class _Terms(NamedTuple):
    """What all destinations of one message share."""

    channel: Channel
    sender: str
    bulk_id: str
    parts: int
    category: str
    validity_ms: int
    hooks: Hooks
    intermediate: bool
    counted: bool


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

    def send(self, request: ViberRequest | SmsRequest, now_ms: int) -> Sent:
        """Accepts or rejects each destination of the request."""
        self._bulks += 1
        bulk_id = request.options.schedule.bulk_id or f"bulk-{self._bulks}"
        counted = request.options.include_sms_count_in_response
        items: list[AnswerItem] = []
        early: list[Push] = []
        for message in request.messages:
            terms = _terms(message, bulk_id, counted=counted)
            items += [self._take(terms, to, now_ms, early) for to in message.destinations]
        return Sent(ENCODER.encode(Answer(bulk_id, items)), early)

    def tick(self, now_ms: int, *, everything: bool = False) -> list[Push]:
        """Lets happen what is due (`everything`: also what is not); returns the reports to push."""
        pushes: list[Push] = []
        for kind, entry in self._schedule.take(None if everything else now_ms):
            if kind in CHANGES:
                charge = not entry.charged_ms and self._charged_on(entry.channel) == "delivered"
                self._note(Changed(now_ms, entry.message_id, kind, charge))
            self._happen(kind, entry, now_ms, pushes)
        return pushes

    def logs(
        self,
        channel: Channel,
        message_ids: Sequence[str],
        bulk_ids: Sequence[str],
        limit: int,
    ) -> list[LogItem]:
        """Log lines of the messages named, or of the latest ones when none is."""
        free = self.knobs.price_when_free
        found = self._chosen(channel, message_ids, bulk_ids)
        return [
            reports.log_item(entry, price_when_free=free)
            for entry, _ in zip(found, range(limit), strict=False)
        ]

    def reports(
        self,
        channel: Channel,
        message_ids: Sequence[str],
        bulk_ids: Sequence[str],
        limit: int,
    ) -> list[Raw]:
        """Reports nobody has pulled yet; each is given once, a newer status makes a new one."""
        news = (entry for entry in self._chosen(channel, message_ids, bulk_ids) if entry.news)
        given: list[Raw] = []
        for entry, _ in zip(news, range(limit), strict=False):
            entry.news = False
            given.append(reports.pulled_report(entry, price_when_free=self.knobs.price_when_free))
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
        self, terms: _Terms, destination: Destination, now_ms: int, early: list[Push]
    ) -> AnswerItem:
        message_id, to = destination.message_id, destination.to
        known = self.book.get(message_id) if message_id else None
        if known is not None:
            self.book.repeat(known)
            self._note(Repeated(message_id))
            return AnswerItem(message_id, catalogue.DUPLICATE.json, to)
        key = message_id or to
        if not message_id:
            self._nameless += 1
            message_id = f"nameless-{self._nameless}"
        tag = self._prices.find(terms.channel, to, terms.category, reports.day(now_ms))
        destiny = fate(self.knobs, terms.channel, key, to, self._override(terms.channel, to))
        rejected = _reject(terms, to, tag, destiny)
        status = rejected or STATUSES[destiny.status]
        entry = Entry(
            channel=terms.channel,
            message_id=message_id,
            to=to,
            sender=terms.sender,
            bulk_id=terms.bulk_id,
            accepted_ms=now_ms,
            parts=terms.parts,
            tag=tag or _FREE,
            status=status,
            error=ERRORS[0 if rejected else destiny.error],
            hooks=terms.hooks,
        )
        self.book.add(entry)
        if rejected is not None:
            entry.state = State.REJECTED
            entry.done_ms = now_ms
            self._note_accepted(entry, [])
            return AnswerItem(message_id, rejected.json, to)
        self._begin(entry, terms, destiny, now_ms, early)
        details = AnswerDetails(terms.parts) if terms.counted and terms.channel == "sms" else None
        return AnswerItem(message_id, catalogue.ACCEPTED.json, to, details)

    def _begin(
        self, entry: Entry, terms: _Terms, destiny: Fate, now_ms: int, early: list[Push]
    ) -> None:
        if self._charged_on(entry.channel) == "sent":
            entry.charged_ms = now_ms
        plan = timeline(
            destiny, self.knobs, now_ms, terms.validity_ms, intermediate=terms.intermediate
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
        overrides = self._overrides.get(to)
        if overrides is None:
            return None
        return overrides.viber if channel == "viber" else overrides.sms

    def _charged_on(self, channel: Channel) -> Literal["sent", "delivered"]:
        knobs = self.knobs
        return knobs.viber_charged_on if channel == "viber" else knobs.sms_charged_on

    def _happen(self, kind: Kind, entry: Entry, now_ms: int, pushes: list[Push]) -> None:
        charge = not entry.charged_ms and self._charged_on(entry.channel) == "delivered"
        free = self.knobs.price_when_free
        hooks = entry.hooks
        match kind:
            case Kind.FINISH:
                self.book.finish(entry, now_ms, charge=charge)
                return
            case Kind.REVIVE:
                self.book.revive(entry, now_ms, charge=charge)
                return
            case Kind.SEE:
                entry.seen_ms = now_ms
                return
            case Kind.SEEN_REPORT:
                if hooks.seen_url:
                    report = reports.seen_report(entry)
                    pushes.append(Push(hooks.seen_url, "seen", report, (entry.message_id, kind)))
                return
            case Kind.REPORT:
                report = reports.final_report(entry, price_when_free=free)
            case Kind.REVIVE_REPORT:
                report = reports.revived_report(entry, price_when_free=free)
            case Kind.INTERMEDIATE_REPORT:
                report = reports.intermediate_report(entry, now_ms)
        if hooks.delivery_url:
            pushes.append(Push(hooks.delivery_url, "delivery", report, (entry.message_id, kind)))


def _terms(message: ViberMessage | SmsMessage, bulk_id: str, *, counted: bool) -> _Terms:
    webhooks, options = message.webhooks, message.options
    delivery = webhooks.delivery
    channel: Channel = "sms"
    category, parts = "", 1
    if isinstance(message, ViberMessage):
        channel = "viber"
        label = message.options.label
        category = "transactional" if label == "TRANSACTIONAL" else "marketing"
    elif message.content.text is not None:
        parts = text_parts(message.content.text)
    else:
        parts = octet_parts(len((message.content.hex or "").split()))
    return _Terms(
        channel=channel,
        sender=message.sender,
        bulk_id=bulk_id,
        parts=parts,
        category=category,
        validity_ms=_validity(options.validity_period),
        hooks=Hooks(
            delivery_url=delivery.url if delivery.notify else "",
            seen_url=webhooks.seen.url,
            callback_data=webhooks.callback_data,
            platform=options.platform,
            campaign=options.campaign_reference_id,
        ),
        intermediate=delivery.intermediate_report,
        counted=counted,
    )


def _validity(period: ValidityPeriod | None) -> int:
    if period is None:
        return VALIDITY_MS_MAX
    return min(period.amount * _UNIT_MS[period.time_unit], VALIDITY_MS_MAX)


def _reject(terms: _Terms, to: str, tag: Tag | None, destiny: Fate) -> Status | None:
    """The status a message is rejected with inside the answer, or None."""
    if not to:
        return catalogue.MISSING_TO
    if not (to.isascii() and to.isdecimal() and TO_DIGITS_MIN <= len(to) <= TO_DIGITS_MAX):
        return catalogue.BAD_DESTINATION
    if terms.parts > PARTS_MAX:
        return catalogue.TOO_LONG
    if tag is None:
        return catalogue.NO_ROUTE
    return STATUSES[destiny.status] if destiny.ending == "rejected" else None
