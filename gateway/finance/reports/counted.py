"""Which messages a count of the report is of. Pure.

A message is told by its record: by when it was accepted, and by the moments of its steps. A count
is booked when it is heard of, and providers' clocks say when it was, within what can be: around
midnight a message may stand on the day beside that of its booking. Duplicates and requests that
were suppressed became no message, so there is nothing to show of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from gateway.core.effects import BY_HOUR, group_of
from gateway.core.money.days import Days
from gateway.core.records.entries import Group
from gateway.core.records.message import Message, Step, StepStatus
from gateway.core.timing import within_ms
from gateway.finance.question import BookingSelection, Query

CountedAs = Literal[
    "accepted",
    "sent",
    "delivered",
    "double_delivered",
    "undelivered",
    "undelivered_messages",
    "parts",
    "seen",
    "clicked",
]
COUNTS: Mapping[str, CountedAs] = {name: name for name in get_args(CountedAs)}
_ENDED = (StepStatus.EXPIRED, StepStatus.UNDELIVERED, StepStatus.REJECTED)


class CountedMessages(msgspec.Struct, frozen=True):
    """As `gateway.store.messages.message_search` seeks: messages that count under `count` in the
    days and filters of a question, of one app or (None) of every."""

    selection: BookingSelection
    count: CountedAs
    days: Days
    app: str | None
    campaign: str | None = None
    identities: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Query, count: CountedAs, days: Days, app: str | None) -> CountedMessages:
        """Where one campaign is asked for, nothing else is looked at."""
        named = [value for key, value in query.filters if key == "campaign"]
        campaign = named[0] if len(named) == 1 and named[0] else None
        return cls(BookingSelection(query), count, days, app, campaign)

    def fits(self, message: Message) -> bool:
        return self.app in (None, message.app) and any(
            self.selection.takes(self.days.of(at_ms), group)
            for at_ms, group in self._bookings(message)
        )

    def _bookings(self, message: Message) -> Iterator[tuple[int, Group]]:
        if self.count == "accepted":
            yield message.created_ms, group_of(message)
        elif self.count == "undelivered_messages":
            if message.undelivered:
                yield message.ended_ms or message.updated_ms, group_of(message)
        else:
            for index, step in enumerate(message.steps):
                for named_ms, provider in self._moments(message, index, step):
                    at_ms = within_ms(message, named_ms, message.updated_ms)
                    group = group_of(message, index, provider)
                    if self.count in BY_HOUR:
                        group = replace(group, hour=self.days.hour_of(at_ms))
                    yield at_ms, group

    def _moments(self, message: Message, index: int, step: Step) -> Iterator[tuple[int, str]]:
        """When the step counted, and for which provider."""
        provider = step.provider or ""
        billed = message.billed_by(index) is not None
        if self.count == "sent":
            for attempt in step.attempts:
                if attempt.sent_ms:
                    yield attempt.sent_ms, step.provider_of(attempt)
        elif self.count == "undelivered":
            if step.status in _ENDED:
                yield step.done_ms or message.updated_ms, provider
        elif self.count == "seen":
            if step.seen_ms:
                yield step.seen_ms, provider
        elif self.count == "clicked":
            if step.clicked_ms:
                yield step.clicked_ms, provider
        elif step.arrived and self.count in (
            "parts",
            "delivered" if billed else "double_delivered",
        ):
            yield step.delivered_ms, provider
