"""What came of messages, as /metrics counts it: by category and channel, once a change."""

from __future__ import annotations

from gateway.core import events as ev
from gateway.store.messages.apply import Item
from providers.contract import Receipt
from tests.worlds.ingress_world import OTP, SALE, T0, World, with_ingress


async def samples(world: World, name: str) -> dict[str, float]:
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
    own = ',process="ingress-test-1"'
    return {series.replace(own, ""): float(value) for series, _, value in lines}


@with_ingress()
async def test_a_message_is_timed_from_its_acceptance_to_its_delivery(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    await world.store.apply([Item(id_, ev.Claimed(0)), Item(id_, ev.Accepted(0))], T0 + 40)
    delivered = ev.Reported(0, Receipt("delivered", ref=f"{id_}.0"), "sms")
    await world.store.apply([Item(id_, delivered), Item(id_, delivered)], T0 + 4_000)
    of = 'category="otp",channel="sms"'
    found = await samples(world, "kaskad_message_seconds")

    def at_most(bound: str, status: str) -> float:
        return found[f'kaskad_message_seconds_bucket{{{of},le="{bound}",status="{status}"}}']

    assert [at_most(bound, "sent") for bound in ("0.1", "+Inf")] == [1, 1]
    assert [at_most(bound, "delivered") for bound in ("2.5", "5", "+Inf")] == [0, 1, 1]
    assert found[f'kaskad_message_seconds_sum{{{of},status="delivered"}}'] == 4


@with_ingress()
async def test_a_fallback_says_why_the_step_before_it_ended(world: World) -> None:
    ids = [(await world.send(SALE | {"to": f"+7916000000{n}"})).json["id"] for n in range(2)]
    refused, late = ids
    for id_ in ids:
        await world.hand_over(id_)
    receipt = ev.Reported(0, Receipt("undelivered", ref=f"{refused}.0"), "viber")
    await world.store.apply([Item(refused, receipt)], T0)
    await world.store.apply([Item(late, ev.TimerDue())], T0 + 3_600_000)
    of = 'category="marketing",channel="viber"'
    assert await samples(world, "kaskad_message_fallbacks_total") == {
        f'kaskad_message_fallbacks_total{{{of},reason="undelivered",to="sms"}}': 1,
        f'kaskad_message_fallbacks_total{{{of},reason="expired",to="sms"}}': 1,
    }


@with_ingress()
async def test_every_answer_is_timed_by_its_endpoint(world: World) -> None:
    await world.send(OTP)
    await world.call("GET", "/nowhere")
    counts = await samples(world, "kaskad_http_request_seconds_count")
    assert counts == {
        'kaskad_http_request_seconds_count{endpoint="send"}': 1,
        'kaskad_http_request_seconds_count{endpoint="none"}': 1,
    }
