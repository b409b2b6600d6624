"""Texts over SMPP to the simulator's SMSC, through a dispatcher: the ledger is its bill."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import pytest
import trio

from gateway.core.money.money import format_amount
from gateway.core.records.content import Content
from gateway.store.money.ledger import pages_of_entries
from providers.simulator import Settings, changed, child
from providers.smpp.provider import SmppProvider, open_stream
from tests.worlds import template
from tests.worlds.dispatch_world import DispatchWorld, dispatching
from tests.worlds.dispatch_world import world as dispatch_world
from tests.worlds.ports import free_port
from tests.worlds.simulated import KNOBS
from tests.worlds.smsc import config

TEXTS = {1: "a" * 100, 3: "a" * 400}  # by parts; 40,000 a part in both price lists
COUNT = 20  # of each length
FATES = {
    "reject_share": 0.4,
    "sms_delivered": 0.5,
    "sms_undelivered": 0.5,
    "receipt_ms_min": 100,
    "receipt_ms_max": 300,
}


async def booked(w: DispatchWorld) -> Counter[str]:
    """What the ledger adds up to, by measure."""
    sums: Counter[str] = Counter()
    async for page in pages_of_entries(w.redis, 0, (0, 0)):
        for _, entry in page:
            for post in entry.posts:
                sums.update(post.measures)
    return sums


@pytest.mark.parametrize("charged_on", ["sent", "delivered"])
def test_the_ledger_is_the_bill_of_an_smsc_that_refuses_and_loses_texts(
    redis_url: str, charged_on: Literal["sent", "delivered"]
) -> None:
    knobs = changed(KNOBS, {**FATES, "sms_charged_on": charged_on})
    settings = Settings(knobs=knobs, smpp_port=free_port())

    async def send(simulator: child.Child) -> Counter[str]:
        terms: dict[str, Any] = {"name": "sms", "port": settings.smpp_port, "window": 20}
        smsc = config(**terms, password="simulator", rate_per_s=1_000, connections=2)
        providers = {"sms": SmppProvider(smsc, partial(open_stream, smsc, None))}
        async with dispatch_world(redis_url, charged_on=charged_on) as w:
            async with dispatching(w, providers=providers):
                ids: list[str] = []
                for text in TEXTS.values():
                    ids += await w.admit(COUNT, route="sms-only", content=Content(text))

                async def are_closed() -> bool:
                    return all([(await w.message(id_)).closed for id_ in ids])

                await w.until_asked(are_closed)
            return await booked(w)

    with template.simulation(settings) as simulator:
        sums = trio.run(send, simulator)
        bill = simulator.bill()
    (line,) = bill.channels
    assert line.rejected >= 10
    assert line.delivered >= 10
    of_parts = [m for m in bill.messages.values() if m.outcome == "rejected" and m.parts == 2]
    assert bool(of_parts) == (charged_on == "sent"), "some were taken in part"
    assert Decimal(format_amount(sums["cost"])) == Decimal(bill.charge["EUR"])
    assert sums["delivered"] == line.delivered
    assert sums["billed"] == 70_000 * sums["parts"]
