"""Send windows: when they are open, by whose clock, and over the days on which clocks are set."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import phones
from gateway.core.campaigns.send_windows import (
    DAY_MS,
    MINUTE_MS,
    Hours,
    SendWindow,
    first_open_ms,
    open_spans,
    opening_ms,
    zone_named,
)

HOUR_MS = 3_600_000
EVERY_DAY = frozenset(range(7))
DAYTIME = Hours(9 * HOUR_MS, 21 * HOUR_MS, EVERY_DAY)
NIGHT = Hours(22 * HOUR_MS, 30 * HOUR_MS, frozenset({4}))  # Friday, 22:00 to 06:00
WINDOW = SendWindow(DAYTIME, country_zones={"KZ": "Asia/Almaty"})
RUSSIAN_MOBILE = "79161234567"
# One that is set for summer, one of the south, and one that is set by half an hour.
ZONES = ("Europe/Berlin", "America/Santiago", "Australia/Lord_Howe")
TEN_YEARS = (
    int(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()) // 60,
    int(datetime.datetime(2036, 1, 1, tzinfo=datetime.UTC).timestamp()) // 60,
)
minutes = st.integers(*TEN_YEARS)
times = st.integers(0, 24 * 60)


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp() * 1000)


def is_open_by_the_wall(hours: Hours, zone: str, moment_ms: int) -> bool:
    """What a window means: the recipient's clock shows one of its times."""
    wall = datetime.datetime.fromtimestamp(moment_ms // 1000, ZoneInfo(zone))
    of_day = ((wall.hour * 60 + wall.minute) * 60 + wall.second) * 1000
    today = wall.weekday() in hours.days and hours.from_ms <= of_day < hours.to_ms
    before = (wall.weekday() - 1) % 7 in hours.days and of_day < hours.to_ms - DAY_MS
    return today or before


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    begin = draw(st.integers(0, 24 * 60 - 1))
    end = draw(times.filter(lambda minute: minute != begin))
    days = draw(st.sets(st.integers(0, 6), min_size=1))
    to_ms = end * MINUTE_MS if end > begin else end * MINUTE_MS + DAY_MS
    return Hours(begin * MINUTE_MS, to_ms, frozenset(days))


@given(some_hours(), st.sampled_from(ZONES), minutes)
@example(
    Hours(150 * MINUTE_MS, 10 * HOUR_MS, EVERY_DAY), "Europe/Berlin", at("2026-03-29") // 60000
)
@example(
    Hours(150 * MINUTE_MS, 10 * HOUR_MS, EVERY_DAY), "Europe/Berlin", at("2026-10-25") // 60000
)
def test_it_is_open_exactly_when_the_clock_shows_its_times(
    hours: Hours, zone: str, minute: int
) -> None:
    moment_ms = minute * MINUTE_MS
    opens_ms = first_open_ms(hours, (zone,), moment_ms)
    assert opens_ms is not None
    assert opens_ms >= moment_ms
    assert is_open_by_the_wall(hours, zone, opens_ms)
    assert (opens_ms == moment_ms) == is_open_by_the_wall(hours, zone, moment_ms)
    # It is the first: a minute before it was closed, and so it was at any minute between.
    for before_ms in {moment_ms, (moment_ms + opens_ms) // 2, opens_ms - MINUTE_MS}:
        if moment_ms <= before_ms < opens_ms:
            assert not is_open_by_the_wall(hours, zone, before_ms)


@given(some_hours(), st.sets(st.sampled_from(ZONES), min_size=2), minutes)
def test_several_zones_are_open_where_each_is(hours: Hours, zones: set[str], minute: int) -> None:
    day = minute * MINUTE_MS // DAY_MS
    spans = open_spans(hours, tuple(sorted(zones)), day)
    for probe_ms in range(day * DAY_MS, (day + 1) * DAY_MS, 30 * MINUTE_MS):
        inside = any(since <= probe_ms < until for since, until in spans)
        assert inside == all(is_open_by_the_wall(hours, zone, probe_ms) for zone in zones)


def test_a_time_that_is_skipped_opens_when_the_clock_goes_on() -> None:
    hours = Hours(150 * MINUTE_MS, 3 * HOUR_MS, EVERY_DAY)  # 02:30 to 03:00
    berlin = ("Europe/Berlin",)
    assert first_open_ms(hours, berlin, at("2026-03-29T00:00")) == at("2026-03-30T00:30")
    longer = Hours(150 * MINUTE_MS, 5 * HOUR_MS, EVERY_DAY)
    assert first_open_ms(longer, berlin, at("2026-03-29T00:00")) == at("2026-03-29T01:00")


def test_a_time_that_comes_twice_is_open_twice() -> None:
    hours = Hours(150 * MINUTE_MS, 3 * HOUR_MS, EVERY_DAY)
    spans = open_spans(hours, ("Europe/Berlin",), at("2026-10-25") // DAY_MS)
    assert spans == (
        (at("2026-10-25T00:30"), at("2026-10-25T01:00")),
        (at("2026-10-25T01:30"), at("2026-10-25T02:00")),
    )


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    paris = ("Europe/Paris",)
    friday, saturday = at("2026-11-27T23:30", "Europe/Paris"), at("2026-11-28T05:59", *paris)
    assert first_open_ms(NIGHT, paris, friday) == friday
    assert first_open_ms(NIGHT, paris, saturday) == saturday
    closed = at("2026-11-28T06:00", *paris)
    assert first_open_ms(NIGHT, paris, closed) == at("2026-12-04T22:00", *paris)


def test_a_russian_mobile_may_be_in_sixteen_zones_and_is_sent_to_where_all_are_open() -> None:
    assert len(phones.zones_of(RUSSIAN_MOBILE)) == 16
    evening = at("2026-11-28T18:00")
    assert opening_ms(WINDOW, None, RUSSIAN_MOBILE, "RU", evening) == at("2026-11-29T07:00")
    late = at("2026-11-29T08:59")
    assert opening_ms(WINDOW, None, RUSSIAN_MOBILE, "RU", late) == late
    assert opening_ms(WINDOW, None, RUSSIAN_MOBILE, "RU", at("2026-11-29T09:00")) == at(
        "2026-11-30T07:00"
    )


@pytest.mark.parametrize(
    ("tz", "phone", "country", "opens"),
    [
        ("Asia/Kamchatka", RUSSIAN_MOBILE, "RU", "2026-11-28T21:00"),  # its own comes first
        (None, "74951234567", "RU", "2026-11-29T06:00"),  # Moscow's landlines are in one zone
        (None, "447911123456", "GB", "2026-11-29T09:00"),  # four zones of one offset
        (None, "77011234567", "KZ", "2026-11-29T04:00"),  # as the country's zone says
        (None, None, "ZZ", "2026-11-29T09:00"),  # no phone: the default zone
        (None, "5215512345678", "MX", "2026-11-29T09:00"),  # nothing is known of it
    ],
)
def test_the_recipients_zone_is_the_surest_known(
    tz: str | None, phone: str | None, country: str, opens: str
) -> None:
    assert opening_ms(WINDOW, tz, phone, country, at("2026-11-28T21:00")) == at(opens)


def test_what_unknown_zone_says_decides_where_nothing_else_does() -> None:
    night = at("2026-11-28T21:00")

    def opens(**changes: object) -> int | None:
        return opening_ms(replace(WINDOW, **changes), None, RUSSIAN_MOBILE, "RU", night)

    assert opens(unknown_zone="send") == night
    assert opens(unknown_zone="hold") is None
    moscow = at("2026-11-29T06:00")
    assert opens(unknown_zone="default", default_zone="Europe/Moscow") == moscow
    assert opens(zone="Europe/Moscow", unknown_zone="hold") == moscow
    assert opens(country_zones={"RU": "Europe/Moscow"}) == moscow


def test_a_moment_at_the_end_of_time_has_an_opening() -> None:
    last = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
    assert opening_ms(WINDOW, "America/New_York", None, "", last) == last
    assert opening_ms(WINDOW, "Europe/Moscow", None, "", last) == last + 1 + 6 * HOUR_MS
    assert opening_ms(WINDOW, None, RUSSIAN_MOBILE, "RU", last) is not None


def test_a_window_without_a_common_hour_is_never_open() -> None:
    hour = replace(WINDOW, hours=Hours(9 * HOUR_MS, 10 * HOUR_MS, EVERY_DAY))
    assert opening_ms(hour, None, RUSSIAN_MOBILE, "RU", at("2026-11-28")) is None


@pytest.mark.parametrize(
    "name",
    [
        *("", "Mars/Olympus", "../UTC", "/etc/localtime", "Europe", "a" * 99),
        *("localtime", "posixrules", "right/UTC", "posix/Europe/Moscow"),
    ],
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert zone_named(name) is None
