"""What webhooks are told, how calls are signed, and when they come again."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Receiver

from gateway.core import webhooks
from gateway.core.records.webhook import Secret, Webhook
from gateway.core.webhooks import (
    DELAYS_MS,
    EVENTS,
    HOUR,
    OLD_SECRET_MS,
    SECOND,
    SECRETS_MAX,
    Webhooks,
    next_delay_ms,
    rotated,
    secret_of,
    signed,
)

# Of the specification, Standard Webhooks 1.0.0.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT_S, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_vector_is_signed_as_published() -> None:
    assert signed([SECRET], ID, AT_S, BODY) == SIGNATURE


def test_a_secret_is_what_the_specification_asks_for() -> None:
    secret = secret_of(bytes(range(32)))
    prefix, _, text = secret.partition("_")
    assert prefix == "whsec"
    assert 24 <= len(base64.b64decode(text, validate=True)) <= 64


def test_a_receiver_with_either_secret_takes_what_both_signed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = secret_of(b"o" * 32), secret_of(b"n" * 32)
    now_s = 1_795_000_000
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _standing_at(now_s))
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(now_s),
        "webhook-signature": signed([new, old], ID, now_s, BODY),
    }
    for secret in (old, new):
        assert Receiver(secret).verify(BODY, headers) == {"test": 2432232314}


def _standing_at(now_s: int) -> type:
    import datetime

    class Standing(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Standing:
            return cls.fromtimestamp(now_s, tz)

    return Standing


def test_an_old_secret_signs_for_a_day_more_and_few_are_kept() -> None:
    secrets: tuple[Secret, ...] = (Secret("first"),)
    secrets = rotated(secrets, "second", 0)
    webhook = Webhook("id", "https://a.example", (), secrets)
    assert webhook.signs_with(OLD_SECRET_MS - 1) == ["second", "first"]
    assert webhook.signs_with(OLD_SECRET_MS) == ["second"]
    for number in range(10):
        secrets = rotated(secrets, f"later {number}", 1)
    assert len(secrets) == SECRETS_MAX
    assert [each.text for each in secrets if not each.until_ms] == ["later 9"]


@given(lot=st.integers(0, 99))
def test_the_schedule_is_that_of_the_contract_with_jitter(lot: int) -> None:
    delays = [next_delay_ms(tries, lot, 0) for tries in range(1, 11)]
    assert delays[-1] is None
    for delay, written in zip(delays, DELAYS_MS, strict=False):
        assert delay is not None
        assert abs(delay - written) <= written // 10
    assert sum(DELAYS_MS) // HOUR == 75


def test_a_receivers_wish_is_obeyed_where_it_is_longer() -> None:
    assert next_delay_ms(1, 50, 3_600 * SECOND) == HOUR
    assert next_delay_ms(4, 50, SECOND) == 2 * HOUR


def test_only_what_an_enabled_webhook_wants_is_wanted() -> None:
    wants = Webhook("a", "https://a.example", ("message.sent",), ())
    off = Webhook("b", "https://b.example", ("message.seen",), (), enabled=False)
    known = Webhooks({("shop", "a"): wants, ("bank", "b"): off})
    assert known.apps == {"shop", "bank"}
    assert known.wants("shop", "message.sent")
    assert known.wants("", "message.sent")
    assert not known.wants("bank", "message.seen")
    assert not known.wants("other", "message.sent")
    assert len(set(EVENTS)) == len(EVENTS) == 9 + 1 + 1 + 3 + 2
    assert not {webhooks.TEST, webhooks.LOST}.intersection(EVENTS)
