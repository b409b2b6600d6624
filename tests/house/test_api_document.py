"""docs/api.md promises what the route table, the settings and the kinds of problem say."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.ingress.api.events.events import HEARTBEAT_S
from gateway.ingress.api.messages.request_body import KEY_MAX
from gateway.ingress.http.problems import KINDS
from gateway.ingress.http.protocol import HEADERS_MAX
from gateway.ingress.http.routes import ROUTES
from gateway.settings.tables import RetentionSettings, Server
from gateway.store.installation.api_keys import REVOKED_WITHIN_S
from gateway.store.writes import Retention

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
DAY_MS = 86_400_000


def test_it_names_every_endpoint_with_its_scope() -> None:
    named = {
        (method, path): scope
        for line in PAGE.splitlines()
        if (cells := line.split("|"))[1:] and len(cells) > 3
        for method, path in re.findall(r"`([A-Z]+) (/\S*)`", cells[1])
        for scope in [cells[2].strip(" `") or None]
    }
    assert named == {(route.method, route.path): route.scope for route in ROUTES}


def test_it_names_every_limit_with_its_default() -> None:
    limits = Server()
    rows = re.findall(r"^\| .*\(`(\w+)`\) \| (\d+)([smh]?)\b", PAGE, re.MULTILINE)
    assert len(rows) == 12
    for key, number, unit in rows:
        if unit:
            assert getattr(limits, f"{key}_ms").text == f"{number}{unit}"
        else:
            assert getattr(limits, key) == int(number)
    assert f"bytes, {HEADERS_MAX} lines" in PAGE


def test_it_names_every_kind_of_problem_with_its_status() -> None:
    table = PAGE.partition("## Errors")[2].partition("## ")[0]
    named = re.findall(r"`([a-z-]+)` \| (\d{3})", table)
    assert {kind: int(status) for kind, status in named} == {
        code: kind.status for code, kind in KINDS.items()
    }


def test_its_other_numbers_are_those_of_the_code() -> None:
    promised = " ".join(PAGE.split())
    assert Retention().idempotency_ms == DAY_MS
    assert RetentionSettings().messages_ms == 30 * DAY_MS
    for words in (
        f"`Idempotency-Key` (1 to {KEY_MAX} characters)",
        "For 24 hours the same key",
        f"after {REVOKED_WITHIN_S} seconds",
        f"the last {RetentionSettings().events_max} changes",
        f"every {HEARTBEAT_S:g} seconds",
        "until 30 days after",
    ):
        assert words in promised
