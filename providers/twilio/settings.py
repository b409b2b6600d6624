"""The keys of Twilio: those of HTTP, and the account. Its auth token signs the callbacks too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec

from providers.http.callback_proofs import Signature
from providers.http.settings import HttpSettings
from providers.notation import Text
from providers.settings import TableFault
from providers.twilio.signature import TwilioSignature

_sid = re.compile(r"AC[0-9a-fA-F]{32}").fullmatch


class TwilioSettings(HttpSettings, frozen=True, kw_only=True):
    account_sid: Text
    base_url: Text = "https://api.twilio.com"
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1

    @property
    def sends_to(self) -> str:
        return f"{super().sends_to}/2010-04-01/Accounts/{self.account_sid}"

    def faults(self) -> Iterator[TableFault]:
        yield from super().faults()
        if _sid(self.account_sid) is None:
            yield "account_sid", f"is {self.account_sid!r}: write AC and 32 hexadecimal digits."

    @property
    def is_signed(self) -> bool:
        return True

    def signature(
        self, secret: Callable[[str | None], str], urls: tuple[str, ...]
    ) -> Signature | None:
        return TwilioSignature(secret(self.api_key_env), urls)
