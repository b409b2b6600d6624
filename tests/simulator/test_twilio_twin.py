"""Our adapter of Twilio against its twin: what one writes and signs, the other reads."""

from __future__ import annotations

from providers.contract import AccountFault, Refused, Submitted, Throttled
from providers.simulator import child
from providers.twilio.adapter import TwilioSms
from providers.twilio.signature import TwilioSignature
from tests.worlds.provider_examples import config, submission
from tests.worlds.simulated import outcome_of
from tests.worlds.simulator_webhook import Webhook

ACCOUNT = "/2010-04-01/Accounts/AC" + "0" * 32


def adapter(simulator: child.Child, webhook: Webhook, key: str = "") -> TwilioSms:
    changes = {"api_key": key or simulator.api_key, "base_url": simulator.base_url + ACCOUNT}
    return TwilioSms(config("twilio-sms", callback_url=webhook.url + "/cb?token=t", **changes))


def sent_by(spoken: TwilioSms, simulator: child.Child, ref: str, **changes: object) -> object:
    return outcome_of(spoken, simulator, submission(ref, **changes), under=ACCOUNT)


def test_messages_are_taken_and_their_events_signed(running: child.Child, webhook: Webhook) -> None:
    ends = ["delivered", "undelivered", "expired", "rejected"]
    people = {f"7916000000{n}": {"sms": {"ending": end}} for n, end in enumerate(ends)}
    running.turn(by_phone=people)
    spoken = adapter(running, webhook)
    outcomes = [
        sent_by(spoken, running, f"m-{n}.0", to=f"+7916000000{n}", text="я" * 71) for n in range(4)
    ]
    assert [type(outcome) for outcome in outcomes] == [Submitted] * 3 + [Refused]
    taken = [outcome for outcome in outcomes if isinstance(outcome, Submitted)]
    assert {outcome.parts for outcome in taken} == {2}
    running.flush(everything=True)
    signature = TwilioSignature(running.api_key, (webhook.url + "/cb?token=t",))
    told: dict[str | None, list[str]] = {}
    for post in webhook.posts:
        assert signature.holds(post.headers, post.body, b"")
        for receipt in spoken.receipts(post.body, "").receipts:
            told.setdefault(receipt.provider_id, []).append(receipt.status)
    assert [sorted(told[outcome.provider_id]) for outcome in taken] == [
        ["delivered", "sent"],
        ["sent", "undelivered"],
        ["expired", "sent"],
    ]


def test_faults_are_told_as_twilio_tells_them(running: child.Child, webhook: Webhook) -> None:
    spoken = adapter(running, webhook)
    wrong = adapter(running, webhook, "wrong")
    assert isinstance(sent_by(wrong, running, "m-0.0"), AccountFault)
    bad = sent_by(spoken, running, "m-0.0", to="+7")
    assert isinstance(bad, Refused)
    assert bad.unreachable
    running.turn(throttle_share=1.0)
    assert isinstance(sent_by(spoken, running, "m-1.0"), Throttled)
