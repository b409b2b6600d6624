"""Who reports what became of mails that were handed over by SMTP: the one table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from providers.http.adapter import CallbackReader
from providers.http.callback_proofs import Signature
from providers.mail.events import mailgun, postmark, sendgrid, ses
from providers.mail.events.mailgun import MailgunEvents, MailgunSignature
from providers.mail.events.postmark import PostmarkEvents
from providers.mail.events.sendgrid import SendGridEvents
from providers.mail.events.ses import SesEvents


class EventSource(msgspec.Struct, frozen=True):
    """`tags` are the headers of a mail that come back in its events. `signature` is made of keys;
    `needs_key`: without one there is none, and where there is one it is proof enough."""

    reader: CallbackReader
    tags: Callable[[str], tuple[tuple[str, str], ...]]
    signature: Callable[[tuple[str, ...]], Signature] | None = None
    needs_key: bool = True


def _ses_signature(_: tuple[str, ...]) -> Signature:
    from providers.mail.events.ses_signature import SesSignature  # and with it what reads keys

    return SesSignature()


def _sendgrid_signature(keys: tuple[str, ...]) -> Signature:
    from providers.mail.events.sendgrid_signature import SendGridSignature  # as above

    return SendGridSignature(keys)


EVENTS: Mapping[str, EventSource] = {
    "ses": EventSource(SesEvents(), ses.tags, _ses_signature, needs_key=False),
    "sendgrid": EventSource(SendGridEvents(), sendgrid.tags, _sendgrid_signature),
    "mailgun": EventSource(MailgunEvents(), mailgun.tags, MailgunSignature),
    "postmark": EventSource(PostmarkEvents(), postmark.tags),
}
