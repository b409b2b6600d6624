"""UniSender Go as a twin: many recipients a request, and events signed with the API key."""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.callbacks_only import CallbacksOnly
from providers.simulator.mail.catalogue import HARD_BOUNCE, NO_SUCH_ADDRESS, catalogue
from providers.simulator.replies import Reply, json_reply
from providers.simulator.twin import (
    Destination,
    ErrorShape,
    Order,
    Sending,
    Taken,
    Unreadable,
    Violations,
    decoded,
)
from providers.simulator.vocabulary import State, Status

CATALOGUE: Final = catalogue("unisender-go")
RECIPIENTS_MAX: Final = 500
VALIDITY_MS: Final = 48 * 3_600_000
_PATH: Final = "/email/send.json"
_CODES: Final = {400: 140, 401: 102, 404: 101, 413: 903, 415: 902, 429: 905}


class _Recipient(msgspec.Struct, frozen=True):
    email: str
    metadata: dict[str, str] = {}
    substitutions: dict[str, str] = {}


class _Body(msgspec.Struct, frozen=True):
    html: str = ""
    plaintext: str = ""


class _Message(msgspec.Struct, frozen=True):
    recipients: list[_Recipient]
    subject: str
    from_email: str
    body: _Body


class _Request(msgspec.Struct, frozen=True):
    message: _Message


_REQUEST: Final = msgspec.json.Decoder(_Request)


class UniSender(CallbacksOnly):
    channels: tuple[Channel, ...] = ("email",)
    catalogue = CATALOGUE
    media_type = "application/json"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        return hmac.compare_digest(headers.get(b"x-api-key", b""), api_key.encode())

    def sends_at(self, path: str) -> Channel | None:
        return "email" if path.endswith(_PATH) else None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        message = decoded(_REQUEST, body, "The request cannot be read:").message
        addresses = [each.email.lower() for each in message.recipients]
        if not 1 <= len(addresses) <= RECIPIENTS_MAX:
            raise Unreadable(f"A request has 1 to {RECIPIENTS_MAX} recipients.")
        if len(set(addresses)) < len(addresses):
            raise Unreadable("An address stands twice.")
        if not message.subject or not (message.body.html or message.body.plaintext):
            raise Unreadable("The subject or the body is empty.")
        order = Order(
            channel=channel,
            sender=message.from_email,
            parts=1,
            category="",
            validity_ms=VALIDITY_MS,
            hooks=Hooks("", ""),
            intermediate=False,
            destinations=[
                Destination(each.metadata.get("kaskad", ""), each.email)
                for each in message.recipients
            ],
        )
        return Sending(bulk_id="", orders=[order], counted=False)

    def refusal(self, order: Order, to: str) -> Status | None:
        return None if "@" in to else NO_SUCH_ADDRESS

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        good = [each.to for each in taken if each.in_hand]
        failed = {
            each.to: "permanent_unavailable" if each.status is NO_SUCH_ADDRESS else "unsubscribed"
            for each in taken
            if each.to not in good
        }
        answer = {"status": "success", "job_id": bulk_id, "emails": good, "failed_emails": failed}
        return json_reply(200, answer)

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        code = _CODES.get(status, 1)
        return msgspec.json.encode({"status": "error", "code": code, "message": sentence})

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        if entry.status.end is State.DELIVERED:
            return _event(entry, "delivered", entry.done_ms, "ok_delivered")
        if entry.status is HARD_BOUNCE:
            return _event(entry, "hard_bounced", entry.done_ms, "err_user_unknown")
        return _event(entry, "hard_bounced", entry.done_ms, "err_mailbox_full")

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, "delivered", entry.revived_ms, "ok_delivered")

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return _event(entry, "sent", now_ms, "ok_sent")

    def seen_report(self, entry: Entry) -> bytes:
        return _event(entry, "opened", entry.seen_ms, "ok_read")

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        """Nobody writes back here: who would unsubscribes."""
        return _event(entry, "unsubscribed", now_ms, "ok_unsubscribed")

    def complaint(self, entry: Entry, now_ms: int) -> bytes:
        return _event(entry, "spam", now_ms, "ok_fbl")

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        body = b'{"auth":"%b","events_by_user":[{"user_id":1,"events":[%b]}]}'
        events = b",".join(reports)
        signature = hashlib.md5(body % (key.encode(), events), usedforsecurity=False)
        return body % (signature.hexdigest().encode(), events)


def _event(entry: Entry, status: str, at_ms: int, told: str) -> bytes:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return msgspec.json.encode(
        {
            "event_name": "transactional_email_status",
            "event_data": {
                "job_id": entry.bulk_id,
                "metadata": {"kaskad": entry.message_id},
                "email": entry.to,
                "status": status,
                "event_time": at.strftime("%Y-%m-%d %H:%M:%S"),
                "delivery_info": {"delivery_status": told},
            },
        }
    )
