"""One submission as the bytes of an e-mail (RFC 5322, MIME), by the standard library.

Text and HTML are alternatives; a message without HTML is plain text. Bodies are always written in
seven bits, so that no server needs an extension for them. A header can hold no line break: the
library refuses one. The same submission at the same moment becomes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

from providers.contract import Submission
from providers.mail import mailbox
from providers.mail.mailbox import Mailbox

Headers = Iterable[tuple[str, str]]

_ASCII = SMTP.clone(cte_type="7bit")
_UTF8 = SMTPUTF8.clone(cte_type="7bit")


def written(
    sent: Submission, sender: Mailbox, to: Mailbox, at: datetime, more: Headers = ()
) -> bytes:
    """The whole mail, lines ending in CRLF. Raises ValueError for what cannot stand in a header."""
    utf8 = needs_utf8(sender, to)
    message = EmailMessage(policy=_UTF8 if utf8 else _ASCII)
    message["From"] = sender.header
    message["To"] = to.header
    if sent.reply_to is not None:
        message["Reply-To"] = mailbox.read(sent.reply_to).header
    message["Subject"] = sent.subject or ""
    message["Date"] = at
    message["Message-ID"] = message_id(sent.ref, sender.domain)
    if sent.category != "marketing":
        message["Auto-Submitted"] = "auto-generated"
    for name, value in (*unsubscribe(sent.unsubscribe_url), *more):
        message[name] = value
    if sent.text or sent.html is None:
        message.set_content(sent.text)
        if sent.html is not None:
            message.add_alternative(sent.html, subtype="html")
    else:
        message.set_content(sent.html, subtype="html")
    return message.as_bytes()


def needs_utf8(*mailboxes: Mailbox) -> bool:
    """Whether one of them can only be written with SMTPUTF8 (RFC 6531)."""
    return not all(each.local.isascii() for each in mailboxes)


def message_id(ref: str, domain: str) -> str:
    """The same for every try of a step: of `<message>.<step>.<try>` the try is left out."""
    return f"<{'.'.join(ref.split('.')[:2])}@{domain}>"


def unsubscribe(url: str | None) -> Headers:
    """The headers by which a mail program unsubscribes with one click (RFC 2369, RFC 8058)."""
    if url is None:
        return ()
    if not (url.startswith("https://") and url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("One click unsubscribes at an https address only.")
    return (
        ("List-Unsubscribe", f"<{url}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )
