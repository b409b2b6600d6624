"""Our adapter of SMSC.ru against its twin: what one writes, the other reads."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.contract import AccountFault, Refused, SendFault, Submitted, Throttled
from providers.simulator import child
from providers.smsc_ru.adapter import SmscRu
from tests.worlds.provider_examples import config, submission
from tests.worlds.simulated import outcome_of
from tests.worlds.simulator_webhook import Webhook


@pytest.fixture
def webhook(running: child.Child, webhook: Webhook) -> Webhook:
    running.turn(hooks={"smsc-ru": webhook.url + "/callback?token=t"})
    return webhook


def sent_by(simulator: child.Child, key: str, ref: str, **changes: object) -> object:
    adapter = SmscRu(config("smsc-ru", api_key=key))
    return outcome_of(adapter, simulator, submission(ref, **changes))


def test_messages_are_taken_reported_and_charged(running: child.Child, webhook: Webhook) -> None:
    ends = ["delivered", "undelivered", "expired", "rejected"]
    people = {f"7916000000{n}": {"sms": {"ending": end}} for n, end in enumerate(ends)}
    running.turn(
        by_phone=people | {"79160000000": {"sms": {"ending": "delivered", "reply": "СТОП"}}}
    )
    key = running.api_key
    outcomes = [
        sent_by(running, key, f"m-{n}.0", to=f"+7916000000{n}", text="я" * 71) for n in range(4)
    ]
    assert [type(outcome) for outcome in outcomes] == [Submitted] * 3 + [Refused]
    assert outcomes[0] == Submitted("m-0.0", None, 2)
    running.flush(everything=True)
    adapter = SmscRu(config("smsc-ru"))
    read = [adapter.receipts(post.body, "") for post in webhook.posts]
    told = {receipt.ref: receipt for each in read for receipt in each.receipts}
    assert {ref: receipt.status for ref, receipt in told.items()} == {
        "m-0.0": "delivered",
        "m-1.0": "undelivered",
        "m-2.0": "expired",
    }
    assert told["m-0.0"].cost == Decimal("0.0800")
    assert told["m-1.0"].about == "person"
    (reply,) = [reply for each in read for reply in each.replies]
    assert (reply.sender, reply.text) == ("79160000000", "СТОП")


def test_faults_are_told_as_smsc_tells_them(running: child.Child, webhook: Webhook) -> None:
    assert isinstance(sent_by(running, "wrong", "m-0.0"), AccountFault)
    bad = sent_by(running, running.api_key, "m-0.0", to="+7")
    assert isinstance(bad, Refused)
    assert bad.unreachable
    long = sent_by(running, running.api_key, "m-0.0", text="x" * 801)
    assert isinstance(long, SendFault)
    running.turn(throttle_share=1.0)
    assert isinstance(sent_by(running, running.api_key, "m-1.0"), Throttled)
