"""What webhooks may be told, how a call is signed, and when it is tried again. Pure.

Calls are those of Standard Webhooks 1.0.0 (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, get_args

import msgspec

from gateway.core.campaigns.campaigns import CampaignState
from gateway.core.records.message import MESSAGE_NAMES
from gateway.core.records.webhook import Secret, Webhook

FALLBACK: Final = "message.fallback"
OF_MESSAGES = (*(f"message.{status}" for status in MESSAGE_NAMES.values()), FALLBACK)
OF_CAMPAIGNS = tuple(f"campaign.{state}" for state in get_args(CampaignState))
REPLY: Final = "inbound.received"
PAUSED: Final = "provider.paused"
BUDGET: Final = "budget.warning"
OF_OPERATORS = (BUDGET, PAUSED)  # told to those with the scope operate alone
EVENTS = (*OF_MESSAGES, REPLY, *OF_CAMPAIGNS, *OF_OPERATORS)
# Told whatever a webhook asks for: it speaks of the webhook itself.
TEST: Final = "webhook.test"
LOST: Final = "events.lost"
REPORT: Final = "report.made"  # of no app's webhook: the configuration says where it is posted to

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
DELAYS_MS = (
    *(5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR),
    *(10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR),
)
JITTER = 10  # per cent, either way
DEAD_MS = HOUR  # without a success for so long, somebody should look at it
FAILING_MS = 120 * HOUR  # without a success for so long it is disabled
OLD_SECRET_MS = 24 * HOUR
SECRETS_MAX = 4  # that hold at once, by rotating again and again
SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = 32  # of those that we draw
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64  # as Standard Webhooks wants


class Webhooks(msgspec.Struct, frozen=True):
    """All that there are, by app and name. `apps` are those that have one; `wanted` is what the
    enabled ones of each app want to be told."""

    every: Mapping[tuple[str, str], Webhook] = {}
    apps: frozenset[str] = frozenset()
    wanted: Mapping[str, frozenset[str]] = {}

    def __post_init__(self) -> None:
        wanted: dict[str, frozenset[str]] = {}
        for (app, _), webhook in self.every.items():
            if webhook.enabled:
                wanted[app] = wanted.get(app, frozenset()).union(webhook.events)
        msgspec.structs.force_setattr(self, "apps", frozenset(app for app, _ in self.every))
        msgspec.structs.force_setattr(self, "wanted", wanted)

    def wants(self, app: str, event: str) -> bool:
        """Whether somebody wants to be told: of the app, or with none named of any."""
        if app:
            return event in self.wanted.get(app, ())
        return any(event in wanted for wanted in self.wanted.values())


def signed(secrets: Iterable[str], event_id: str, at_s: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature a secret, over exactly these bytes."""
    text = b"%b.%d.%b" % (event_id.encode(), at_s, body)
    return " ".join("v1," + _signature(secret, text) for secret in secrets)


def _signature(secret: str, text: bytes) -> str:
    return base64.b64encode(hmac.digest(_key(secret), text, "sha256")).decode()


@lru_cache(maxsize=256)
def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))


def secret_of(drawn: bytes) -> str:
    """A secret as its app is shown it."""
    return SECRET_PREFIX + binascii.b2a_base64(drawn, newline=False).decode()


def is_secret(text: str) -> bool:
    """Whether it is one that calls can be signed with."""
    try:
        drawn = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(SECRET_PREFIX) and SECRET_BYTES_MIN <= len(drawn) <= SECRET_BYTES_MAX


def rotated(secrets: Iterable[Secret], fresh: str, now_ms: int) -> tuple[Secret, ...]:
    """The secrets with a new one; those before hold for a day more."""
    old = (Secret(each.text, each.until_ms or now_ms + OLD_SECRET_MS) for each in secrets)
    holding = [each for each in old if each.until_ms > now_ms]
    return (Secret(fresh), *holding[: SECRETS_MAX - 1])


def next_delay_ms(tries: int, lot: int, wish_ms: int) -> int | None:
    """How long after so many tries, the last of which failed, the next one comes: as the schedule
    says, and not before the receiver wishes; None: it was the last. `lot` is drawn of 0 to 99."""
    if tries > len(DELAYS_MS):
        return None
    delay_ms = DELAYS_MS[tries - 1]
    jittered = delay_ms * (100 - JITTER) // 100 + delay_ms * 2 * JITTER * lot // 10_000
    return max(jittered, wish_ms)
