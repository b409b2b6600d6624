"""What may be asked of the books: days, what to group by, and filters. Pure.

A question that cannot be answered raises `ReportFault`, which names the parameter.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import get_args

import msgspec

from gateway.core.channels import CHANNELS
from gateway.core.money.months import MONTH_CHARS
from gateway.core.phones import COUNTRIES
from gateway.core.records.entries import Group
from gateway.core.texts import PLAIN_NAME, has_control, is_blank, name_of
from gateway.errors import CallerFault
from providers.contract import Category

# What it may be grouped and filtered by: a moment, and the fields of a Group.
KEYS = (
    *("day", "month", "app", "campaign", "variant", "category", "route", "step", "channel"),
    *("provider", "country", "hour"),
)
# A message as a whole has none of these. An hour have only what people do with its steps.
STEP_KEYS = frozenset(("hour", "step", "channel", "provider"))

DAYS_DEFAULT = 30
DAYS_MAX = 36_600  # a hundred years: a day without bookings costs a few microseconds to read
VALUE_CHARS_MAX = 128
FIRST_DAY = datetime.date(2000, 1, 1)
LAST_DAY = datetime.date(2999, 12, 31)

_iso_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
# What a value looks like that there can be; a key that is left out takes any.
_POSSIBLE: Mapping[str, str] = {
    "month": r"[0-9]{4}-(0[1-9]|1[0-2])",
    "app": PLAIN_NAME,
    "hour": r"1?[0-9]|2[0-3]",
    "category": "|".join(get_args(Category)),
    "step": r"0|[1-9][0-9]{0,2}",
    "channel": "|".join(map(re.escape, CHANNELS)),
    "country": "|".join(sorted(COUNTRIES | {"001"})),
}
VALUE_FORMS: Mapping[str, str] = {
    "day": "written as in 2026-11-30",
    "month": "written as in 2026-11",
    "app": "up to 64 letters, digits, dots, dashes and underscores",
    "campaign": "characters that can be seen, and no control characters",
    "hour": "an hour of the day, 0 to 23",
    "category": f"one of {', '.join(get_args(Category))}",
    "step": "a place in the steps of a message, the first is 0",
    "channel": f"one of {', '.join(CHANNELS)}",
    "country": "the two capital letters of a country, as in DE",
}


class ReportFault(CallerFault):
    """The question cannot be answered: `parameter` is the one to change, `detail` says how.
    `impossible`: it asks for something that there cannot be."""

    def __init__(self, parameter: str, detail: str, *, impossible: bool = False) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.impossible = impossible


class Query(msgspec.Struct, frozen=True):
    """A question that can be answered. Both days count; `filters` are (key, value), and of each key
    one value must match."""

    from_day: datetime.date
    to_day: datetime.date
    group_by: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()

    @property
    def counts_messages(self) -> bool:
        """Whether whole messages can be told apart as finely as asked."""
        return STEP_KEYS.isdisjoint((*self.group_by, *(key for key, _ in self.filters)))

    @property
    def by_hour(self) -> bool:
        """Whether hours of the day are asked about."""
        return "hour" in (*self.group_by, *(key for key, _ in self.filters))

    def parameters(self) -> list[tuple[str, str]]:
        """The question as `parse_query` reads it."""
        days = [("from", self.from_day.isoformat()), ("to", self.to_day.isoformat())]
        return [*days, ("group_by", ",".join(self.group_by)), *self.filters]


class BookingSelection:
    """What a question takes in of everything that was booked: its days, and of each key that it
    filters by one of the values that are `wanted`."""

    def __init__(self, query: Query) -> None:
        self._from_day, self._to_day = query.from_day, query.to_day
        self.wanted: dict[str, set[str]] = {}
        for key, value in query.filters:
            self.wanted.setdefault(key, set()).add(value)

    def takes(self, day: datetime.date, group: Group) -> bool:
        return self._from_day <= day <= self._to_day and all(
            str(value_in(day, group, key)) in values for key, values in self.wanted.items()
        )


def value_in(day: datetime.date, group: Group, key: str) -> str | int:
    """What a booking has under a key, empty or NO_STEP where that does not apply."""
    if key == "day":
        return day.isoformat()
    if key == "month":
        return day.isoformat()[:MONTH_CHARS]
    value: str | int = getattr(group, key)
    return value


def parse_query(parameters: Iterable[tuple[str, str]], today: datetime.date) -> Query:
    """The question in (name, value) pairs: `from`, `to`, `group_by`, and filters by any of KEYS.

    `group_by` may be repeated and holds names between commas. A filter may be repeated: any of its
    values matches. `campaign` is read as messages name it, and may be empty: what was sent without
    one. The days default to the last DAYS_DEFAULT up to `to`, and `to` to `today`.
    Raises ReportFault.
    """
    given: dict[str, str] = {}
    group_by: list[str] = []
    filters: list[tuple[str, str]] = []
    for name, value in parameters:
        if name == "group_by":
            group_by += [key for part in value.split(",") if (key := part.strip())]
        elif name in KEYS:
            filters.append((name, _value(name, value)))
        elif name not in ("from", "to"):
            known = ", ".join(("from", "to", "group_by", *KEYS))
            detail = f"There is no parameter {name[:40]!r}; there are: {known}."
            raise ReportFault(name, detail, impossible=True)
        elif name in given:
            raise ReportFault(name, f"The parameter {name!r} is given twice: give it once.")
        else:
            given[name] = value
    from_day, to_day = _days(given, today)
    return Query(from_day, to_day, _group_by(group_by), tuple(dict.fromkeys(filters)))


def _days(given: Mapping[str, str], today: datetime.date) -> tuple[datetime.date, datetime.date]:
    to_day = _day("to", given["to"]) if "to" in given else today
    if "from" in given:
        from_day = _day("from", given["from"])
    else:
        from_day = max(to_day - datetime.timedelta(days=DAYS_DEFAULT - 1), FIRST_DAY)
    if from_day > to_day:
        raise ReportFault(
            "from", f"The report would begin on {from_day} and end before, on {to_day}: swap them."
        )
    days = (to_day - from_day).days + 1
    if days > DAYS_MAX:
        raise ReportFault(
            "from", f"{from_day} to {to_day} are {days} days: ask for {DAYS_MAX} at most."
        )
    return from_day, to_day


def _date(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if _iso_day(text) else None
    except ValueError:
        return None


def _day(name: str, text: str) -> datetime.date:
    day = _date(text)
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise ReportFault(
            name, f"{text[:40]!r} is no day from {FIRST_DAY} on: write it as in 2026-11-30."
        )
    return day


def _group_by(keys: list[str]) -> tuple[str, ...]:
    for position, key in enumerate(keys):
        if key not in KEYS:
            detail = f"A report has no key {key[:40]!r}; its keys are: {', '.join(KEYS)}."
            raise ReportFault("group_by", detail, impossible=True)
        if key in keys[:position]:
            raise ReportFault("group_by", f"The key {key!r} is named twice: name it once.")
    return tuple(keys)


def _value(name: str, value: str) -> str:
    if not value and name != "campaign":
        detail = f"The parameter {name!r} is empty: name one, or leave it out."
        raise ReportFault(name, detail, impossible=True)
    if name == "campaign":
        value = _campaign(value)
    if len(value) > VALUE_CHARS_MAX:
        detail = f"The parameter {name!r} is longer than {VALUE_CHARS_MAX}."
        raise ReportFault(name, detail, impossible=True)
    form = _POSSIBLE.get(name)
    if (form and not re.fullmatch(form, value)) or (name == "day" and _date(value) is None):
        raise _impossible(name, value)
    return value


def _campaign(value: str) -> str:
    """In the one spelling of its name; empty stays so."""
    if value and (is_blank(value) or has_control(value)):
        raise _impossible("campaign", value)
    return name_of(value)


def _impossible(name: str, value: str) -> ReportFault:
    detail = f"There can be no {name} {value[:40]!r}: it is {VALUE_FORMS[name]}."
    return ReportFault(name, detail, impossible=True)
