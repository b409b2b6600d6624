"""What we sign for apps is read by the receiver's library of a service that sends webhooks for a
living."""

from __future__ import annotations

import time

import pytest
from svix.webhooks import Webhook as Receiver
from svix.webhooks import WebhookVerificationError

from gateway.core.webhooks import secret_of, signed

BODY = '{"type":"message.delivered","data":{"text":"Здравствуйте"}}'.encode()
EVENT = "msg_0123456789"


def headers_of(*secrets: str, at_s: int) -> dict[str, str]:
    return {
        "webhook-id": EVENT,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signed(secrets, EVENT, at_s, BODY),
    }


def test_svix_reads_what_one_secret_or_two_have_signed() -> None:
    old, new, now_s = secret_of(b"o" * 32), secret_of(b"n" * 32), int(time.time())
    for secrets in ((new,), (new, old)):
        Receiver(new).verify(BODY, headers_of(*secrets, at_s=now_s))
    Receiver(old).verify(BODY, headers_of(new, old, at_s=now_s))


def test_svix_refuses_what_was_changed_is_another_s_or_is_old() -> None:
    mine, now_s = secret_of(b"m" * 32), int(time.time())
    fresh = headers_of(mine, at_s=now_s)
    for secret, body, headers in (
        (mine, BODY + b" ", fresh),
        (secret_of(b"x" * 32), BODY, fresh),
        (mine, BODY, fresh | {"webhook-id": "msg_other"}),
        (mine, BODY, headers_of(mine, at_s=now_s - 3_600)),
    ):
        with pytest.raises(WebhookVerificationError):
            Receiver(secret).verify(body, headers)
