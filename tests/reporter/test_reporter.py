"""Scheduled reports in virtual time: made once, by one of several, late where nobody was there, and
tried again where they could not be handed over."""

from __future__ import annotations

import base64
import csv
import datetime
import errno
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from python_calamine import load_workbook
from trio.testing import MockClock

from gateway import files
from gateway.core.money.days import DAY_MS, Days
from gateway.core.views.words import rfc3339
from gateway.dispatch.webhooks.posting import CallAnswer
from gateway.finance.reports import schedule as schedules
from gateway.finance.reports.schedule import ReportSchedule
from gateway.ingress.api.reports.schedule_view import reports_of
from gateway.redis.client import RedisClient
from gateway.reporter import reporter as reporters
from gateway.reporter import role
from gateway.reporter.rendering import NumberSources
from gateway.reporter.reporter import FOLDER_AGAIN_MS, Reporter
from gateway.reporter.role import keep_making
from gateway.store.money import scheduled_reports
from gateway.store.money.scheduled_reports import LEASE_MS, ScheduleState
from gateway.store.money.totals import at_once
from tests.finance.reports.test_ledger import book, money
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.simulation.webhook_world import OK, SECRET, Call, Receivers
from tests.worlds.cascade_world import T0

HOUR_S, DAY_S = 3_600.0, 86_400.0
LOOK_S = 600.0
AWAY = CallAnswer(503, "later")


class Office:
    """A folder, receivers, and a Redis in memory in which something is booked every day at noon.
    The clock begins at midnight of 2100-01-01, a Friday."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.receivers = Receivers()
        server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        self.weather = Weather(server, Random(1), lambda _s, _work: None, 0.0005)
        self.redis: RedisClient = MemoryClient(self.weather)

    def clock(self) -> int:
        return T0 + round(trio.current_time() * 1_000)

    def reporter(self, *asked: ReportSchedule, zone: str = "UTC") -> Reporter:
        books = NumberSources(self.redis, 1, "EUR", "sms", Days(zone), at_once)
        return Reporter(books, asked, self.clock, self.receivers.posting)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def daily(self, **more: Any) -> ReportSchedule:
        given: dict[str, Any] = {
            "name": "cost",
            "every": "day",
            "at": datetime.time(6),
            "folder": str(self.folder),
        }
        return ReportSchedule(**(given | more))

    def posted(self, **more: Any) -> ReportSchedule:
        return self.daily(
            folder="", url="https://finance.example/in?key=hidden", secret=SECRET, **more
        )

    async def state(self, name: str = "cost") -> ScheduleState:
        return (await scheduled_reports.states(self.redis))[name]

    async def until(self, day: int, hour: float = 0.0) -> None:
        """Of January; something is booked at each noon on the way."""
        end = (day - 1) * DAY_S + hour * HOUR_S
        while (noon := (trio.current_time() + DAY_S / 2) // DAY_S * DAY_S + DAY_S / 2) < end:
            await trio.sleep(noon - trio.current_time())
            await book(self.redis, 0, [money(cost=5_000, billed=9_000)], self.clock())
            await trio.sleep(1)
        await trio.sleep(end - trio.current_time())

    async def process(self, *asked: ReportSchedule) -> None:
        await keep_making(self.reporter(*asked))


@pytest.fixture(autouse=True)
def looking_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days pass sooner so."""
    monkeypatch.setattr(role, "LOOK_S", LOOK_S)


def in_office(test: Callable[[Office], Awaitable[None]], folder: Path) -> None:
    async def main() -> None:
        await test(Office(folder))

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_folder_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def test(office: Office) -> None:
        monkeypatch.setattr(reporters, "write_new", full)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.process, office.daily())
            await office.until(1, 1)
            nursery.cancel_scope.cancel()
        told = f"No space left on device ({tmp_path}): make room there, and run it again."
        assert (await office.state()).reason == told

    in_office(test, tmp_path)


