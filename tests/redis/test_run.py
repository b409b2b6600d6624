"""The client of commands: one piece of work on a loop of its own, with the same promises."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.finance.question import Query
from gateway.finance.reports.report import Report, cost_report
from gateway.finance.reports.verify import Verdict, compare_books
from gateway.redis import asyncio_driver
from gateway.redis.asyncio_driver import run
from gateway.redis.client import Limits, RedisClient
from gateway.redis.errors import CommandRefused, RedisUnavailable
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import pages_of_totals

SHORT_OF_PATIENCE = Limits(down_wait_s=0.1)


def test_replies_come_in_order_as_bytes_and_lists(redis_url: str) -> None:
    commands = [("SET", "a", "1"), ("HSET", "h", "x", 2), ("HGETALL", "h"), ("GET", "no")]
    replies = run(redis_url, lambda redis: redis.call(commands))
    assert replies == [b"OK", 1, [b"x", b"2"], None]


def test_a_refused_command_names_itself_and_the_others_are_done(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        with pytest.raises(CommandRefused, match="refused HGET") as caught:
            await redis.call([("SET", "a", "1"), ("HGET", "a", "x"), ("SET", "b", "2")])
        assert caught.value.code == "WRONGTYPE"
        assert await redis.call([("MGET", "a", "b")]) == [[b"1", b"2"]]

    run(redis_url, work)


@pytest.mark.parametrize("url", ["unix://{}/nothing.sock", "redis+cluster://127.0.0.1:1"])
def test_a_redis_that_is_away_is_unavailable(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(asyncio_driver, "COMMAND_LIMITS", SHORT_OF_PATIENCE)
    with pytest.raises(RedisUnavailable, match="is away"):
        run(url.format(short_dir), lambda redis: redis.call([("GET", "a")]))


def test_a_url_that_is_none_is_the_configurations_fault() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url"):
        run("ftp://nowhere", lambda redis: redis.call([("PING",)]))


def test_what_finance_asks_is_answered_on_it(redis_url: str) -> None:
    day = datetime.date(2026, 11, 21)

    async def work(redis: RedisClient) -> tuple[Report, Verdict]:
        pages = pages_of_totals(redis, 2, day, day)
        report = await cost_report(pages, Query(day, day, ("channel",)), "EUR")
        return report, await compare_books(read_books(redis, 2))

    report, verdict = run(redis_url, work)
    assert report.lines == ()
    assert (verdict.agrees, verdict.entries) == (True, 0)


def test_a_ctrl_c_ends_the_work_and_closes_the_client(redis_url: str) -> None:
    clients: list[RedisClient] = []

    async def work(redis: RedisClient) -> None:
        clients.append(redis)
        await redis.call([("PING",)])
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(10)

    # A shell starts what runs in its background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(redis_url, work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not clients[0].statistics().connected
