"""Who is asking, and may they: API keys, their apps and scopes.

A key is one of the configuration, hashed at start, or one made with `kaskad key new`, read from
Redis and remembered for a few seconds, so that a withdrawn key stops working soon and a busy one
costs nothing. That it was used is noted in Redis once a minute. All memories are bounded. Programs
send the key as a bearer token, browsers as the password of HTTP Basic.

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
from gateway.redis.errors import RedisError
from gateway.settings.file import Settings
from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import REVOKED_WITHIN_S, Scope, digest_of, granted

# How long a key of Redis is believed without asking again: what stays open has the rest of the time
# to ask and to end.
KNOWN_MS = REVOKED_WITHIN_S * 1_000 - 2_000
UNKNOWN_MS = 2_000  # ... and that there is no such key
REMEMBERED_MAX = 10_000  # keys, known and unknown together
USES_EVERY_MS = 60_000  # until it is told again which keys were used
KEY_BYTES_MAX = 512

_CHALLENGE = (b"www-authenticate", b'Bearer realm="kaskad"')
LOGIN_CHALLENGE = (b"www-authenticate", b'Basic realm="Kaskad", charset="UTF-8"')


class Principal(msgspec.Struct, frozen=True):
    """The app behind a request. `key` is as much of its key as may be shown."""

    app: str
    scopes: frozenset[Scope]
    digest: bytes
    key: str = ""

    @property
    def named(self) -> str:
        """As the audit names it."""
        return f"{self.app} {self.key}".rstrip()


NOBODY = Principal("", frozenset(), b"")  # of what needs no key


class LoginNeeded(Exception):
    """A browser sent no key that opens this page: it is to ask for one with that scope."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.hint = (
            f"Give an API key with the scope {scope} as the password; the user name does not "
            "matter.\n"
        ).encode()


class Authority:
    """Knows every key's principal. `now_ms` is the edge's clock."""

    def __init__(self, settings: Settings, redis: RedisClient, now_ms: Callable[[], int]) -> None:
        self._configured = configured_keys(settings)
        self._redis = redis
        self._now_ms = now_ms
        self._remembered: dict[bytes, tuple[Principal | None, int]] = {}
        self._uses: dict[bytes, int] = {}  # digest: when, in epoch milliseconds
        self._told_ms = now_ms()

    def take_over(self, settings: Settings) -> None:
        """The apps of a changed configuration, from the next request on."""
        self._configured = configured_keys(settings)

    async def identify(self, authorization: bytes | None) -> Principal:
        """The principal of a request, by its header. Raises Refusal (401) and RedisUnavailable."""
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise _unauthorized("Send the header `Authorization: Bearer <api key>`.")
        key = authorization[7:].strip()
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise _unauthorized("The API key is not one of ours.")
        digest = digest_of(key)
        principal = self._configured.get(digest) or await self._of_redis(digest)
        if principal is None or not hmac.compare_digest(principal.digest, digest):
            raise _unauthorized("The API key is not known; it may have been withdrawn.")
        return principal

    async def identify_login(self, authorization: bytes | None, scope: Scope) -> Principal:
        """The same for a page that needs a scope. Raises LoginNeeded and RedisUnavailable."""
        try:
            principal = await self.identify(_as_bearer(authorization or b""))
        except Refusal:
            raise LoginNeeded(scope) from None
        if scope not in principal.scopes:
            raise LoginNeeded(scope)
        return principal

    async def holds(self, principal: Principal, scope: Scope) -> bool:
        """Whether the key of a request that was let in is good still: for what stays open. It costs
        Redis one question each KNOWN_MS, however often it is asked. Raises RedisUnavailable."""
        digest = principal.digest
        now = self._configured.get(digest) or await self._of_redis(digest)
        return now is not None and scope in now.scopes

    @property
    def uses_due(self) -> bool:
        """Whether it is time to tell which keys were used."""
        return bool(self._uses) and self._now_ms() >= self._told_ms + USES_EVERY_MS

    async def tell_uses(self) -> None:
        """Notes in Redis which of its keys were used since the last time. Raises
        RedisUnavailable."""
        if not self._uses:
            return
        uses, self._uses = self._uses, {}
        try:
            await api_keys.note_uses(self._redis, uses)
        except RedisError:
            self._uses = uses | self._uses
            raise
        self._told_ms = self._now_ms()

    async def _of_redis(self, digest: bytes) -> Principal | None:
        now_ms = self._now_ms()
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[1] > now_ms:
            return remembered[0]
        found = await api_keys.find(self._redis, digest)
        stays_ms, principal = UNKNOWN_MS, None
        if found is not None and not found.is_over(now_ms):
            principal = Principal(found.app, granted(found.scopes), digest, found.prefix)
            stays_ms = min(KNOWN_MS, found.expires - now_ms) if found.expires else KNOWN_MS
            self._uses[digest] = now_ms
        if len(self._remembered) >= REMEMBERED_MAX:
            # The oldest goes: dictionaries keep the order in which keys came.
            del self._remembered[next(iter(self._remembered))]
        self._remembered.pop(digest, None)
        self._remembered[digest] = (principal, now_ms + stays_ms)
        return principal


def lacking(principal: Principal, scope: Scope) -> Refusal:
    """What the owner of a key without this scope is told."""
    held = ", ".join(sorted(principal.scopes)) or "none"
    return refuse("forbidden", f"This needs the scope `{scope}`; the key has: {held}.")


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
            shown = api_keys.shown(keys[app.name])
            found[digest] = Principal(app.name, granted(app.scopes), digest, shown)
    return found


def _unauthorized(detail: str) -> Refusal:
    return refuse("unauthorized", detail, _CHALLENGE)
