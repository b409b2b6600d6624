"""The keys of a provider that calls back: by what its callbacks prove that they are its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from urllib.parse import quote

from msgspec.structs import replace

from providers.http.callback_proofs import (
    BasicAuth,
    CallbackAuth,
    HmacAlgorithm,
    HmacAuth,
    HmacEncoding,
    Signature,
)
from providers.notation import Text
from providers.settings import Configured, ProviderSettings, TableFault, Variables, several

_NO_PROOF = (
    "has no proof for its callbacks: set callback_token_env, or callback_basic_user with "
    "callback_basic_password_env, or callback_hmac_secret_env with callback_hmac_header."
)


def callback_address(configured: Configured) -> str:
    """The address that the provider is to call; with a token it is a secret."""
    return with_each_token(configured, configured.callback_url)[0]


def with_each_token(configured: Configured, url: str) -> list[str]:
    """A callback's address with each of the tokens that are taken, the one in use first."""
    settings = configured.settings
    variables = settings.callback_token_env if isinstance(settings, CallbackSettings) else None
    tokens = [configured.secret(variable) for variable in several(variables)] or [""]
    return [f"{url}?token={quote(token, safe='')}" if token else url for token in tokens]


class CallbackSettings(ProviderSettings, frozen=True, kw_only=True):
    callback_token_env: Variables | None = None
    callback_basic_user: Text | None = None
    callback_basic_password_env: Variables | None = None
    callback_hmac_secret_env: Variables | None = None
    callback_hmac_header: Text | None = None
    callback_hmac_algorithm: HmacAlgorithm = "sha256"
    callback_hmac_encoding: HmacEncoding = "hex"

    def proof_faults(self, *, signed: bool = False) -> Iterator[TableFault]:
        """What is wrong with these keys; `signed`: the provider's own signature is proof enough."""
        user, password = self.callback_basic_user, self.callback_basic_password_env
        secret, header = self.callback_hmac_secret_env, self.callback_hmac_header
        if not (signed or self.callback_token_env or password or secret):
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

    @property
    def is_greeted(self) -> bool:
        """Whether the provider asks for the callback's address by GET before it calls it."""
        return False

    def signature(
        self,
        secret: Callable[[str | None], str],  # noqa: ARG002 - for the kinds that have one
        urls: tuple[str, ...],  # noqa: ARG002
    ) -> Signature | None:
        """The provider's own signature, where it is to be checked; `urls` are what it may call."""
        return None

    def callback_auth(
        self, secret: Callable[[str | None], str], urls: tuple[str, ...] = ()
    ) -> CallbackAuth:
        """What a callback must carry: any one of the proofs that are configured, and the provider's
        own signature where it has one; `urls` are what the provider calls, or was told to call."""
        together = itertools.zip_longest(
            *(
                map(secret, several(variables))
                for variables in (
                    self.callback_token_env,
                    self.callback_basic_password_env,
                    self.callback_hmac_secret_env,
                )
            )
        )
        newest, *older = [self._proofs(*secrets) for secrets in together] or [CallbackAuth()]
        return replace(
            newest,
            older=tuple(older),
            signature=self.signature(secret, urls),
            greeted=self.is_greeted,
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
