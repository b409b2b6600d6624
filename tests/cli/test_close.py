"""`kaskad close` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import app


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
