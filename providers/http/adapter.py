"""The HTTP form of a provider: an adapter is its wire format, and this is what it must offer.

An adapter is pure. It turns a batch of submissions into one HTTP request, the answer into one
outcome a submission, and a callback's body into receipts. It opens no socket, reads no clock and
keeps no state, so the same object serves dispatch (trio), ingress (uvloop), the conformance suite
and the simulator's tests. All I/O is in `providers.http.client`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from providers.contract import Channel, Outcome, PersonReply, ProviderConfig, Receipt, Submission


class HttpOrigin(ProviderConfig, frozen=True, kw_only=True):
    """What a client is told: `base_url` is where every request goes."""

    base_url: str


class HttpConfig(HttpOrigin, frozen=True, kw_only=True):
    """What an adapter and its client are told.

    `batch` is the configured number of messages in one request; `callback_url` is
    `{public_url}/v1/callbacks/{name}`, with `?token=` where the proof of a callback is a token.
    """

    api_key: str
    batch: int
    callback_url: str

    def checked_key(self) -> str:
        """The API key. Raises ValueError with a sentence when it cannot be a header's value."""
        if not self.api_key or not all("!" <= char <= "~" for char in self.api_key):
            raise ValueError(
                f"The API key of provider {self.name} must be printable ASCII without spaces."
            )
        return self.api_key


class ProviderRequest(msgspec.Struct, frozen=True):
    """One HTTP request; `path` is appended to the provider's base_url and starts with a slash."""

    method: Literal["GET", "POST"]
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Receipts(msgspec.Struct, frozen=True):
    """What one callback carried: the receipts understood, a sentence for each flaw met, and what
    people wrote back."""

    receipts: list[Receipt]
    faults: list[str] = []
    replies: list[PersonReply] = []
    confirm_url: str | None = None  # to be asked for, so that the provider goes on to call back


class CallbackReader(Protocol):
    """What is read of a provider's callbacks; pure and safe to share."""

    channel: Channel
    callback_bytes_max: int  # what the provider sends in one callback at most

    def receipts(self, body: bytes, content_type: str) -> Receipts:
        """Reads a callback's body.

        Raises ValueError with a plain sentence only when nothing of it can be read.
        """
        ...


class Adapter(CallbackReader, Protocol):
    """One provider's wire format. Constructed once from its `HttpConfig`; safe to share."""

    kind: str
    batch_max: int  # what the wire format takes in one request, whatever the configuration says
    can_look_up: bool
    look_up_max: int  # refs in one look-up request, at least 1

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        """Builds the request that sends the batch (1..batch_max submissions)."""
        ...

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        """Reads the answer: one outcome a submission, in the batch's order whatever the answer's.

        A submission the answer does not mention is absent from the list, and the caller treats it
        as unknown; an answer that mentions none of them raises Unknown. Raises Throttled,
        AccountFault, BadRequest or Unknown for the batch as a whole.
        """
        ...

    def look_up(self, refs: Sequence[str]) -> ProviderRequest:
        """Builds the request that asks about `refs` (1..look_up_max), if `can_look_up`."""
        ...

    def looked_up(self, reply: Reply) -> list[Receipt]:
        """Reads the answer: receipts for the refs the provider knows, 'sent' when merely accepted.

        A ref that is not in the list is one the provider does not know. Raises SendFault when the
        answer is none, and PartlyRead when an entry of it cannot be read, since that entry might be
        any of the refs.
        """
        ...


def only(batch: Sequence[Submission]) -> Submission:
    """The submission of a batch, where a request carries one. Raises ValueError."""
    if len(batch) != 1:
        raise ValueError(f"A batch has 1 submission, not {len(batch)}.")
    return batch[0]
