"""A mail service as a twin: mails come by SMTP, its events are those of the service whose header a
mail has.

A mail without any is one of a relay: nothing is heard of it again. It is known by our reference,
where a header has it, else by its Message-ID. What answers it is an SMTP reply: the status is its
code.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.parser import BytesHeaderParser
from email.policy import default
from email.utils import parseaddr
from typing import Final

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.callbacks_only import BesideHttp
from providers.simulator.mail import sendgrid
from providers.simulator.mail.catalogue import HARD_BOUNCE, NO_SUCH_ADDRESS, catalogue
from providers.simulator.mail.services import SERVICES, Asked, Service, asked_of
from providers.simulator.replies import Reply
from providers.simulator.twin import (
    Destination,
    Order,
    Sending,
    Taken,
    Unreadable,
)
from providers.simulator.vocabulary import State, Status

CATALOGUE: Final = catalogue("smtp", reports_max=1, headers=sendgrid.headers)
VALIDITY_MS: Final = 48 * 3_600_000
_PARSER: Final = BytesHeaderParser(policy=default)


class MailService(BesideHttp):
    channels: tuple[Channel, ...] = ("email",)
    catalogue = CATALOGUE
    media_type = "message/rfc822"

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        """`body` is the mail, `path` whom its envelope names. Raises Unreadable."""
        headers = _PARSER.parsebytes(body)
        asked = asked_of(headers)
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
            hooks=Hooks("", "", asked),
            intermediate=False,
            destinations=[Destination(asked.reference or id_, path)],
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
            return _said(entry, lambda service, ref: service.delivered(entry, ref, entry.done_ms))
        hard = entry.status is HARD_BOUNCE
        return _said(entry, lambda service, ref: service.bounced(entry, ref, entry.done_ms, hard))

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _said(entry, lambda service, ref: service.delivered(entry, ref, entry.revived_ms))

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return b""

    def seen_report(self, entry: Entry) -> bytes:
        return _said(entry, lambda service, ref: service.opened(entry, ref, entry.seen_ms))

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        """Nobody writes back here: who would unsubscribes."""
        return _said(entry, lambda service, ref: service.unsubscribed(entry, ref, now_ms))

    def complaint(self, entry: Entry, now_ms: int) -> bytes:
        return _said(entry, lambda service, ref: service.complained(entry, ref, now_ms))

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        """A report begins with the service that says it."""
        (report,) = reports
        service, _, event = report.partition(b" ")
        return SERVICES[service.decode()].signed(event, key)


def _said(entry: Entry, say: Callable[[Service, str], bytes]) -> bytes:
    """What the service says that the mail asked, behind its name; nothing of a relay's mail."""
    asked = Asked(*entry.hooks.echo)
    if not asked.reference:
        return b""
    return asked.service.encode() + b" " + say(SERVICES[asked.service], asked.reference)
