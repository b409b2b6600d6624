"""Who is asking, and may they: API keys, their apps and scopes.

A key is one of the configuration, hashed at start, or one made with `kaskad key new`, read from
Redis and remembered for a few seconds, so that a withdrawn key stops working soon and a busy one
costs nothing. Both memories are bounded. Programs send the key as a bearer token, browsers as the
password of HTTP Basic.

No key or an unknown one is a 401, a missing scope a 403 that names it; a browser is asked for a key
in both cases. While Redis is unavailable, a key that is not remembered raises RedisUnavailable.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping

import msgspec

from gateway.ingress.http.problems import Refusal, refuse
from gateway.redis.client import RedisClient
from gateway.settings.file import Settings
from gateway.store import api_keys
from gateway.store.api_keys import Scope, digest_of, granted

KNOWN_MS = 5_000  # how long a key of Redis is believed without asking again
UNKNOWN_MS = 2_000  # ... and that there is no such key
REMEMBERED_MAX = 10_000  # keys, known and unknown together
KEY_BYTES_MAX = 512

_CHALLENGE = (b"www-authenticate", b'Bearer realm="kaskad"')
LOGIN_CHALLENGE = (b"www-authenticate", b'Basic realm="Kaskad reports", charset="UTF-8"')
LOGIN_HINT = (
    b"Give an API key with the scope report as the password; the user name does not matter.\n"
)


class Principal(msgspec.Struct, frozen=True):
    """The app behind a request."""

    app: str
    scopes: frozenset[Scope]
    digest: bytes


NOBODY = Principal("", frozenset(), b"")  # of what needs no key


class LoginNeeded(Exception):
    """A browser sent no key that opens this page: it is to ask for one."""


class Authority:
    """Knows every key's principal. `now_ms` is the edge's clock."""

    def __init__(self, settings: Settings, redis: RedisClient, now_ms: Callable[[], int]) -> None:
        self._configured = configured_keys(settings)
        self._redis = redis
        self._now_ms = now_ms
        self._remembered: dict[bytes, tuple[Principal | None, int]] = {}

    def take_over(self, settings: Settings) -> None:
        """The apps of a changed configuration, from the next request on."""
        self._configured = configured_keys(settings)

    async def require(self, authorization: bytes | None, scope: Scope) -> Principal:
        """The principal of a request, by its header. Raises Refusal (401, 403) and
        RedisUnavailable."""
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise _unauthorized("Send the header `Authorization: Bearer <api key>`.")
        key = authorization[7:].strip()
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise _unauthorized("The API key is not one of ours.")
        digest = digest_of(key)
        principal = self._configured.get(digest) or await self._of_redis(digest)
        if principal is None or not hmac.compare_digest(principal.digest, digest):
            raise _unauthorized("The API key is not known; it may have been withdrawn.")
        if scope not in principal.scopes:
            held = ", ".join(sorted(principal.scopes)) or "none"
            raise refuse("forbidden", f"This needs the scope `{scope}`; the key has: {held}.")
        return principal

    async def require_login(self, authorization: bytes | None, scope: Scope) -> Principal:
        """The same for a page. Raises LoginNeeded and RedisUnavailable."""
        try:
            return await self.require(_as_bearer(authorization or b""), scope)
        except Refusal:
            raise LoginNeeded from None

    async def _of_redis(self, digest: bytes) -> Principal | None:
        now_ms = self._now_ms()
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[1] > now_ms:
            return remembered[0]
        found = await api_keys.find(self._redis, digest)
        principal = None if found is None else Principal(found.app, granted(found.scopes), digest)
        if len(self._remembered) >= REMEMBERED_MAX:
            # The oldest goes: dictionaries keep the order in which keys came.
            del self._remembered[next(iter(self._remembered))]
        self._remembered.pop(digest, None)
        stays_ms = UNKNOWN_MS if principal is None else KNOWN_MS
        self._remembered[digest] = (principal, now_ms + stays_ms)
        return principal


def _as_bearer(authorization: bytes) -> bytes:
    """HTTP Basic turned into the bearer key that its password is; anything else as it is."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return authorization
    try:
        _, _, key = base64.b64decode(token.strip(), validate=True).partition(b":")
    except binascii.Error:
        return authorization
    return b"Bearer " + key


def configured_keys(settings: Settings) -> Mapping[bytes, Principal]:
    """The principals of the keys that the configuration's environment variables hold."""
    keys = settings.app_keys()
    found = {}
    for app in settings.apps:
        if app.name in keys:
            digest = digest_of(keys[app.name].encode())
            found[digest] = Principal(app.name, granted(app.scopes), digest)
    return found


def _unauthorized(detail: str) -> Refusal:
    return refuse("unauthorized", detail, _CHALLENGE)
