"""Our own adapters against the simulator: what one writes, the other reads."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.contract import Refused, Submission, Submitted
from providers.http.adapter import Adapter, HttpConfig, ProviderRequest, Reply
from providers.registry import KINDS
from providers.simulator import child
from tests.worlds.simulator_webhook import Webhook, call


def adapter(kind: str, simulator: child.Child, webhook: Webhook) -> Adapter:
    make = KINDS[kind].adapter
    assert make is not None
    return make(
        HttpConfig(
            name=kind,
            kind=kind,
            base_url=simulator.base_url,
            api_key=simulator.api_key,
            sender="Shop",
            rate_per_s=100,
            batch=100,
            timeout_ms=10_000,
            callback_url=webhook.url + "/callback?token=t",
        )
    )


def exchange(simulator: child.Child, request: ProviderRequest) -> Reply:
    key = {name.lower(): value for name, value in request.headers}["authorization"]
    answer = call(
        simulator.port,
        request.method,
        request.path,
        request.body or None,
        key=key.removeprefix("App "),
    )
    return Reply(answer.status, answer.headers, answer.body)


def submission(number: int) -> Submission:
    return Submission(
        ref=f"01J-{number}",
        to=f"+7916000000{number}",
        sender="Shop",
        category="marketing",
        text="я" * 71,
        validity_ms=900_000,
    )


@pytest.mark.parametrize(
    ("kind", "channel", "cost"),
    [("infobip-viber", "viber", "0.0100"), ("infobip-sms", "sms", "0.0800")],
)
def test_an_adapter_sends_looks_up_and_reads_its_receipts(
    running: child.Child, webhook: Webhook, kind: str, channel: str, cost: str
) -> None:
    ends = ["delivered", "undelivered", "expired", "rejected"]
    running.turn(
        by_phone={
            submission(number).to: {channel: {"ending": ending, "seen": False}}
            for number, ending in enumerate(ends)
        }
    )
    spoken = adapter(kind, running, webhook)
    batch = [submission(number) for number in range(len(ends))]
    outcomes = spoken.outcomes(batch, exchange(running, spoken.submit(batch)))
    assert [type(outcome) for outcome in outcomes] == [Submitted] * 3 + [Refused]

    refs = [item.ref for item in batch]
    found = spoken.looked_up(exchange(running, spoken.look_up([*refs[:3], "unknown"])))
    assert {receipt.ref: receipt.status for receipt in found} == dict.fromkeys(refs[:3], "sent")

    running.flush(everything=True)
    receipts = [
        receipt
        for post in webhook.posts
        for receipt in spoken.receipts(post.body, post.headers["content-type"]).receipts
    ]
    assert {receipt.ref: receipt.status for receipt in receipts} == dict(
        zip(refs, ends[:3], strict=False)
    )
    [delivered] = [receipt for receipt in receipts if receipt.status == "delivered"]
    assert (delivered.cost, delivered.currency) == (Decimal(cost), "EUR")
    assert running.bill().messages[refs[0]].charge == cost
