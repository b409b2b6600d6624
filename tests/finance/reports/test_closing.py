"""A month is closed, by a given clock: once, whole, and for good."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.core.events import Reported, TimerDue
from gateway.core.money.days import Days
from gateway.core.money.months import Month
from gateway.core.records.codec import NEWEST
from gateway.finance.lines.lines import LinesQuery, pages_of_lines
from gateway.finance.question import Query
from gateway.finance.reports import closing
from gateway.finance.reports.closing import ClosingRefusal, close_month, is_whole
from gateway.finance.reports.report import cost_report
from gateway.finance.reports.verify import verify_ledger
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.money.months import keep_report
from gateway.store.money.totals import pages_of_totals
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds.booked import NOON, send
from tests.worlds.cascade_world import policy

PROVIDER = "viber"
RULES = policy(charged_on="delivered")
NOVEMBER = Month("2026-11", datetime.date(2026, 11, 1), datetime.date(2026, 11, 30))
OVER = 1_796_083_200_000  # 2026-12-01T00:00:00Z
CLOSABLE = OVER + 600_000
LATER = OVER + 5 * 86_400_000
PAGE = Path(__file__).resolve().parents[3] / "docs" / "closing.md"


async def open_ids(store: Store) -> list[str]:
    (ids,) = await store.redis.call([("ZRANGE", keys_of(0).timers, 0, -1)])
    assert isinstance(ids, list)
    return [id_.decode() for id_ in ids]


async def expire(store: Store) -> list[str]:
    """The timers of what is open fire; returns whose."""
    ids = await open_ids(store)
    await store.apply([Item(id_, TimerDue()) for id_ in ids], NOON + 86_400_000)
    return ids


async def filled(redis: RedisClient, undelivered: int = 2) -> Store:
    return await send(redis, RULES, 5, undelivered=undelivered, provider=PROVIDER)


async def closed(store: Store, now_ms: int = CLOSABLE) -> bytes:
    told = await close_month(store, NOVEMBER, now_ms)
    assert isinstance(told, bytes), told
    return told


async def refused(store: Store, now_ms: int = CLOSABLE, **more: Any) -> ClosingRefusal:
    told = await close_month(store, NOVEMBER, now_ms, **more)
    assert isinstance(told, ClosingRefusal)
    return told


def test_a_month_that_is_not_over_is_refused(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        told = await refused(store, CLOSABLE - 1)
        assert told.reasons == [
            "It is not over: it can be closed from 2026-12-01T00:10:00.000Z on."
        ]
        assert orjson.loads(await closed(store))["month"] == "2026-11"

    run(redis_url, work)


def test_a_month_is_over_by_the_zone_of_the_reports(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        store.policy = replace(store.policy, days=Days("Europe/Moscow"))
        shape = orjson.loads(await closed(store, CLOSABLE - 3 * 3_600_000))
        assert shape["zone"] == "Europe/Moscow"

    run(redis_url, work)


def test_steps_that_could_still_bill_are_told_with_their_end(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis)
        told = await refused(store)
        assert {step.message for step in told.open} == set(await open_ids(store))
        assert told.open_count == 2
        last = told.open[0]
        assert (last.step, last.provider, last.done_by) == (0, "viber", told.done_by)
        (reason,) = told.reasons
        assert reason.startswith("2 of its messages have steps open that could still bill")
        assert reason.endswith(f"until {told.done_by}.")
        await expire(store)
        await closed(store)

    run(redis_url, work)


@pytest.mark.parametrize("record", [bytes((NEWEST + 1,)) + b"newer", b"damaged"])
def test_what_cannot_be_read_may_be_open(redis_url: str, record: bytes) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 1)
        (id_,) = await open_ids(store)
        key = keys_of(0).message(id_)
        (kept,) = await redis.call([("GET", key)])
        assert isinstance(kept, bytes)
        await redis.call([("SET", key, record)])
        (reason,) = (await refused(store)).reasons
        assert reason.startswith("1 of its messages may have steps open and cannot be read")
        await redis.call([("SET", key, kept)])
        await expire(store)
        await closed(store)

    run(redis_url, work)


def test_what_is_accepted_after_the_month_does_not_hold_it_open(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        await send(redis, RULES, 1, at_ms=OVER, undelivered=1, provider=PROVIDER, prefix="7917")
        assert len(await open_ids(store)) == 1
        await closed(store)

    run(redis_url, work)


def test_what_is_not_archived_is_waited_for(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        asked: list[int] = []

        async def unarchived(before_ms: int) -> str | None:
            asked.append(before_ms)
            return "Hours are missing."

        told = await refused(await filled(redis, 0), unarchived=unarchived)
        assert (told.reasons, asked) == (["Hours are missing."], [OVER])

    run(redis_url, work)


def test_books_that_disagree_are_not_closed(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        await redis.call([("DEL", keys_of(0).totals("2026-11-21"))])
        (reason,) = (await refused(store)).reasons
        assert "kaskad report verify" in reason

    run(redis_url, work)


async def month_of_reports(store: Store) -> Any:
    pages = pages_of_totals(store.redis, 1, NOVEMBER.first, NOVEMBER.last)
    query = Query(NOVEMBER.first, NOVEMBER.last, ("day", "campaign", "step"))
    return await cost_report(pages, query, "EUR")


def test_a_closed_month_stays_as_it_was_and_what_comes_later_is_late(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis)
        late_ids = await expire(store)
        report = await closed(store)
        before = await month_of_reports(store)
        assert is_whole(report)
        for id_ in late_ids:
            receipt = Receipt("delivered", ref=f"{id_}.0", at_ms=NOON)
            await store.apply([Item(id_, Reported(0, receipt, PROVIDER))], LATER)
        assert await closed(store, LATER) == report
        assert await month_of_reports(store) == before
        days = datetime.date(2026, 11, 1), datetime.date(2026, 12, 31)
        pages = pages_of_lines(redis, 1, LinesQuery(Query(*days)), "EUR")
        lines = [line async for page in pages for _, line in page.lines]
        late = [line for line in lines if line.reason == "late:2026-11"]
        assert {line.message for line in late} == set(late_ids)
        assert all((line.at_ms >= OVER) is (line in late) for line in lines)
        assert (await verify_ledger(redis, 1, full=True)).agrees

    run(redis_url, work)


def test_of_two_who_close_it_the_first_wins(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        assert await keep_report(redis, "2026-11", b"first", CLOSABLE) == b"first"
        assert await keep_report(redis, "2026-11", b"second", CLOSABLE) == b"first"
        assert await closed(store) == b"first"

    run(redis_url, work)


def test_a_closing_that_was_interrupted_left_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*given: Any) -> bytes:
        raise InterruptedError

    async def work(redis: RedisClient) -> None:
        store = await filled(redis, 0)
        with monkeypatch.context() as patch:
            patch.setattr(closing, "keep_report", dies)
            with pytest.raises(InterruptedError):
                await close_month(store, NOVEMBER, CLOSABLE)
        assert orjson.loads(await closed(store, LATER))["closed_at"] == "2026-12-06T00:00:00.000Z"

    run(redis_url, work)


def test_a_report_that_was_changed_is_noticed(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        report = await closed(await filled(redis, 0))
        assert is_whole(report)
        assert not is_whole(report.replace(b"0.0250", b"0.0249"))

    run(redis_url, work)


def shows(part: Any, whole: Any) -> bool:
    """Whether what a page shows is so: it may leave columns out."""
    if isinstance(part, dict):
        return all(key in whole and shows(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(shows, part, whole))
    return bool(part == whole)


def test_the_page_shows_a_report_as_it_is_written(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert shows(orjson.loads(block), orjson.loads(await closed(await filled(redis, 0))))

    run(redis_url, work)
