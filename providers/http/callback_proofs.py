"""Who may bring receipts: the proof a callback must carry.

What a request carries is compared, in constant time, with what the configuration expects: HTTP
basic, a token in the query, or an HMAC of the body in a header. Several proofs may be configured
and any one suffices; with none configured, or with anything malformed, the answer is False.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

HmacAlgorithm = Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
HmacEncoding = Literal["hex", "base64"]


class BasicAuth(msgspec.Struct, frozen=True):
    """HTTP basic (RFC 7617), UTF-8. Raises ValueError on a colon in the user or no password."""

    user: str
    password: str

    def __post_init__(self) -> None:
        if ":" in self.user or not self.password:
            raise ValueError("Basic authentication needs a user without a colon and a password.")


class HmacAuth(msgspec.Struct, frozen=True):
    """An HMAC of the raw body in `header`. Raises ValueError when header or secret is empty."""

    secret: str
    header: str
    algorithm: HmacAlgorithm = "sha256"
    encoding: HmacEncoding = "hex"

    def __post_init__(self) -> None:
        if not self.secret or not self.header:
            raise ValueError("HMAC authentication needs a secret and the name of a header.")


class Signature(Protocol):
    """A provider's own way of signing its callbacks. Pure; what cannot be read does not hold."""

    def certificate_url(self, body: bytes) -> str | None:
        """Where the certificate is with which the body says it was signed, if that is a place where
        the provider keeps its certificates; None: none is needed."""
        ...

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:
        """Whether the body is the provider's; the names of `headers` are in lower case."""
        ...


class CallbackAuth(msgspec.Struct, frozen=True):
    """The proofs a provider's callbacks may carry; `token` is compared with the query's `token`.
    `older` ones were handed out before and are still taken. A `signature` must hold beside them."""

    basic: BasicAuth | None = None
    token: str | None = None
    hmac: HmacAuth | None = None
    older: tuple[CallbackAuth, ...] = ()
    signature: Signature | None = None
    greeted: bool = False  # the provider asks for the address by GET before it calls it

    def __post_init__(self) -> None:
        if self.token == "":
            raise ValueError("The callback token is empty: set it or leave it out.")

    @property
    def only_signed(self) -> bool:
        """Whether the provider's signature is all that is asked for."""
        return self.signature is not None and (self.basic, self.token, self.hmac) == (None,) * 3


def proven_by_head(
    auth: CallbackAuth, headers: Mapping[str, str], query: Mapping[str, str]
) -> bool:
    """Whether the request carries a configured proof that needs no body: basic or token.

    `headers` has its names in lower case; `query` is decoded.
    """
    return (
        (auth.basic is not None and _verify_basic(auth.basic, headers))
        or (auth.token is not None and _same_text(auth.token, query.get("token", "")))
        or any(proven_by_head(older, headers, query) for older in auth.older)
    )


class BodyProof:
    """The HMACs of a body, computed while it arrives: `update` is given each piece as it came over
    the wire. `carried`: there is one to compare with."""

    def __init__(self, auth: CallbackAuth, headers: Mapping[str, str]) -> None:
        self._expected = [
            (hmac.new(_octets(each.secret), digestmod=each.algorithm), _carried(each, headers))
            for each in (auth.hmac, *(older.hmac for older in auth.older))
            if each is not None and each.header.lower() in headers
        ]

    @property
    def carried(self) -> bool:
        return bool(self._expected)

    def update(self, piece: bytes) -> None:
        for digest, _ in self._expected:
            digest.update(piece)

    def holds(self) -> bool:
        """Whether one of them is what the request carries."""
        return any(hmac.compare_digest(digest.digest(), given) for digest, given in self._expected)


def carries_proof(auth: CallbackAuth, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether there is anything in the place of a configured proof, right or wrong."""
    return (
        (auth.basic is not None and "authorization" in headers)
        or (auth.token is not None and bool(query.get("token")))
        or (auth.hmac is not None and auth.hmac.header.lower() in headers)
    )


def _verify_basic(auth: BasicAuth, headers: Mapping[str, str]) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    carried = _from_base64(given.strip())
    return hmac.compare_digest(_octets(f"{auth.user}:{auth.password}"), carried)


def _carried(auth: HmacAuth, headers: Mapping[str, str]) -> bytes:
    """The HMAC that the request names."""
    given = headers[auth.header.lower()].strip()
    given = given.removeprefix(f"{auth.algorithm}=")  # as many write it: "sha256=<digest>"
    return _from_hex(given) if auth.encoding == "hex" else _from_base64(given)


def _same_text(expected: str, given: str) -> bool:
    return hmac.compare_digest(_octets(expected), _octets(given))


def _octets(text: str) -> bytes:
    # A header or query may be decoded to lone surrogates; they must compare as different, not
    # raise.
    return text.encode("utf-8", "surrogatepass")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
