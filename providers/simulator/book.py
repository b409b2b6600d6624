"""What the provider received and what it charges: a record of every message, and the bill.

The counterpart of the gateway's ledger, so it shares no code with it: amounts are exact decimals,
added under a context that refuses to round. Reads no clock and knows no HTTP. Entries are small and
never leave until `clear`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import islice
from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.prices import Tag
from providers.simulator.vocabulary import Catalogue, Error, State, Status

PAGE_MESSAGES: Final = 1_000
_EXACT: Final = Context(prec=80, traps=[Inexact, InvalidOperation])


class Hooks(msgspec.Struct, frozen=True, gc=False):
    """Where a message's reports go, and what they repeat of its request in the order of its twin;
    shared by its destinations."""

    delivery_url: str
    seen_url: str
    echo: tuple[str, ...] = ()


class Entry(msgspec.Struct, gc=False):
    """One message as the provider sees it; times are epoch milliseconds, 0 for "not yet".

    `status` and `error` are those of its fated end, true once `state` has left ACCEPTED; `requests`
    counts how often it was sent to us, the first time included; `news` is set while a pulled report
    would be new; `words` are those of the provider it was sent to.
    """

    words: Catalogue
    channel: Channel
    message_id: str
    to: str
    sender: str
    bulk_id: str
    accepted_ms: int
    parts: int
    tag: Tag
    status: Status
    error: Error
    hooks: Hooks
    state: State = State.ACCEPTED
    done_ms: int = 0
    revived_ms: int = 0
    seen_ms: int = 0
    requests: int = 1
    charged_ms: int = 0
    news: bool = False
    link: str = ""

    @property
    def delivered_ms(self) -> int:
        return (self.revived_ms or self.done_ms) if self.state is State.DELIVERED else 0

    def status_now(self) -> tuple[Status, Error]:
        words = self.words
        if self.state is State.ACCEPTED:
            return words.enroute, words.no_error
        if self.revived_ms:
            return words.delivered, words.no_error
        return self.status, self.error


class Click(msgspec.Struct, frozen=True, gc=False):
    """Somebody followed a link of a message at `at_ms`; `link` is empty where none is known."""

    message_id: str
    channel: Channel
    to: str
    at_ms: int
    link: str = ""


class Clicks(msgspec.Struct, frozen=True):
    """Clicks in the order in which they came, and the `offset` of the next page."""

    clicks: list[Click]
    next_offset: int


class MessageBill(msgspec.Struct, frozen=True):
    """One message on the bill; `charge` is a decimal string, "0" when nothing is charged,
    `accepted_ms` when it came first, `delivered_ms` when it was with its person, 0 if it never
    was, and `echo` what its reports repeat, such as the ids that the provider gave it."""

    channel: Channel
    to: str
    requests: int
    outcome: str
    status: str
    parts: int
    charge: str
    currency: str
    accepted_ms: int
    delivered: bool
    delivered_ms: int
    seen: bool
    echo: tuple[str, ...] = ()


class ChannelBill(msgspec.Struct, frozen=True):
    """The sum over one channel and currency; `requests` counts repeated sends too."""

    channel: Channel
    currency: str
    messages: int
    requests: int
    accepted: int
    rejected: int
    delivered: int
    undelivered: int
    expired: int
    pending: int
    seen: int
    charged: int
    charged_parts: int
    charge: str


class Bill(msgspec.Struct, frozen=True, omit_defaults=True):
    """`charge` by currency, the sums by channel, and a page of messages by message id.

    `next_offset` is where the next page starts; absent on the last one.
    """

    charge: dict[str, str]
    channels: list[ChannelBill]
    messages: dict[str, MessageBill]
    next_offset: int | None = None


class Book:
    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._clicks: list[Click] = []
        self.duplicates = 0

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        self._entries.clear()
        self._clicks.clear()
        self.duplicates = 0

    def get(self, message_id: str) -> Entry | None:
        return self._entries.get(message_id)

    def latest(self) -> Iterator[Entry]:
        """Every message, the newest first."""
        return reversed(self._entries.values())

    def add(self, entry: Entry) -> None:
        self._entries[entry.message_id] = entry

    def repeat(self, entry: Entry) -> None:
        """The message was sent again under the same id: refused, and counted."""
        entry.requests += 1
        self.duplicates += 1

    def finish(self, entry: Entry, now_ms: int, *, charge: bool) -> None:
        """The message comes to its fated end; `charge`: a delivery is charged now."""
        entry.state = entry.status.end
        entry.done_ms = now_ms
        entry.news = True
        if charge and entry.state is State.DELIVERED:
            entry.charged_ms = now_ms

    def revive(self, entry: Entry, now_ms: int, *, charge: bool) -> None:
        """The message is delivered although it had ended otherwise, or never."""
        entry.state = State.DELIVERED
        entry.revived_ms = now_ms
        entry.news = True
        if charge:
            entry.charged_ms = now_ms

    def click(self, entry: Entry, now_ms: int) -> None:
        """The person follows a link of the message, which no report tells."""
        click = Click(entry.message_id, entry.channel, entry.to, now_ms, entry.link)
        self._clicks.append(click)

    def clicks(self, offset: int) -> Clicks:
        """A page of the clicks from `offset` on."""
        page = self._clicks[offset : offset + PAGE_MESSAGES]
        return Clicks(page, offset + len(page))

    def bill(self, *, offset: int = 0, limit: int | None = PAGE_MESSAGES) -> Bill:
        """The bill, with messages `offset` to `offset + limit` in order of arrival (None: all)."""
        entries = self._entries.values()
        stop = None if limit is None else offset + limit
        channels = channel_bills(entries)
        return Bill(
            charge=_by_currency(channels),
            channels=channels,
            messages={
                entry.message_id: message_bill(entry) for entry in islice(entries, offset, stop)
            },
            next_offset=stop if stop is not None and stop < len(entries) else None,
        )


def charge_of(entry: Entry) -> Decimal:
    """What is charged for the message: the price of one part times its parts, or nothing."""
    return (
        _EXACT.multiply(entry.tag.amount, Decimal(entry.parts)) if entry.charged_ms else Decimal(0)
    )


def message_bill(entry: Entry) -> MessageBill:
    return MessageBill(
        channel=entry.channel,
        to=entry.to,
        requests=entry.requests,
        outcome=entry.state.name.lower(),
        status=entry.status_now()[0].name,
        parts=entry.parts,
        charge=f"{charge_of(entry):f}",
        currency=entry.tag.currency,
        accepted_ms=entry.accepted_ms,
        delivered=entry.state is State.DELIVERED,
        delivered_ms=entry.delivered_ms,
        seen=entry.seen_ms > 0,
        echo=entry.hooks.echo,
    )


def channel_bills(entries: Iterable[Entry]) -> list[ChannelBill]:
    """Adds up the messages by channel and currency, in that order."""
    groups: dict[tuple[Channel, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.channel, entry.tag.currency), []).append(entry)
    return [_channel_bill(*key, groups[key]) for key in sorted(groups)]


def _channel_bill(channel: Channel, currency: str, entries: list[Entry]) -> ChannelBill:
    states = [0] * len(State)
    requests = seen = charged = charged_parts = 0
    charge = Decimal(0)
    for entry in entries:
        states[entry.state] += 1
        requests += entry.requests
        seen += entry.seen_ms > 0
        if entry.charged_ms:
            charged += 1
            charged_parts += entry.parts
            charge = _EXACT.add(charge, charge_of(entry))
    return ChannelBill(
        channel=channel,
        currency=currency,
        messages=len(entries),
        requests=requests,
        accepted=len(entries) - states[State.REJECTED],
        rejected=states[State.REJECTED],
        delivered=states[State.DELIVERED],
        undelivered=states[State.UNDELIVERED],
        expired=states[State.EXPIRED],
        pending=states[State.ACCEPTED],
        seen=seen,
        charged=charged,
        charged_parts=charged_parts,
        charge=f"{charge:f}",
    )


def _by_currency(channels: Iterable[ChannelBill]) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for line in channels:
        sums[line.currency] = _EXACT.add(sums.get(line.currency, Decimal(0)), Decimal(line.charge))
    return {currency: f"{amount:f}" for currency, amount in sorted(sums.items())}
