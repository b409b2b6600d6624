"""`kaskad close` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import app
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store.shared_keys import month_report
from tests.worlds.booked import send
from tests.worlds.cascade_world import policy

OCTOBER = 1_792_065_600_000  # 2026-10-15T12:00:00Z


@pytest.fixture(autouse=True)
def empty(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)


def test_a_closed_month_is_told_again_byte_for_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["close", "2026-10", "--json"]) == 0
    first = capsys.readouterr().out
    out = tmp_path / "2026-10.json"
    assert app.run(["close", "2026-10", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert out.read_text() == first
    assert "2026-10 (2026-10-01 to 2026-10-31, UTC) is closed since" in told
    assert json.loads(first)["sha256"] in told


def test_what_is_not_over_ends_with_1_and_what_is_no_month_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.run(["close", "2999-12", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["month"] == "2999-12"
    assert "2999-12 cannot be closed:\nIt is not over: it can be closed from 3000-" in told.err
    assert app.run(["close", "november"]) == 2
    assert "'november' is no month: write it as 2026-11." in capsys.readouterr().err


def test_what_is_booked_on_a_day_of_a_closed_month_is_told(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def sent(redis: RedisClient) -> None:
        await send(redis, policy(), 1, at_ms=OCTOBER, provider="viber")

    async def sent_late(redis: RedisClient) -> None:
        """By a process that stood still over the closing."""
        await send(redis, policy(), 1, at_ms=OCTOBER + 60_000, provider="viber", prefix="7917")

    run(redis_url, sent)
    assert app.run(["close", "2026-10", "--json"]) == 0
    report = capsys.readouterr().out
    assert app.run(["report", "verify"]) == 0
    assert "Booked on days" not in capsys.readouterr().out
    run(redis_url, sent_late)
    assert app.run(["close", "2026-10", "--json"]) == 1
    told = capsys.readouterr()
    assert told.out == report
    assert "after it was closed:\n  2026-10: accepted was 1 and is 2\n" in told.err
    assert app.run(["report", "verify"]) == 1
    assert "  2026-10: delivered was 1 and is 2\n" in capsys.readouterr().out
    assert app.run(["report", "verify", "--json"]) == 1
    shape = json.loads(capsys.readouterr().out)
    assert shape["agrees"]
    change = {"month": "2026-10", "column": "sent", "closed": 1, "now": 2}
    assert change in shape["closed_months_changed"]


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b"{}", b'{"sha256": "x"}', None])
def test_a_report_that_is_no_more_what_it_was_is_told(
    redis_url: str, capsys: pytest.CaptureFixture[str], kept: bytes | None
) -> None:
    """By the verification too, which says what else there is all the same."""

    async def altered(redis: RedisClient) -> None:
        key = month_report("2026-10")
        await redis.call([("SET", key, kept) if kept is not None else ("DEL", key)])

    assert app.run(["close", "2026-10"]) == 0
    run(redis_url, altered)
    capsys.readouterr()
    assert app.run(["report", "verify"]) == 1
    told = capsys.readouterr().out
    assert "agree to the last unit" in told
    broken = "The report of 2026-10 is not what it was: its hash does not fit.\n"
    assert broken in told
    assert app.run(["report", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["closed_months_broken"] == ["2026-10"]
    if kept is not None:
        assert app.run(["close", "2026-10"]) == 1
        assert capsys.readouterr().err.endswith(broken)
