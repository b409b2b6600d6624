"""Our adapters of Vonage against its twin: what one writes and signs, the other reads."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from providers.contract import (
    AccountFault,
    PersonReply,
    Receipt,
    Refused,
    Submitted,
    Throttled,
)
from providers.http.adapter import Reply
from providers.simulator import Settings, child
from providers.vonage.access import Access
from providers.vonage.adapter import Vonage, VonageSms, VonageViber
from providers.vonage.signature import VonageSignature
from tests.worlds import template
from tests.worlds.provider_examples import config, submission
from tests.worlds.push_examples import google_key
from tests.worlds.simulated import KNOBS, outcome_of
from tests.worlds.simulator_webhook import Webhook, call

KEY = "a-signature-secret-of-thirty-two-characters"


@pytest.fixture(scope="module")
def running() -> Iterator[child.Child]:
    with template.simulation(Settings(api_key=KEY, knobs=KNOBS)) as started:
        yield started


def sent_by(adapter: Vonage, simulator: child.Child, ref: str, **changes: object) -> object:
    token = Access("app-1", google_key()).authorization(1_764_000_000, "n")
    sent, headers = submission(ref, **changes), {"authorization": token}
    return outcome_of(adapter, simulator, sent, headers=headers)


@pytest.mark.parametrize(
    ("adapter", "channel", "cost"), [(VonageSms, "sms", "0.0800"), (VonageViber, "viber", "0.0100")]
)
def test_messages_are_taken_and_their_events_signed(
    running: child.Child, webhook: Webhook, adapter: type[Vonage], channel: str, cost: str
) -> None:
    ends = ["delivered", "undelivered", "expired", "rejected"]
    people = {f"7916000000{n}": {channel: {"ending": e, "seen": False}} for n, e in enumerate(ends)}
    people["79160000004"] = {channel: {"ending": "delivered", "reply": "STOP", "seen": True}}
    running.turn(by_phone=people)
    spoken = adapter(config(f"vonage-{channel}", callback_url=webhook.url + "/cb"))
    outcomes = [
        sent_by(spoken, running, f"m-{n}.0", to=f"+7916000000{n}", text="я" * 71) for n in range(5)
    ]
    assert [type(outcome) for outcome in outcomes] == [
        *(Submitted, Submitted, Submitted, Refused, Submitted)
    ]
    running.flush(everything=True)
    signature = VonageSignature(KEY)
    told: dict[tuple[str | None, str], Receipt] = {}
    replies: list[PersonReply] = []
    for post in webhook.posts:
        assert signature.holds(post.headers, post.body, b"")
        read = spoken.receipts(post.body, "")
        replies += read.replies
        told |= {(receipt.ref, receipt.status): receipt for receipt in read.receipts}
    ended = {key for key in told if key[1] != "sent"}
    shown = {("m-4.0", "seen")} if channel == "viber" else set()
    assert ended == shown | {
        ("m-0.0", "delivered"),
        ("m-1.0", "rejected"),
        ("m-2.0", "expired"),
        ("m-4.0", "delivered"),
    }
    assert told["m-0.0", "delivered"].cost == Decimal(cost)
    answered = {o.ref: o.provider_id for o in outcomes if isinstance(o, Submitted)}
    assert answered == {ref: told[ref, status].provider_id for ref, status in ended - shown}
    assert [(one.sender, one.text) for one in replies] == [("79160000004", "STOP")]


def test_faults_are_told_as_vonage_tells_them(running: child.Child, webhook: Webhook) -> None:
    spoken = VonageViber(config("vonage-viber", callback_url=webhook.url + "/cb"))
    request = spoken.submit([submission("m-0.0")])
    answer = call(running.port, "POST", request.path, request.body)
    with pytest.raises(AccountFault):
        spoken.outcomes([submission("m-0.0")], Reply(answer.status, answer.headers, answer.body))
    bad = sent_by(spoken, running, "m-0.0", to="+7")
    assert isinstance(bad, Refused)
    assert bad.unreachable
    running.turn(throttle_share=1.0)
    assert isinstance(sent_by(spoken, running, "m-1.0"), Throttled)
