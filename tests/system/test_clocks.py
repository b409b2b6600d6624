"""CONTRACT.md 15, clocks that step: what is released, counted or sent by time goes by Redis'."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

from bench.chaos.clocks import Clocks
from tests.worlds.stack import phone, stack

HOUR_MS = 3_600_000
VIBER_ONLY = {"viber_share": 1.0, "viber_delivered": 1.0, "viber_undelivered": 0.0}


def seconds_of(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize("wrong_ms", [0, -HOUR_MS])
def test_a_machines_clock_may_be_wrong_and_steps_while_its_processes_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    wrong_ms: int,
) -> None:
    clocks = Clocks(tmp_path, [wrong_ms])
    request.addfinalizer(clocks.close)
    for name, value in clocks.environment(0).items():
        monkeypatch.setenv(name, value)
    with stack(knobs=VIBER_ONLY) as running:
        monkeypatch.undo()
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=25)
        scheduled = running.accept(phone(), send_at=soon.isoformat())
        for step_ms in (HOUR_MS, -2 * HOUR_MS):
            clocks.jump(0, step_ms)
            before_s = time.time()
            for category, ttl in (("otp", 30), ("transactional", 3_600)):
                id_ = running.accept(phone(), category=category, ttl=ttl)
                shown = running.when(id_, "delivered")
                told_s = [seconds_of(shown["created_at"]), seconds_of(shown["updated_at"])]
                assert before_s - 1 <= told_s[0] <= told_s[1] <= time.time() + 1
                assert [step["status"] for step in shown["steps"]][:1] == ["delivered"]
        shown = running.get(f"/v1/messages/{scheduled}").json
        assert (shown["status"], shown["held"]["reason"]) == ("queued", "scheduled")
        assert abs(seconds_of(shown["held"]["until"]) - soon.timestamp()) < 1
