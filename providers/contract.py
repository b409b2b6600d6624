"""What a provider is to dispatch: a port, and the words that pass through it.

A port takes batches of submissions and gives one outcome a submission; asked about references it
gives receipts; and it has a task that brings the receipts that come by themselves. How it talks is
its own affair: `providers.http` is one form (requests, and receipts by callback), a session that
stays open is another. What an outcome means for a message is decided in `gateway.core.cascade`.

Failures keep their stage, because the stage decides whether a retry could reach the person twice:

    NotSent        no byte of the request left us             retry freely
    Throttled      the provider refused the rate (429)        wait, then send again
    AccountFault   key, credit, IP: nobody's message can go   stop the lane, tell a human
    BadRequest     the request as a whole was refused (400)   split it; alone, it is rejected
    Unknown        bytes left, no usable answer               never resend blindly: look up, wait
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Literal, Never, Protocol, runtime_checkable

import msgspec

FAULT_CHARS_MAX = 200
Channel = str  # its name in the gateway's table of channels
Category = Literal["otp", "transactional", "marketing"]
# Whom a reason speaks of: the person (no Viber, an unknown number), the account (a sender that is
# not registered, a route that is not there, a code the adapter does not know), or the message.
About = Literal["person", "account", "message"]
ReceiptStatus = Literal["sent", "delivered", "seen", "undelivered", "expired", "rejected"]


class LinkButton(msgspec.Struct, frozen=True):
    caption: str
    url: str


class FcmAddress(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fcm"
):
    """A device of Firebase Cloud Messaging."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class SubscriptionKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a browser's subscription, in base64url."""

    p256dh: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    auth: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A browser's push subscription, as its `toJSON()` gives it."""

    endpoint: Annotated[str, msgspec.Meta(min_length=9, max_length=2048, pattern="^https://")]
    keys: SubscriptionKeys
    expiration_time: (
        Annotated[float, msgspec.Meta(description="Taken because browsers give it, and not kept.")]
        | None
    ) = msgspec.field(default=None, name="expirationTime")


class WebPushAddress(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="webpush"
):
    """A browser."""

    subscription: Subscription


Device = FcmAddress | WebPushAddress


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One step of one message, ready to send.

    `ref` is ours: unique a step, at most 64 characters of [A-Za-z0-9.-], sent as the provider's
    client id and echoed in its receipts. `to` is the person's one address of the channel's kind: a
    phone is E.164 with the plus sign; empty where the channel reaches `devices`, of which there may
    be several. `validity_ms` is how long the provider may try. What only some channels have is
    called as in their content.
    """

    ref: str
    to: str
    sender: str
    category: Category
    text: str
    validity_ms: int
    image_url: str | None = None
    button: LinkButton | None = None
    title: str | None = None
    url: str | None = None
    data: dict[str, str] | None = None
    devices: tuple[Device, ...] = ()
    message: str = ""
    subject: str | None = None
    html: str | None = None
    from_: str | None = None
    reply_to: str | None = None
    unsubscribe_url: str | None = None


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a provider refused or failed: its own code and name.

    `permanent` means that trying again cannot help. Kept with a step, so its fields are cut off
    where they are not short.
    """

    code: str = msgspec.field(name="c")
    name: str = msgspec.field(name="n")
    permanent: bool = msgspec.field(name="p")

    def __post_init__(self) -> None:
        if len(self.code) > FAULT_CHARS_MAX or len(self.name) > FAULT_CHARS_MAX:
            msgspec.structs.force_setattr(self, "code", self.code[:FAULT_CHARS_MAX])
            msgspec.structs.force_setattr(self, "name", self.name[:FAULT_CHARS_MAX])


class Submitted(msgspec.Struct, frozen=True, tag=True):
    """The provider took it.

    `provider_id` is None when the provider uses our `ref`; `parts` is its own count. `again`: it
    only says that it had this `ref` before, not whether it took or refused it then. `part_ids` are
    the provider's ids of several parts that get receipts of their own, in the place of
    `provider_id`: the message arrived when all have. `delivered`: its provider never says more than
    that, and the step counts as delivered. `gone` are devices of the person that no longer exist.
    """

    ref: str
    provider_id: str | None = None
    parts: int | None = None
    again: bool = False
    part_ids: tuple[str, ...] = ()
    delivered: bool = False
    gone: tuple[Device, ...] = ()


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The provider refused this one message inside an otherwise good answer.

    `account` is True when the reason is the account's (credit, package), not the message's: the
    message must go back to its lane under a new ref, and the lane must pause as for AccountFault.
    An answer that refuses all its messages that way raises AccountFault instead. `about` is whom
    any other reason speaks of: what nearly all messages in a row are refused for, and is about the
    account, pauses the lane too, and the messages go back. `unreachable`: the address reaches
    nobody on this channel (no Viber, an unknown number, a token that is gone), so that it is not
    tried again for a while. `gone` are devices of the person that no longer exist. `part_ids` are
    the provider's ids of parts that it took, and charges, although it refused another. `opted_out`:
    the person told the provider to be sent no more marketing there.
    """

    ref: str
    fault: Fault
    account: bool = False
    about: About = "person"
    unreachable: bool = False
    gone: tuple[Device, ...] = ()
    part_ids: tuple[str, ...] = ()
    opted_out: bool = False


class NotTaken(msgspec.Struct, frozen=True, tag=True):
    """Nobody has this one message of a batch, for a reason that is not its own: it goes back to its
    lane. `throttled`: the provider refused the rate; else no byte of it left us."""

    ref: str
    throttled: bool = False


Outcome = Submitted | Refused | NotTaken


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One delivery report.

    `ref` is our id where the provider echoes it, `provider_id` its own where that is another one;
    at least one is set. With both, match `ref` first. A provider that replaced our id may echo only
    its own, which then stands in `ref`: match an unknown `ref` against the ids of
    `Submitted.provider_id` too. `cost` is the provider's whole charge for the step (price of one
    part times its parts), exact; `part_cost` is the price of one part from a provider that does not
    say how many there were. At most one of the two is set; `currency` is its currency. `to` is the
    number (digits) where the provider repeats it: a hint which records will be needed, no proof.
    `about` is whom the reason of a failure speaks of; `unreachable` as of `Refused`. `network` is
    the one that carried it, its country and network codes (MCC and MNC) as one row of digits. `raw`
    is it as it came, without secrets and texts, where somebody wants to see that.
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
    about: About = "person"
    unreachable: bool = False
    network: str | None = None
    raw: str = ""


class PersonReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person wrote back, or said at the provider. `id` is the provider's; `sender` who it
    is, a phone's digits or an e-mail address; `to` the number or name of ours. `kind`: a text, or a
    wish for this channel that the provider itself was told: to be sent no more marketing
    (unsubscribed, complained), or to be sent it again."""

    id: str
    sender: str
    to: str = ""
    text: str = ""
    at_ms: int | None = None
    kind: Literal["text", "block", "unblock"] = "text"


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

    def __init__(self, code: str, detail: str, *, about: About = "message") -> None:
        super().__init__(code, detail)
        self.about = about


