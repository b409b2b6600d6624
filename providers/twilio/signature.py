"""Twilio's signature of its callbacks: HMAC-SHA1 of the address and the sorted fields of the form.

The address is the one that Twilio called, which behind a proxy is not the one that arrives here: it
is what was given out, under an earlier name, token or host perhaps. With and without the port of
its scheme it is the same. That host is the one the callback names: no configuration knows it any
more, and nobody but Twilio signs for it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

HEADER = "x-twilio-signature"
FIELDS_MAX = 128
_PORTS = {"https": 443, "http": 80}


class TwilioSignature(msgspec.Struct, frozen=True):
    token: str
    urls: tuple[str, ...]  # what is given out, and was for messages that are under way

    def certificate_url(self, body: bytes) -> str | None:  # noqa: ARG002 - the port's
        return None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002
        try:
            given = base64.b64decode(headers.get(HEADER, ""), validate=True)
        except (binascii.Error, ValueError):
            return False
        called = headers.get("x-forwarded-host") or headers.get("host", "")
        hosts = ("", called.partition(",")[0].strip())
        return any(
            hmac.compare_digest(signed(self.token, url, body), given)
            for host in hosts
            for given_out in self.urls
            for url in addresses_of(given_out, host)
        )


def signed(token: str, url: str, body: bytes) -> bytes:
    """The signature of a form; of a body that is none nothing but the address is signed."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        fields = []
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return hmac.new(token.encode(), text.encode(), "sha1").digest()


def addresses_of(url: str, host: str = "") -> list[str]:
    """An address, at that host (and port) if any, with and without the port that its scheme has
    anyway."""
    parts = urlsplit(url)
    usual = _PORTS.get(parts.scheme)
    if host:
        parts = parts._replace(netloc=host)
    if not parts.netloc.endswith(f":{usual}") and ":" in parts.netloc:
        return [urlunsplit(parts)]
    host = parts.netloc.removesuffix(f":{usual}")
    return [urlunsplit(parts._replace(netloc=netloc)) for netloc in (host, f"{host}:{usual}")]
