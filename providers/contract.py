"""What an adapter is: the one seam between Kaskad and a provider's wire format.

An adapter is pure. It turns a batch of submissions into one HTTP request, the answer into one
outcome a submission, and a callback's body into receipts. It opens no socket, reads no clock and
keeps no state, so the same object serves dispatch (trio), ingress (uvloop), the conformance suite
and the simulator's tests. All I/O is in `providers.http.client`; what an outcome means for a
message is decided in `gateway.core.cascade`.

Failures keep their stage, because the stage decides whether a retry could reach the person twice:

    NotSent        no byte of the request left us             retry freely
    Throttled      the provider refused the rate (429)        wait, then send again
    AccountFault   key, credit, IP: nobody's message can go   stop the lane, tell a human
    BadRequest     the request as a whole was refused (400)   split it; alone, it is rejected
    Unknown        bytes left, no usable answer               never resend blindly: look up, wait
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

Channel = Literal["viber", "sms"]
Category = Literal["otp", "transactional", "marketing"]
ReceiptStatus = Literal["sent", "delivered", "seen", "undelivered", "expired", "rejected"]


class Button(msgspec.Struct, frozen=True, array_like=True):
    caption: str
    url: str


class Submission(msgspec.Struct, frozen=True):
    """One step of one message, ready to send.

    `ref` is ours: unique a step, at most 64 characters of [A-Za-z0-9.-], sent as the provider's
    client id and echoed in its receipts. `to` is E.164 with the plus sign. `validity_ms` is how
    long the provider may try.
    """

    ref: str
    to: str
    sender: str
    category: Category
    text: str
    validity_ms: int
    image_url: str | None = None
    button: Button | None = None


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """Why a provider refused or failed: its own code and name.

    `permanent` means that trying again cannot help.
    """

    code: str
    name: str
    permanent: bool


class Submitted(msgspec.Struct, frozen=True, tag=True):
    """The provider took it.

    `provider_id` is None when the provider uses our `ref`; `parts` is its own count. `again`: it
    only says that it had this `ref` before, not whether it took or refused it then.
    """

    ref: str
    provider_id: str | None = None
    parts: int | None = None
    again: bool = False


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The provider refused this one message inside an otherwise good answer.

    `account` is True when the reason is the account's (credit, package), not the message's: the
    message must go back to its lane under a new ref, and the lane must pause as for AccountFault.
    An answer that refuses all its messages that way raises AccountFault instead.
    """

    ref: str
    fault: Fault
    account: bool = False


Outcome = Submitted | Refused


class Receipt(msgspec.Struct, frozen=True):
    """One delivery report.

    `ref` is our id where the provider echoes it, `provider_id` its own where that is another one;
    at least one is set. With both, match `ref` first. A provider that replaced our id may echo only
    its own, which then stands in `ref`: match an unknown `ref` against the ids of
    `Submitted.provider_id` too. `cost` is the provider's whole charge for the step (price of one
    part times its parts), exact; `part_cost` is the price of one part from a provider that does not
    say how many there were. At most one of the two is set; `currency` is its currency. `to` is the
    number (digits) where the provider repeats it: a hint which records will be needed, no proof.
    """

    status: ReceiptStatus
    ref: str | None = None
    provider_id: str | None = None
    at_ms: int | None = None
    parts: int | None = None
    cost: Decimal | None = None
    currency: str | None = None
    fault: Fault | None = None
    part_cost: Decimal | None = None
    to: str | None = None


class Receipts(msgspec.Struct, frozen=True):
    """What one callback carried: the receipts understood, and a sentence for each flaw met."""

    receipts: list[Receipt]
    faults: list[str] = []


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; `path` is appended to the provider's base_url and starts with a slash."""

    method: Literal["GET", "POST"]
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class SendFault(Exception):
    """Base of every way a whole request fails; `code` is short and stable, `detail` a sentence."""

    def __init__(self, code: str, detail: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class NotSent(SendFault):
    """No byte of the request reached the provider: it is safe to send again."""


class Throttled(SendFault):
    """The provider says slow down; nothing was accepted. `retry_after_ms` is its wish, or None."""


class AccountFault(SendFault):
    """Key, credit, IP or sender: every message would fail alike, so none may be burnt on it."""


class BadRequest(SendFault):
    """The provider refused the request as a whole and accepted nothing of it."""


class Unknown(SendFault):
    """Bytes left and no usable answer came: it may or may not have been accepted."""


class Adapter(Protocol):
    """One provider's wire format. Constructed once from its `ProviderConfig`; safe to share."""

    kind: str
    channel: Channel
    batch_max: int  # what the wire format takes in one request, whatever the configuration says
    can_look_up: bool
    look_up_max: int  # refs in one look-up request, at least 1

    def submit(self, batch: Sequence[Submission]) -> Request:
        """Builds the request that sends the batch (1..batch_max submissions)."""
        ...

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        """Reads the answer: one outcome a submission, in the batch's order whatever the answer's.

        A submission the answer does not mention is absent from the list, and the caller treats it
        as unknown; an answer that mentions none of them raises Unknown. Raises Throttled,
        AccountFault, BadRequest or Unknown for the batch as a whole.
        """
        ...

    def receipts(self, body: bytes, content_type: str) -> Receipts:
        """Reads a callback's body.

        Raises ValueError with a plain sentence only when nothing of it can be read.
        """
        ...

    def look_up(self, refs: Sequence[str]) -> Request:
        """Builds the request that asks what became of `refs` (1..look_up_max), if `can_look_up`."""
        ...

    def looked_up(self, reply: Reply) -> list[Receipt]:
        """Reads the answer: receipts for the refs the provider knows, 'sent' when merely accepted.

        A ref that is not in the list is one the provider does not know. Raises SendFault when the
        answer is none, and Unknown when an entry of it cannot be read, since that entry might be
        any of the refs.
        """
        ...


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter and its HTTP edge are told; secrets are already read from the environment.

    `rate_per_s` counts messages over all dispatchers together; `callback_url` is
    `{public_url}/v1/callbacks/{name}`, with `?token=` where the callback authentication is a token.
    """

    name: str
    kind: str
    base_url: str
    api_key: str
    sender: str
    rate_per_s: int
    batch: int
    timeout_ms: int
    callback_url: str
    connections: int = 64
