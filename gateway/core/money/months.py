"""Months of the business's own days, and those that are closed. Pure.

What is booked for a message of a closed month after it was closed belongs to the month in which it
is booked, and says so: its reason is `late:` and the message's month.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from gateway.core.ids import moment_of
from gateway.core.money.days import UTC_DAYS, Days

FORM = "%Y-%m"
MONTH_CHARS = len("2026-11")  # of a day as ISO 8601 has it
LATE = "late:"

_DAY = datetime.timedelta(days=1)


class Month(msgspec.Struct, frozen=True):
    """A month by its name, such as 2026-11; both days count."""

    name: str
    first: datetime.date
    last: datetime.date

    @classmethod
    def named(cls, name: str) -> Month | None:
        """None: there is no such month."""
        try:
            first = datetime.datetime.strptime(name, FORM).date()  # noqa: DTZ007 - no moment
        except ValueError:
            return None
        if len(name) != MONTH_CHARS:
            return None
        after = (first.replace(day=28) + 4 * _DAY).replace(day=1)
        return cls(name, first, after - _DAY)

    def over_ms(self, days: Days) -> int:
        """The first moment after it."""
        return days.begins_ms(self.last + _DAY)


class ClosedMonths(msgspec.Struct, frozen=True):
    """When each was closed, by its name."""

    at_ms: Mapping[str, int] = {}
    days: Days = UTC_DAYS

    def late(self, message_id: str | None, at_ms: int) -> str | None:
        """The reason of what is booked at a moment for a message of a month that was closed before;
        None where it is not."""
        if not self.at_ms or message_id is None:
            return None
        accepted_ms = moment_of(message_id)
        if accepted_ms is None:
            return None
        month = self.days.of(accepted_ms).strftime(FORM)
        closed_ms = self.at_ms.get(month)
        return f"{LATE}{month}" if closed_ms is not None and at_ms >= closed_ms else None


NONE_CLOSED = ClosedMonths()