def test_it_is_made_each_day_at_its_time_once(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.process, office.daily(group_by=("app",)))
            await office.until(1, 1)
            assert office.files() == ["cost-2099-12-30.csv"], "a new one is made at once"
            await office.until(2, 6)
            await office.until(2, 6.1)
            await office.until(4, 5.9)
            nursery.cancel_scope.cancel()
        assert office.files() == [
            *("cost-2099-12-30.csv", "cost-2099-12-31.csv"),
            *("cost-2100-01-01.csv", "cost-2100-01-02.csv"),
        ]
        text = (office.folder / "cost-2100-01-02.csv").read_text()
        (row,) = csv.DictReader(io.StringIO(text))
        assert (row["app"], row["cost"], row["billed"]) == ("shop", "0.0050", "0.0090")
        state = await office.state()
        assert state == ScheduleState("2100-01-02", "2100-01-02", state.made_ms)
        (shown,) = reports_of([office.daily()], {"cost": state}, Days(), office.clock())
        assert shown.made_at is not None
        assert shown.made_at.startswith("2100-01-03T06:")
        assert (shown.made, shown.failed_at, shown.reason) == ("2100-01-02", None, None)
        assert (shown.next, shown.due_at) == ("2100-01-03", "2100-01-04T06:00:00.000Z")

    in_office(test, tmp_path)


def test_what_nobody_was_there_to_make_is_made_late_each_once(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        first = office.reporter(office.daily())
        await first.turn()
        await first.leave()
        await office.until(5, 9)  # nobody for days
        made: list[str] = []

        async def start() -> None:
            reporter = office.reporter(office.daily())
            for _ in range(3):
                made.extend(each.period for each in await reporter.turn() or ())
                await trio.sleep(LOOK_S)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(start)
        assert made == ["2099-12-31", *(f"2100-01-0{day}" for day in range(1, 5))]
        assert len(office.files()) == 6

    in_office(test, tmp_path)


def test_of_many_missed_the_newest_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "MISSED_MAX", 2)

    async def test(office: Office) -> None:
        await office.reporter(office.daily()).turn()
        await office.until(9, 7)
        made = await office.reporter(office.daily()).turn()
        assert made is not None
        assert [each.period for each in made] == ["2100-01-07", "2100-01-08"]

    in_office(test, tmp_path)


def test_two_processes_make_each_once_and_one_that_died_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduled_reports, "LEASE_MS", int(3_000 * LOOK_S))

    async def test(office: Office) -> None:
        async with trio.open_nursery() as nursery:
            scopes = []
            for _ in range(2):
                scopes.append(trio.CancelScope())

                async def process(scope: trio.CancelScope = scopes[-1]) -> None:
                    with scope:
                        await office.process(office.posted())

                nursery.start_soon(process)
            await office.until(2)
            scopes[0].cancel()  # as if it was killed: its lease lapses
            await office.until(3, 7)
            nursery.cancel_scope.cancel()
        told = [call.body["data"]["period"] for call in office.receivers.calls]
        assert told == ["2099-12-30", "2099-12-31", "2100-01-01", "2100-01-02"]
        assert len({call.id for call in office.receivers.calls}) == len(told)

    in_office(test, tmp_path)


