"""Notifications from a lane to devices and back into the records: FCM's port, its twin, a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from gateway.core.addresses import Addresses
from gateway.core.money.prices import Price
from gateway.core.policy import ProviderRule, RouteStep
from gateway.core.records.user import StoredUser
from gateway.store.people import users
from providers.contract import FcmAddress
from providers.simulator import Settings, child
from tests.worlds import template
from tests.worlds.cascade_world import MINUTE, PRICES
from tests.worlds.dispatch_world import dispatching, world
from tests.worlds.push_examples import FCM
from tests.worlds.simulated import KNOBS

DEAD, ALIVE = FcmAddress("dead"), FcmAddress("alive")
GONE = {"dead": {"push": {"ending": "rejected", "status": 9404}}}
STEPS = (RouteStep(("push",), 15 * MINUTE, 0), RouteStep(("sms",), MINUTE, 0))


@pytest.fixture(scope="module")
def simulator() -> Iterator[child.Child]:
    with template.simulation(Settings(knobs=KNOBS)) as running:
        running.turn(push_share=1.0, by_phone=GONE)
        yield running


def test_a_message_reaches_the_devices_that_are_left_and_then_the_phone(
    redis_url: str, simulator: child.Child, tmp_path: Path
) -> None:
    async def main() -> None:
        async with world(redis_url, steps=STEPS) as w:
            base, prices = w.store.policy, PRICES | {"push": Price(1_000, 2_000, "EUR")}
            w.store.policy = msgspec.structs.replace(
                base,
                providers=base.providers | {"push": ProviderRule("push", devices="fcm")},
                quote=lambda provider, *_: prices.get(provider),
            )
            kept = StoredUser("shop", 0, Addresses("79161234567", push=(DEAD, ALIVE)))
            await users.change(
                w.store, [users.UserChange("u1", "", kept.addresses, lambda _: kept)], 0
            )
            both = kept.addresses
            (first,) = await w.admit(user="u1", addresses=both, campaign="one")
            only = Addresses("79161234568", push=(DEAD,))
            (second,) = await w.admit(addresses=only, campaign="two")
            fcm = FCM.provider(simulator.base_url, tmp_path, "push")
            providers = {"push": fcm, "sms": w.sms, "viber": w.viber}
            async with dispatching(w, providers=providers):
                await w.until([first], "delivered", "skipped")
                await w.until([second], "rejected", "sent")

                async def left() -> bool:  # the user is changed after the message
                    return (await users.read(w.store, ["u1"]))["u1"].addresses.push == (ALIVE,)

                await w.until_asked(left)
                (third,) = await w.admit(addresses=only, campaign="three")
                await w.until([third], "skipped", "sent")
            message = await w.message(third)
            assert message.steps[0].fault is not None
            assert message.steps[0].fault.code == "not_reachable"
            assert (await w.message(first)).billed == 2_000
            await fcm.aclose()

    trio.run(main)
