"""Two persons who are joined while messages of both are under way count for each other at once."""

from __future__ import annotations

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.records.message import MessageStatus
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt
from ratelimit.caps import Cap
from tests.worlds import stores
from tests.worlds.cascade_world import DAY, T0, policy, request

PHONES = ("79161234567", "79160000004")
ONE_SMS = Cap("one-sms", 1, DAY, "1d", "marketing", "sms")


def test_of_two_that_fall_back_in_one_batch_one_has_the_place_under_a_cap(redis_url: str) -> None:
    async def work(store: Store) -> None:
        sales = [request(id=store.new_message_id(to, T0), to=to, user=None) for to in PHONES]
        await store.admit(sales, T0)
        for sale in sales:
            for each in (ev.Claimed(0), ev.Accepted(0)):
                await store.apply([Item(sale.id, each)], T0)
        for to in PHONES:
            order = request(
                id=store.new_message_id(to, T0),
                addresses=Addresses(to, "anna@shop.example"),
                user=None,
                campaign=None,
                category="transactional",
            )
            await store.admit([order], T0)
        items = [
            Item(sale.id, ev.Reported(0, Receipt("undelivered", ref=f"{sale.id}.0"), "viber"))
            for sale in sales
        ]
        ended = [each.message for each in await store.apply(items, T0)]
        reasons = [message.reason for message in ended if message is not None]
        assert sorted(map(str, reasons)) == ["None", "frequency_cap"]
        assert MessageStatus.SUPPRESSED in [message.status for message in ended if message]

    stores.in_store(redis_url, work, policy(caps=(ONE_SMS,)))
