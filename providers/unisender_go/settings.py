"""The keys of UniSender Go: those of HTTP, and as whom it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec

from providers.http.callback_proofs import Signature
from providers.http.settings import HttpSettings
from providers.mail import mailbox
from providers.notation import Text
from providers.settings import TableFault
from providers.unisender_go.events import UniSenderSignature


class UniSenderGoSettings(HttpSettings, frozen=True, kw_only=True):
    """`from` is the sender; or `sender` is, which beside `from` is the name that people see."""

    from_: Text | None = msgspec.field(name="from", default=None)
    sender: Text = ""
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 500

    @property
    def sends_as(self) -> str:
        if self.from_ is None:
            return self.sender
        return str(mailbox.read(self.from_, self.sender).header)

    def faults(self) -> Iterator[TableFault]:
        yield from super().faults()
        try:
            mailbox.read(self.sends_as)
        except ValueError as error:
            yield "from", f"cannot be used: {error}"

    @property
    def is_signed(self) -> bool:
        return True

    @property
    def is_greeted(self) -> bool:
        return True

    def signature(
        self,
        secret: Callable[[str | None], str],
        urls: tuple[str, ...],  # noqa: ARG002 - it is not signed
    ) -> Signature | None:
        return UniSenderSignature(secret(self.api_key_env))
