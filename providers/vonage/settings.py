"""The keys of Vonage: those of HTTP, the application and its private key. The account's signature
secret, which callbacks are held to, is what `api_key_env` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec.structs import replace

from providers.http.callback_proofs import Signature
from providers.http.settings import HttpSettings
from providers.notation import Text
from providers.settings import TableFault, reading_faults


class VonageSettings(HttpSettings, frozen=True, kw_only=True):
    application_id: Text
    private_key_file: Text
    base_url: Text = "https://api.nexmo.com"
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1

    @property
    def is_signed(self) -> bool:
        return True

    def signature(
        self,
        secret: Callable[[str | None], str],
        urls: tuple[str, ...],  # noqa: ARG002 - it is not signed
    ) -> Signature | None:
        from providers.vonage.signature import VonageSignature  # and with it what reads JWTs

        return VonageSignature(secret(self.api_key_env))

    def below(self, folder: Path) -> Self:
        return replace(self, private_key_file=str(folder / self.private_key_file))

    def file_faults(self) -> Iterator[TableFault]:
        from providers.vonage.access import private_key  # and with it what reads keys

        return reading_faults("private_key_file", self.private_key_file, private_key)
