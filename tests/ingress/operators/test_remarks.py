"""What an operator is told to look at, and that it is what the alerts tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.ingress.api.operators import remarks
from gateway.ingress.api.operators.health import RedisServer
from gateway.ingress.api.operators.ops_view import (
    ArchiveState,
    Fleet,
    LaneView,
    OpsView,
    ProviderView,
    RedisView,
    WebhookState,
)
from gateway.ingress.api.reports.schedule_view import ScheduledReport
from gateway.store.events.outbox import WAITING_MAX

NOW_MS = 1_795_000_000_000
AN_HOUR_AGO, LONG_AGO = "2026-11-18T10:06:40.000Z", "2026-11-18T08:06:40.000Z"
RUNNING = {"ingress-a-1": "1", "dispatch-a-1": "1"}
ALERTS = Path(__file__).parents[3] / "config" / "monitoring" / "alerts.yml"


def told(**parts: Any) -> list[str]:
    """Of a system that is well but for these parts."""
    well: dict[str, Any] = {
        "version": "1",
        "providers": {},
        "lanes": [],
        "redis": RedisView([]),
        "budgets": [],
        "webhooks": [],
        "archive": None,
        "reports": [],
    }
    fleet = Fleet({}, {}, {}, None, [], [], None, [])
    return list(remarks.remarks(OpsView(**well | parts), fleet, RUNNING, NOW_MS))


def redis(percent: int, refuses: Any = None) -> RedisView:
    return RedisView([RedisServer(0, percent, 100, percent, 1.0, 0, None, refuses)])


def webhook(
    disabled: str | None = None,
    failing_since: str | None = None,
    dead: bool = False,
    behind: bool = False,
) -> WebhookState:
    enabled = disabled is None
    return WebhookState("shop", "till", enabled, disabled, 7, failing_since, dead, behind)


def archive(failed_at: str | None, waiting_since: str | None) -> ArchiveState:
    return ArchiveState(3, LONG_AGO, failed_at, "no space" if failed_at else None, waiting_since)


def report(due_at: str, failed_at: str | None = None) -> ScheduledReport:
    reason = "no space" if failed_at else None
    return ScheduledReport("cost", None, None, "2026-W46", due_at, failed_at, reason)


def provider(sessions: int) -> ProviderView:
    return ProviderView("sms", "up", None, None, 5, 0.0, 0, 0, sessions=sessions)


@pytest.mark.parametrize(
    "well",
    [
        {},
        {"redis": redis(64)},
        {"webhooks": [webhook(None, "2026-11-18T11:00:00.000Z"), webhook()]},
        {"archive": archive(None, AN_HOUR_AGO)},
        {"reports": [report("2026-11-18T10:57:00.000Z"), report("2026-11-19T06:00:00.000Z")]},
        {"lanes": [LaneView("sms", "otp", 9, 5.0), LaneView("sms", "marketing", 9, 1_800.0)]},
        {"providers": {"smsc": provider(1)}},
    ],
)
def test_of_what_is_well_nothing_is_said(well: dict[str, Any]) -> None:
    assert told(**well) == []


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"redis": redis(65)}, "Redis, shard 0, is 65 % full."),
        ({"redis": redis(81, "marketing")}, "81 % full: new marketing is refused."),
        ({"redis": redis(91, "everything")}, "91 % full: all new messages are refused."),
        (
            {"webhooks": [webhook("gone")]},
            "The webhook till of shop is disabled (gone): 7 events wait.",
        ),
        (
            {"webhooks": [webhook(None, AN_HOUR_AGO, dead=True)]},
            f"The webhook till of shop has taken nothing since {AN_HOUR_AGO}: 7 events wait.",
        ),
        (
            {"webhooks": [webhook(None, AN_HOUR_AGO, behind=True)]},
            f"is behind: 7 events wait, and beyond {WAITING_MAX} the oldest leave.",
        ),
        ({"archive": archive(AN_HOUR_AGO, None)}, f"failed at {AN_HOUR_AGO}: no space"),
        ({"archive": archive(None, LONG_AGO)}, f"booked since {LONG_AGO} is not archived yet."),
        (
            {"reports": [report(LONG_AGO)]},
            f"of 2026-W46 is due since {LONG_AGO} and nobody makes it: start `kaskad report run`.",
        ),
        ({"reports": [report(LONG_AGO, AN_HOUR_AGO)]}, f"failed at {AN_HOUR_AGO}: no space"),
        (
            {"lanes": [LaneView("sms", "otp", 9, 5.4)]},
            "9 otp messages wait for sms, the oldest for 5 s.",
        ),
        ({"providers": {"smsc": provider(0)}}, "smsc has no session: nothing can be sent by it."),
    ],
)
def test_what_is_not_well_is_said_in_a_sentence(parts: dict[str, Any], said: str) -> None:
    (sentence,) = told(**parts)
    assert sentence.endswith(said)


def test_the_bounds_are_those_of_the_alerts() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    asked = {rule["alert"]: rule["expr"] for rule in group["rules"]}

    def bound(alert: str) -> str:
        found = re.search(r">=? ([0-9.]+)", asked[alert])
        assert found is not None
        return found[1]

    assert float(bound("KaskadRedisFilling")) * 100 == remarks.FILLING_PERCENT
    assert int(bound("KaskadOtpWaits")) == remarks.LANE_OLD_S["otp"]
    others = {age for category, age in remarks.LANE_OLD_S.items() if category != "otp"}
    assert others == {int(bound("KaskadLaneOld"))}
    assert int(bound("KaskadArchiveBehind")) * 1000 == remarks.ARCHIVE_BEHIND_MS
