"""The link of commands keeps the promises of the others, without a loop."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.finance.ledger import cost_report
from gateway.finance.report import Query
from gateway.finance.verify import verify
from gateway.redis.errors import StoreReplyError, StoreUnavailable
from gateway.store.sync_driver import finish, open_link


def test_replies_come_in_order_as_bytes_and_lists(redis_url: str) -> None:
    with open_link(redis_url) as link:
        replies = finish(
            link.call([("SET", "a", "1"), ("HSET", "h", "x", 2), ("HGETALL", "h"), ("GET", "no")])
        )
    assert replies == [b"OK", 1, [b"x", b"2"], None]


def test_a_refused_command_names_itself_and_the_others_are_done(redis_url: str) -> None:
    with open_link(redis_url) as link:
        with pytest.raises(StoreReplyError, match="refused HGET") as caught:
            finish(link.call([("SET", "a", "1"), ("HGET", "a", "x"), ("SET", "b", "2")]))
        assert caught.value.code == "WRONGTYPE"
        assert finish(link.call([("MGET", "a", "b")])) == [[b"1", b"2"]]


def test_a_redis_that_is_away_is_unavailable(short_dir: Path) -> None:
    with (
        open_link(f"unix://{short_dir}/nothing.sock") as link,
        pytest.raises(StoreUnavailable, match="cannot be reached"),
    ):
        finish(link.call([("PING",)]))


def test_a_url_that_is_none_is_the_configurations_fault() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url"), open_link("ftp://nowhere"):
        pass


def test_what_finance_asks_is_answered_on_it(redis_url: str) -> None:
    day = datetime.date(2026, 11, 21)
    with open_link(redis_url) as link:
        report = finish(cost_report(link, 2, Query(day, day, ("channel",)), "EUR"))
        verdict = finish(verify(link, 2))
    assert report.lines == ()
    assert (verdict.agrees, verdict.entries) == (True, 0)


def test_a_coroutine_that_waits_for_anything_else_is_a_bug() -> None:
    class Never:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def waits() -> None:
        await Never()

    with pytest.raises(AssertionError, match="no SyncLink"):
        finish(waits())