class Unknown(SendFault):
    """Bytes left and no usable answer came: it may or may not have been accepted. `gone` are
    devices of the person that no longer exist, as of `Refused`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_ms: int | None = None,
        gone: tuple[Device, ...] = (),
    ) -> None:
        super().__init__(code, detail, retry_after_ms=retry_after_ms)
        self.gone = gone


class PartlyRead(Unknown):
    """An entry of the answer to a look-up cannot be read, and might be any of the references: what
    the others say is in `receipts`, and nothing is known of whom they do not name."""

    def __init__(self, code: str, detail: str, receipts: Sequence[Receipt]) -> None:
        super().__init__(code, detail)
        self.receipts = receipts


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What every provider is told; each kind adds its own. Secrets are values here, no names.

    `rate_per_s` counts messages over all dispatchers together, or their parts where `tokens` says
    so; `connections` is how many calls of `deliver` may be under way at once (with `places` as many
    messages as so many full ones have), `timeout_ms` how long one may take. `places` is how many
    calls of `run` may be under way at once over all dispatchers together, each of which keeps one
    session of the account; a dispatcher without one delivers nothing, and one with several has as
    many times its share of `connections`. None: nothing is shared, and `run` is called once.
    """

    name: str
    kind: str
    sender: str
    rate_per_s: int
    timeout_ms: int
    connections: int = 64
    places: int | None = None


# Told of submissions of a batch that were taken, while others of it are open.
TellTaken = Callable[[Sequence[Submitted]], None]


class WithoutLookUps:
    """Base of a `Provider`, or of its adapter, that cannot be asked about references."""

    can_look_up = False
    look_up_max = 1

    def look_up(self, asked: object) -> Never:
        raise NotImplementedError

    looked_up = look_up


class Receive(Protocol):
    """Takes what comes by itself. All of it is durable on return. `late` are outcomes of what
    `deliver` had to leave unknown: it was taken after all, or refused for good."""

    async def __call__(
        self,
        receipts: Sequence[Receipt],
        replies: Sequence[PersonReply] = (),
        late: Sequence[Submitted | Refused] = (),
    ) -> None: ...


@runtime_checkable
class KeepsSessions(Protocol):
    """A `Provider` that keeps sessions of an account."""

    @property
    def sessions(self) -> int:
        """How many are bound at this moment."""
        ...


class Provider(Protocol):
    """One configured provider, as dispatch uses it."""

    can_look_up: bool

    @property
    def config(self) -> ProviderConfig: ...

    @property
    def batch_max(self) -> int:
        """Submissions that one `deliver` takes, at least 1."""
        ...

    @property
    def look_up_max(self) -> int:
        """References that go into one question, at least 1."""
        ...

    def tokens(self, batch: Sequence[Submission]) -> int:
        """How many tokens of the rate a batch takes: one a message, or one a part."""
        ...

    async def deliver(
        self, batch: Sequence[Submission], tell_taken: TellTaken | None = None
    ) -> list[Outcome]:
        """Sends 1..batch_max submissions.

        Returns outcomes in the batch's order, all of them; a submission without one is unknown.
        Raises NotSent, Throttled, AccountFault, BadRequest or Unknown for the batch as a whole.
        Cancelled, the caller takes what it was sending for unknown.

        Where answers come one by one, `tell_taken` may hear of what was taken before the others
        have theirs: each submission once, a few calls a batch, and none after the return. What it
        heard of is recorded at once and stays taken, whatever comes: a fault that is raised then,
        and what a cancelled call leaves unknown, are the others alone. Refusals wait for the end.
        """
        ...

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        """Asks about any number of references; only when `can_look_up`.

        A reference without a receipt is one the provider does not know. Raises SendFault when it
        cannot be asked; then nothing is known of any of them, but for `PartlyRead`.
        """
        ...

    async def run(self, receive: Receive) -> None:
        """Brings the receipts and replies that come by themselves, until cancelled.

        They are durable when `receive` returns, and only then may the provider be told so. It comes
        back to its provider by itself when a connection is lost. A kind whose receipts come another
        way returns at once.
        """
        ...

    async def aclose(self) -> None: ...
