"""An e-mail address with the name that people see, as it is written: `Shop <news@shop.example>`.

A name may be in any script; a domain is kept in IDNA's ASCII form. What cannot be a mailbox raises
ValueError with a sentence. So does what looks like an encoded word (RFC 2047), which mail programs
would show as something else.
"""

from __future__ import annotations

import re
import unicodedata
from email.headerregistry import Address
from functools import lru_cache

import idna
import msgspec

RULE = 'write an address such as "news@shop.example" or "Shop <news@shop.example>".'
ENCODED = "=?"  # begins an encoded word
DOMAINS_KEPT = 4_096  # most people are at few
# Looked for where a word begins alone: from each letter of a long one on it takes the square of its
# length (70,000 without an @ held a process for 16 s, 2026-11-30).
_quoted = re.compile(r"(?<![^\s<>\"'(),;:])[^\s<>\"'(),;:]+@[^\s<>\"'(),;]+|\d{7,}")
_quoted_name = re.compile(r'"((?:[^"\\]|\\.)*)"').fullmatch
_FORBIDDEN = frozenset(' "(),:;<>@[\\]')  # in a local part without quotes
TEXT_CHARS_MAX = 2_048  # NFC takes the square of combining marks: 1.9 s for 40,000
_NAME_CHARS_MAX = 255
_LOCAL_BYTES_MAX = 64


class Mailbox(msgspec.Struct, frozen=True):
    """`local` may be of any script where the server takes that (RFC 6531)."""

    local: str
    domain: str
    name: str = ""

    @property
    def address(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def header(self) -> Address:
        """As the standard library writes it into a header: quoted and encoded as needed."""
        return Address(self.name, self.local, self.domain)


def read(text: str, name: str = "") -> Mailbox:
    """Reads a mailbox; `name` is what people see where the text says nothing of it."""
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"{text[:80]!r} and what follows is no mailbox: {RULE}")
    named, address = _split(text.strip())
    local, at, domain = unicodedata.normalize("NFC", address).rpartition("@")
    if not at or not _is_local(local):
        raise ValueError(f"{text!r} is no mailbox: {RULE}")
    try:
        ascii_domain = _ascii(domain)
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"{text!r} has no domain that can be: {RULE}") from None
    shown = named or name
    if len(shown) > _NAME_CHARS_MAX or not shown.isprintable() or ENCODED in shown + local:
        raise ValueError(f"{text!r} has a name that cannot be shown: {RULE}")
    return Mailbox(local, ascii_domain, shown)


@lru_cache(DOMAINS_KEPT)
def _ascii(domain: str) -> str:
    return idna.encode(domain, uts46=True).decode().lower()


def blanked(text: str) -> str:
    """A server's words without the addresses and long numbers that they quote: they are kept with
    the step, and go to the log."""
    return _quoted.sub("…", text)


def _split(text: str) -> tuple[str, str]:
    """The name and the address."""
    if not text.endswith(">"):
        return "", text
    name, opened, address = text[:-1].rpartition("<")
    if not opened:
        raise ValueError(f"{text!r} is no mailbox: {RULE}")
    return _unquoted(name.strip()), address.strip()


def _unquoted(name: str) -> str:
    """A name in quotes as it is meant (RFC 5322, 3.2.4); quotes within one are a part of it."""
    found = _quoted_name(name)
    return name if found is None else re.sub(r"\\(.)", r"\1", found[1]).strip()


def _is_local(local: str) -> bool:
    return (
        0 < len(local.encode()) <= _LOCAL_BYTES_MAX
        and local.isprintable()
        and _FORBIDDEN.isdisjoint(local)
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
    )
