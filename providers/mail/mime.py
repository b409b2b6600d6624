"""One submission as the bytes of an e-mail (RFC 5322, MIME).

Text and HTML are alternatives; a message without HTML is plain text. Bodies are always written in
seven bits, so that no server needs an extension for them. A header can hold no line break, written
or encoded (RFC 2047): it is refused, or stands as the text it is. The same submission at the same
moment becomes the same bytes.

Headers are encoded and folded by the standard library's policy, the same text once; bodies are
joined by hand, because an EmailMessage costs 2 ms of CPU a mail, fifty times as much (2026-11-28).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from email.header import Header
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from functools import lru_cache

from providers.contract import Submission
from providers.mail import mailbox
from providers.mail.mailbox import Mailbox
from providers.settings import is_local

Headers = Iterable[tuple[str, str]]

LINE_CHARS_MAX = 998  # RFC 5322, 2.1.1
HEADERS_KEPT = 1_024  # folded ones: senders and subjects are the same in a whole campaign
_BOUNDARY = "=_kaskad"  # a dash opens no line of base64, and plain parts are looked through


def written(
    sent: Submission, sender: Mailbox, to: Mailbox, at: datetime, more: Headers = ()
) -> bytes:
    """The whole mail, lines ending in CRLF. Raises ValueError for what cannot stand in a header."""
    utf8 = needs_utf8(sender, to)
    head = [
        _folded("From", str(sender.header), utf8),
        _folded("To", to.address, utf8),
        _folded("Subject", sent.subject or "", utf8),
        f"Date: {format_datetime(at)}\r\n",
        f"Message-ID: {message_id(sent.ref, sender.domain)}\r\n",
        "MIME-Version: 1.0\r\n",
    ]
    if sent.reply_to is not None:
        head.append(_folded("Reply-To", str(mailbox.read(sent.reply_to).header), utf8))
    if sent.category != "marketing":
        head.append("Auto-Submitted: auto-generated\r\n")
    head += [_plain(name, value) for name, value in (*unsubscribe(sent.unsubscribe_url), *more)]
    return "".join(head).encode() + _body(sent).encode("ascii")


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
    safe = url.startswith("https://") or (url.startswith("http://") and is_local(url))
    if not (safe and url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("One click unsubscribes at an https address only, but on this machine.")
    return (
        ("List-Unsubscribe", f"<{url}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )


def _folded(name: str, value: str, utf8: bool) -> str:
    """A header of any text; a plain one, as most recipients are, needs no search."""
    if len(value) < 60 and value.isascii() and _is_address(value):
        return f"{name}: {value}\r\n"
    return _encoded(name, value, utf8)


@lru_cache(HEADERS_KEPT)
def _encoded(name: str, value: str, utf8: bool) -> str:
    if value.splitlines() not in ([], [value]):  # a break at its end would end all headers
        raise ValueError(f"The header {name} holds what no line can.")
    if mailbox.ENCODED in value:  # the policy would decode it, and write the lines that it hides
        encoded = Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
        return f"{name}: {encoded}\r\n"
    policy = SMTPUTF8 if utf8 else SMTP
    folded: str = policy.fold(*policy.header_store_parse(name, value))
    return folded


def _is_address(text: str) -> bool:
    return text.replace("@", "").replace(".", "").replace("-", "").isalnum()


def _plain(name: str, value: str) -> str:
    line = f"{name}: {value}"
    if not (line.isascii() and line.isprintable()) or len(line) > LINE_CHARS_MAX:
        raise ValueError(f"The header {name} holds what no line can.")
    return f"{line}\r\n"


def _body(sent: Submission) -> str:
    """The headers of the content, and the content."""
    if sent.html is None:
        return _part("plain", sent.text)
    if not sent.text:
        return _part("html", sent.html)
    plain, html = _part("plain", sent.text), _part("html", sent.html)
    return (
        f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"\r\n\r\n'
        f"--{_BOUNDARY}\r\n{plain}--{_BOUNDARY}\r\n{html}--{_BOUNDARY}--\r\n"
    )


def _part(subtype: str, text: str) -> str:
    kind = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: '
    lines = "\r\n".join(text.splitlines())
    if _is_plain(lines):
        return f"{kind}7bit\r\n\r\n{lines}\r\n"
    encoded = base64.encodebytes(lines.encode() + b"\r\n").decode("ascii")
    return f"{kind}base64\r\n\r\n" + encoded.replace("\n", "\r\n")


def _is_plain(lines: str) -> bool:
    """Whether lines can stand as they are."""
    if not lines.isascii() or _BOUNDARY in lines or "\0" in lines:
        return False
    return len(lines) <= LINE_CHARS_MAX or all(
        len(line) <= LINE_CHARS_MAX for line in lines.split("\r\n")
    )