def test_who_died_before_noting_it_makes_it_again_without_harm(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        await office.until(2, 7)
        for schedule in (office.daily(name="file"), office.posted(name="post")):
            await office.reporter(schedule).turn()
            await office.redis.call([("HDEL", "{kaskad}scheduled", schedule.name)])
            await trio.sleep(LEASE_MS / 1_000)
            await book(office.redis, 0, [money(cost=1)], T0 + 1)
            before = {name: (office.folder / name).read_bytes() for name in office.files()}
            made = await office.reporter(schedule).turn()
            await trio.sleep(LEASE_MS / 1_000)
            assert made is not None
            assert [each.reason for each in made] == [""]
            after = {name: (office.folder / name).read_bytes() for name in office.files()}
            assert after == before, "a file that is there stays as it is"
        first, second = office.receivers.calls
        assert first.id == second.id

    in_office(test, tmp_path)


def test_a_full_disk_is_tried_again_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def write_new(path: Path, octets: bytes) -> bool:
        if full and path.name.startswith("cost"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return files.write_new(path, octets)

    monkeypatch.setattr(reporters, "write_new", write_new)

    async def test(office: Office) -> None:
        nonlocal full
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.process, office.daily(), office.daily(name="other"))
            await office.until(3, 7)
            assert office.files() == [
                f"other-{day}.csv"
                for day in ("2099-12-30", "2099-12-31", "2100-01-01", "2100-01-02")
            ]
            state = await office.state()
            assert "No space left on device" in state.reason
            assert (state.through, state.tries > 100) == ("2099-12-29", True)
            full = False
            await trio.sleep(FOLDER_AGAIN_MS / 1_000 + LOOK_S)
            nursery.cancel_scope.cancel()
        assert [name for name in office.files() if name.startswith("cost")] == [
            f"cost-{day}.csv" for day in ("2099-12-30", "2099-12-31", "2100-01-01", "2100-01-02")
        ]
        assert (await office.state()).failed_ms == 0

    in_office(test, tmp_path)


def test_a_receiver_that_is_away_is_tried_by_the_schedule_of_webhooks_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "LOOK_S", 3 * LOOK_S)  # a month passes

    async def test(office: Office) -> None:
        async def away(_: Call) -> CallAnswer:
            return AWAY

        office.receivers.answer = away
        await office.until(1, 7)
        posted = office.posted(every="month")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.process, posted)
            await office.until(2, 7)
            state = await office.state()
            assert (state.through, state.tries) == ("2099-11-30", 7)
            (shown,) = reports_of([posted], {"cost": state}, Days(), office.clock())
            assert (shown.next, shown.due_at) == ("2099-12", rfc3339(state.again_ms))
            assert state.reason == "https://finance.example/in: it answered 503 later"
            await office.until(6)
            given_up = await office.state()
            assert (given_up.through, given_up.failed_ms > 0) == ("2099-12-31", True)
            (shown,) = reports_of([posted], {"cost": given_up}, Days(), office.clock())
            assert (shown.made, shown.made_at) == (None, None), "it was given up"
            assert (shown.next, shown.due_at) == ("2100-01", "2100-02-01T06:00:00.000Z")
            assert shown.failed_at is not None
            assert [call.body["data"]["period"] for call in office.receivers.calls] == 10 * [
                "2099-12"
            ]
            assert len({call.id for call in office.receivers.calls}) == 1
            office.receivers.answer = office.receivers.take
            await office.until(32, 7)
            nursery.cancel_scope.cancel()
        assert office.receivers.calls[10].body["data"]["period"] == "2100-01"
        state = await office.state()
        assert state == ScheduleState("2100-01-31", "2100-01", state.made_ms)

    in_office(test, tmp_path)


def test_a_new_schedule_whose_receiver_is_away_for_days_loses_no_day(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        async def away(_: Call) -> CallAnswer:
            return AWAY

        office.receivers.answer = away
        await office.until(1, 7)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.process, office.posted())
            await office.until(3, 7)
            assert {call.body["data"]["period"] for call in office.receivers.calls} == {
                "2099-12-31"
            }
            taken = len(office.receivers.calls)
            office.receivers.answer = office.receivers.take
            await office.until(4, 12)
            nursery.cancel_scope.cancel()
        made = [call.body["data"]["period"] for call in office.receivers.calls[taken:]]
        assert made == ["2099-12-31", "2100-01-01", "2100-01-02", "2100-01-03"]

    in_office(test, tmp_path)


@pytest.mark.parametrize("form", ["csv", "xlsx", "html"])
def test_a_receiver_gets_the_report_and_what_it_is_of(tmp_path: Path, form: Any) -> None:
    async def test(office: Office) -> None:
        await office.until(3, 7)
        schedule = office.posted(form=form, group_by=("campaign",), filters={"app": ("shop",)})
        await office.reporter(schedule).turn()
        (call,) = office.receivers.calls
        data = call.body["data"]
        content = data.pop("content")
        assert (call.body["type"], call.secrets) == ("report.made", [SECRET])
        assert data == {
            "name": "cost",
            "period": "2100-01-02",
            "from": "2100-01-02",
            "to": "2100-01-02",
            "zone": "UTC",
            "format": form,
            "file": f"cost-2100-01-02.{form}",
            "encoding": "base64" if form == "xlsx" else "utf-8",
        }
        if form == "xlsx":
            book = load_workbook(io.BytesIO(base64.b64decode(content)))
            names, values = book.get_sheet_by_name("Cost").to_python()
            assert dict(zip(names, values, strict=True))["cost"] == 0.005
        else:
            assert "autumn" in content
            assert "0.0050" in content

    in_office(test, tmp_path)


def test_a_page_leads_nowhere_and_needs_no_server(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        await office.until(3, 7)
        await office.reporter(office.daily(form="html", group_by=("channel",))).turn()
        text = (office.folder / "cost-2100-01-02.html").read_text()
        assert "<form" not in text
        assert "<a " not in text
        assert "<script" not in text
        assert "cost, made 2100-01-03T07:00:00" in text

    in_office(test, tmp_path)


def test_one_that_cannot_be_made_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> bytes:
        raise ValueError("no such luck")

    monkeypatch.setattr("gateway.reporter.rendering._workbook", broken)

    async def test(office: Office) -> None:
        made = await office.reporter(
            office.daily(name="broken", form="xlsx"), office.daily(name="good")
        ).turn()
        assert made is not None
        assert [(each.report, each.reason) for each in made] == [
            ("broken", "no such luck"),
            ("good", ""),
        ]

    in_office(test, tmp_path)


def test_redis_away_is_waited_for(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        async with trio.open_nursery() as nursery:
            office.weather.down = True
            nursery.start_soon(office.process, office.daily())
            await office.until(1, 2)
            assert office.files() == []
            office.weather.down = False
            await office.until(1, 3)
            nursery.cancel_scope.cancel()
        assert office.files() == ["cost-2099-12-30.csv"]

    in_office(test, tmp_path)


def test_days_are_those_of_the_reports_zone(tmp_path: Path) -> None:
    async def test(office: Office) -> None:
        await trio.sleep(3.5 * HOUR_S)  # 06:30 in Moscow
        await office.reporter(office.daily(), zone="Europe/Moscow").turn()
        assert office.files() == ["cost-2099-12-31.csv"]

    assert DAY_MS == DAY_S * 1_000
    in_office(test, tmp_path)


@pytest.mark.parametrize("answer", [AWAY, OK], ids=["failed", "taken"])
def test_one_that_stood_still_takes_back_nothing_that_another_made(
    tmp_path: Path, answer: CallAnswer
) -> None:
    """Stopped while it posted, for longer than its lease and until another had made the next two;
    what its own call came to says nothing any more."""

    async def test(office: Office) -> None:
        asked = office.posted()
        overtaken = trio.Event()

        async def answers(call: Call) -> CallAnswer:
            if len(office.receivers.calls) > 1:
                return OK
            await overtaken.wait()
            return answer

        office.receivers.answer = answers
        async with trio.open_nursery() as nursery:
            stopped = office.reporter(asked)
            nursery.start_soon(stopped.turn)
            await office.until(1, 1)
            nursery.start_soon(office.process, asked)
            await office.until(3, 7)
            made = await office.state()
            assert made.made == "2100-01-02"
            overtaken.set()
            await office.until(3, 8)
            assert await office.state() == made
            told = [call.body["data"]["period"] for call in office.receivers.calls]
            assert told == ["2099-12-30", "2099-12-30", "2099-12-31", "2100-01-01", "2100-01-02"]
            nursery.cancel_scope.cancel()

    in_office(test, tmp_path)
