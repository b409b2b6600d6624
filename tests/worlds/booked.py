"""A store in which messages were sent and delivered at given moments, and the invoice for them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from gateway.core.events import Accepted, Claimed, Reported
from gateway.core.money.reconciliation import Ours
from gateway.core.policy import Policy
from gateway.core.views.words import rfc3339
from gateway.finance.invoices.reconciled_formats import amount
from gateway.redis.client import RedisClient
from gateway.store.messages.apply import Item
from gateway.store.messages.sent_lines import sent_lines
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Receipt
from tests.worlds.cascade_world import request

NOON = 1_795_262_400_000  # 2026-11-21T12:00:00Z
ROUTE = "viber-only"
PROVIDER = "infobip-viber"
NETWORK = "25001"
HEADER = ("id", "to", "at", "parts", "price", "network", "status")


async def send(
    redis: RedisClient,
    policy: Policy,
    count: int,
    *,
    at_ms: int = NOON,
    undelivered: int = 0,
    provider: str = PROVIDER,
    prefix: str = "7916",
    retention: Retention | None = None,
) -> Store:
    """So many messages, a minute apart, each delivered two seconds later, but for the last."""
    store = Store(redis, policy, retention=retention)
    for number in range(count):
        now_ms = at_ms + number * 60_000
        to = f"{prefix}{number:07}"
        asked = request(
            id=store.new_message_id(to, now_ms), to=to, route=ROUTE, campaign=f"c{number}"
        )
        (answer,) = await store.admit([asked], now_ms)
        assert answer.id is not None, answer
        await store.apply([Item(answer.id, Claimed(0))], now_ms)
        await store.apply([Item(answer.id, Accepted(0, sent_ms=now_ms))], now_ms)
        if number < count - undelivered:
            receipt = Receipt(
                "delivered", ref=f"{answer.id}.0", at_ms=now_ms + 2_000, network=NETWORK
            )
            event = Reported(0, receipt, provider)
            await store.apply([Item(answer.id, event)], now_ms + 2_000)
    return store


async def lines_of(store: Store, provider: str = PROVIDER) -> list[Ours]:
    """All that the provider was handed, the oldest first."""
    found = [
        line
        async for page in sent_lines(store, provider, 0, NOON + 60 * 86_400_000)
        for line in page
    ]
    return sorted(found, key=lambda line: line.at_ms)


def invoice(lines: Sequence[Ours], changes: dict[int, dict[str, Any]] | None = None) -> str:
    """The CSV that agrees with our lines, but for the changed cells: by the place of the line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, HEADER)
    writer.writeheader()
    for place, line in enumerate(lines):
        if not line.cost and place not in (changes or {}):
            continue
        row = {
            "id": line.id,
            "to": f"+{line.to}",
            "at": rfc3339(line.at_ms),
            "parts": line.parts,
            "price": amount(line.cost * 1_000_000 // line.parts),
        }
        writer.writerow(row | (changes or {}).get(place, {}))
    return text.getvalue()
