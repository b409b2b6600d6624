"""A mail service as a twin: mails come by SMTP, its events are Postmark's.

A mail without Postmark's header is one of a relay: nothing is heard of it again. It is known by our
reference, where a header has it, else by its Message-ID. What answers it is an SMTP reply: the
status is its code.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

from collections.abc import Sequence
from email.parser import BytesHeaderParser
from email.policy import default
from email.utils import parseaddr
from typing import Any, Final

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.callbacks_only import BesideHttp, moment
from providers.simulator.mail.catalogue import HARD_BOUNCE, NO_SUCH_ADDRESS, catalogue
from providers.simulator.replies import Reply
from providers.simulator.twin import (
    Destination,
    Order,
    Sending,
    Taken,
    Unreadable,
)
from providers.simulator.vocabulary import State, Status

CATALOGUE: Final = catalogue("smtp", reports_max=1)
METADATA: Final = "X-PM-Metadata-kaskad"
VALIDITY_MS: Final = 48 * 3_600_000
_PARSER: Final = BytesHeaderParser(policy=default)


class MailService(BesideHttp):
    channels: tuple[Channel, ...] = ("email",)
    catalogue = CATALOGUE
    media_type = "message/rfc822"

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        """`body` is the mail, `path` whom its envelope names. Raises Unreadable."""
        headers = _PARSER.parsebytes(body)
        reported = str(headers.get(METADATA, ""))
        id_ = str(headers.get("Message-ID", "")).strip("<> ").partition("@")[0]
        sender = parseaddr(str(headers.get("From", "")))[1]
        if not (id_ and sender and headers.get("Date")):
            raise Unreadable("5.6.0 The mail has no From, Date or Message-ID.")
        order = Order(
            channel=channel,
            sender=sender,
            parts=1,
            category="",
            validity_ms=VALIDITY_MS,
            hooks=Hooks("", "", (reported,)),
            intermediate=False,
            destinations=[Destination(reported or id_, path)],
        )
        return Sending(bulk_id="", orders=[order], counted=False)

    def refusal(self, order: Order, to: str) -> Status | None:
        return None if "@" in to else NO_SUCH_ADDRESS

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        (one,) = taken
        if one.in_hand:
            return Reply(250, f"2.0.0 Ok: queued as {bulk_id}".encode())
        if one.status is NO_SUCH_ADDRESS:
            return Reply(550, b"5.1.1 The mailbox does not exist")
        return Reply(554, b"5.7.1 The message was refused")

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        if entry.status.end is State.DELIVERED:
            return _event(entry, "Delivery", DeliveredAt=moment(entry.done_ms))
        hard = entry.status is HARD_BOUNCE
        return _event(
            entry,
            "Bounce",
            ID=entry.accepted_ms,
            Type="HardBounce" if hard else "SoftBounce",
            Email=entry.to,
            BouncedAt=moment(entry.done_ms),
            Details="smtp;550 5.1.1 No such user" if hard else "smtp;552 5.2.2 Mailbox full",
        )

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, "Delivery", DeliveredAt=moment(entry.revived_ms))

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return b""

    def seen_report(self, entry: Entry) -> bytes:
        return _event(entry, "Open", ReceivedAt=moment(entry.seen_ms), FirstOpen=True)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        """Nobody writes back here: who would unsubscribes."""
        return _event(
            entry,
            "SubscriptionChange",
            ChangedAt=moment(now_ms),
            SuppressSending=True,
            SuppressionReason="ManualSuppression",
        )


def _event(entry: Entry, kind: str, **more: Any) -> bytes:
    (reference,) = entry.hooks.echo
    if not reference:
        return b""
    return msgspec.json.encode(
        {
            "RecordType": kind,
            "MessageID": entry.bulk_id,
            "Recipient": entry.to,
            "Metadata": {"kaskad": reference},
            "MessageStream": "outbound",
            **more,
        }
    )
