"""The keys of a provider that is spoken to over HTTP and calls back.

The checks that need more than one key are here, and so is the way from keys to what the adapter,
the client and the callbacks are told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from providers.http.adapter import HttpConfig
from providers.http.callback_proofs import (
    BasicAuth,
    CallbackAuth,
    HmacAlgorithm,
    HmacAuth,
    HmacEncoding,
)
from providers.notation import Text
from providers.settings import (
    Configured,
    Fault,
    ProviderSettings,
    Variables,
    address_faults,
    is_local,
    several,
)

_NO_PROOF = (
    "has no proof for its callbacks: set callback_token_env, or callback_basic_user with "
    "callback_basic_password_env, or callback_hmac_secret_env with callback_hmac_header."
)


class HttpSettings(ProviderSettings, frozen=True, kw_only=True):
    base_url: Text
    api_key_env: Text
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    callback_token_env: Variables | None = None
    callback_basic_user: Text | None = None
    callback_basic_password_env: Variables | None = None
    callback_hmac_secret_env: Variables | None = None
    callback_hmac_header: Text | None = None
    callback_hmac_algorithm: HmacAlgorithm = "sha256"
    callback_hmac_encoding: HmacEncoding = "hex"

    def warnings(self) -> Iterator[Fault]:
        if self.base_url.startswith("http:") and not is_local(self.base_url):
            reason = (
                "is plain http to a provider that is not local: use https, or its API key and the "
                "texts can be read on the way."
            )
            yield "base_url", reason

    def faults(self) -> Iterator[Fault]:
        yield from address_faults("base_url", self.base_url)
        user, password = self.callback_basic_user, self.callback_basic_password_env
        secret, header = self.callback_hmac_secret_env, self.callback_hmac_header
        if not (self.callback_token_env or password or secret):
            yield "", _NO_PROOF
        for key, value, needs, other in (
            ("callback_basic_user", user, "callback_basic_password_env", password),
            ("callback_basic_password_env", password, "callback_basic_user", user),
            ("callback_hmac_secret_env", secret, "callback_hmac_header", header),
            ("callback_hmac_header", header, "callback_hmac_secret_env", secret),
        ):
            if value is not None and other is None:
                yield needs, f"is missing: {key} needs it."
        if user is not None and ":" in user:
            yield "callback_basic_user", "has a colon, which HTTP basic cannot carry."

    def callback_auth(self, secret: Callable[[str | None], str]) -> CallbackAuth:
        """What a callback must carry: any one of the proofs that are configured."""
        newest, *older = itertools.zip_longest(
            *(
                map(secret, several(variables))
                for variables in (
                    self.callback_token_env,
                    self.callback_basic_password_env,
                    self.callback_hmac_secret_env,
                )
            )
        )
        return replace(
            self._proofs(*newest), older=tuple(self._proofs(*secrets) for secrets in older)
        )

    def _proofs(
        self, token: str | None, password: str | None, hmac_secret: str | None
    ) -> CallbackAuth:
        """The proofs of secrets that are in use together; an empty one is none."""
        return CallbackAuth(
            basic=BasicAuth(self.callback_basic_user or "", password) if password else None,
            token=token or None,
            hmac=HmacAuth(
                hmac_secret,
                self.callback_hmac_header or "",
                self.callback_hmac_algorithm,
                self.callback_hmac_encoding,
            )
            if hmac_secret
            else None,
        )


def http_config(configured: Configured) -> HttpConfig:
    """What the adapter and the client of a provider are told; with a token its callback address is
    a secret."""
    settings, url = configured.settings, configured.callback_url
    assert isinstance(settings, HttpSettings), "a kind is given its own settings"
    token = configured.secret(next(iter(several(settings.callback_token_env)), None))
    return HttpConfig(
        name=configured.name,
        kind=settings.kind,
        sender=settings.sender,
        rate_per_s=int(settings.rate_per_s),
        timeout_ms=int(settings.timeout_ms),
        connections=settings.connections,
        base_url=settings.base_url.rstrip("/"),
        api_key=configured.secret(settings.api_key_env),
        batch=settings.batch,
        callback_url=f"{url}?token={quote(token, safe='')}" if token else url,
    )
