"""SMTP's lines (RFC 5321, 2920, 4954), as bytes in and out. Pure.

Our own and not `smtpproto` (2.0.0, 2024): that takes a 421 and every refusal after DATA for a
broken protocol and drops its code, cannot pipeline, and fails on a reply that is not ASCII.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

import msgspec

REPLY_BYTES_MAX = 64 * 1024
REPLY_CHARS_KEPT = 200

_line = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL).fullmatch
_enhanced = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)").match


class Malformed(ValueError):
    """What came is no reply of SMTP."""


class Reply(msgspec.Struct, frozen=True):
    """What a server answers to one command; of several lines each is one of `lines`."""

    code: int
    lines: tuple[str, ...]

    @property
    def good(self) -> bool:
        return self.code < 400

    @property
    def asks_for_more(self) -> bool:
        """Whether it waits for what follows, and so accepts nothing yet."""
        return 300 <= self.code < 400

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), such as 5.1.1; empty where there is none."""
        found = _enhanced(self.lines[0])
        return found[1] if found is not None else ""

    @property
    def text(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"[:REPLY_CHARS_KEPT]


class ReplyReader:
    """Cuts what arrives into replies."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []
        self._taken = 0  # bytes, of the lines

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived that was not taken."""
        return not self._rest and not self._lines

    def feed(self, data: bytes | bytearray) -> None:
        self._rest += data

    def next(self) -> Reply | None:
        """The next whole reply; None: more must come. Raises Malformed."""
        while True:
            end = self._rest.find(b"\n")
            if self._taken + (len(self._rest) if end < 0 else end) > REPLY_BYTES_MAX:
                raise Malformed(f"A reply is over {REPLY_BYTES_MAX} bytes.")
            if end < 0:
                return None
            line, self._rest = self._rest[:end].rstrip(b"\r"), self._rest[end + 1 :]
            found = _line(line)
            if found is None:
                raise Malformed(f"This is no reply: {line[:80]!r}.")
            self._lines.append((found[3] or b"").decode(errors="replace"))
            self._taken += end + 1
            if found[2] != b"-":
                lines, self._lines, self._taken = tuple(self._lines), [], 0
                return Reply(int(found[1]), lines)


def extensions(reply: Reply) -> Mapping[str, str]:
    """What the server offers in its answer to EHLO: the names in upper case, each with what
    follows it."""
    offered = (line.replace("=", " ", 1).partition(" ") for line in reply.lines[1:])
    return {name.upper(): rest.upper() for name, _, rest in offered}


def mail_command(sender: str, size: int, offered: Mapping[str, str], *, utf8: bool) -> bytes:
    more = f" SIZE={size}" if "SIZE" in offered else ""
    return f"MAIL FROM:<{sender}>{more}{' SMTPUTF8' if utf8 else ''}\r\n".encode()


def rcpt_command(to: str) -> bytes:
    return f"RCPT TO:<{to}>\r\n".encode()


def plain_secret(user: str, password: str) -> str:
    return encoded(f"\0{user}\0{password}")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def content(mail: bytes) -> bytes:
    """A mail as it follows DATA: a dot that opens a line is doubled, a lone one ends it."""
    stuffed = mail.replace(b"\r\n.", b"\r\n..")
    if mail.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n")
