"""A send request as admission sees it, its answer, and the answer that is remembered for a day."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import msgspec
from msgspec import field
from msgspec.structs import replace

from gateway.core.addresses import Addresses, person_id
from gateway.core.campaigns.campaign_words import Version
from gateway.core.people.opt_outs import NONE, OptOuts
from gateway.core.records import schema2
from gateway.core.records.codec import Codec
from gateway.core.records.content import Content
from gateway.core.records.held import Held
from gateway.core.records.words import Importance
from providers.contract import Category
from ratelimit.caps import Full

AnswerOutcome = Literal["accepted", "duplicate", "suppressed", "rejected", "conflict"]


class Saying(msgspec.Struct, frozen=True, gc=False):
    """What a request says in one variant of its campaign: `vars` are those of the version, and the
    rest is a Draft's. It is filled in once it was drawn: who waits holds none of the others."""

    variant: str
    upto: int
    version: Version | None
    vars: dict[str, str] | None

    def content(self, own: Content) -> Content:
        """What is said with the message's own words."""
        return own if self.version is None else self.version.said(own, self.vars or {})


class MessageRequest(msgspec.Struct, frozen=True, gc=False):
    """A validated send request: what admission decides on."""

    id: str  # the id the message gets if it is accepted
    app: str
    addresses: Addresses
    country: str
    category: Category
    content: Content  # its own words, until a saying was drawn
    route: str | None = None
    user: str | None = None
    own_users: bool = False  # `user` is its app's own numbering
    campaign: str | None = None
    importance: int = Importance.NORMAL
    ttl_ms: int | None = None
    not_before_ms: int = 0  # 0: at once
    tz: str | None = None
    metadata: dict[str, str] | None = None
    trace: str = ""  # the context of its acceptance, where it is traced
    idempotency_key: str | None = None
    body_hash: bytes = b""
    sayings: tuple[Saying, ...] = ()  # of which one is drawn; none: its own words
    said: Saying | None = None  # that one; `content` is its content, and `own` the own words
    own: Content | None = None
    lacks_consent: OptOuts = NONE  # where the person has not said yes
    no_room: bool = False  # its campaign has as many recipients as it may have
    over_quota: str = ""  # not empty: nothing may be accepted of the app now, and why
    tracked: bool = False  # its URLs become links

    @property
    def home(self) -> str:
        """The identity whose shard it is decided in."""
        return self.addresses.home(self.named_user)

    @property
    def identities(self) -> list[str]:
        return self.addresses.identities(self.named_user)

    @property
    def named_user(self) -> str | None:
        """The `user` as an identity."""
        return person_id(self.user, self.app) if self.own_users else self.user


class CapRefusal(msgspec.Struct, frozen=True):
    """The cap that refused, as the caller is told."""

    name: str = field(name="n")
    limit: int = field(name="l")
    window: str = field(name="w")
    count: int = field(name="c")
    retry_at_ms: int = field(name="r")

    @classmethod
    def of(cls, full: Full) -> CapRefusal:
        cap = full.cap
        return cls(cap.name, cap.limit, cap.window, full.count, full.retry_at_ms)


class BudgetRefusal(msgspec.Struct, frozen=True):
    """The budget that refused, as the caller is told: in 1e-6 units, `used` with what is
    reserved."""

    name: str = field(name="n")
    limit: int = field(name="l")
    used: int = field(name="u")


class Answer(msgspec.Struct, omit_defaults=True, gc=False):
    """How one request was decided. `conflict`: its idempotency key was used before with another
    body. `unavailable`: a record it needs is of a newer Kaskad. `failed`: it cannot be decided,
    by a fault of ours or a record that cannot be read; `detail` says which. `over_quota`: it would
    have been accepted, and its app's quota is used up."""

    outcome: AnswerOutcome | Literal["unavailable", "failed", "over_quota"] = field(name="o")
    id: str | None = field(name="i", default=None)
    status: str | None = field(name="s", default=None)
    reason: str | None = field(name="r", default=None)
    cap: CapRefusal | None = field(name="c", default=None)
    pointer: str = field(name="p", default="")
    detail: str = field(name="d", default="")
    replayed: bool = field(name="y", default=False)
    held: Held | None = field(name="h", default=None)
    budget: BudgetRefusal | None = field(name="b", default=None)


class RememberedAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Kept under an idempotency key for a day: the hash of the request's body and the first answer.
    `open`: the answer is not given yet, and its message may not be made yet."""

    body_hash: bytes = field(name="h")
    answer: Answer = field(name="a")
    open: bool = field(name="o", default=False)


class KeyedBody(NamedTuple):
    """What an idempotency key is looked up for, of a request that is no more than that."""

    app: str
    idempotency_key: str
    body_hash: bytes


def replay(first: RememberedAnswer, request: MessageRequest | KeyedBody) -> Answer:
    """What a request is told whose key holds a first answer."""
    if first.body_hash != request.body_hash:
        return Answer("conflict")
    return replace(first.answer, replayed=True)


def _remembered_of_2(record: bytes) -> RememberedAnswer:
    old = schema2.decode_remembered(record)
    was = schema2.decode_answer(old.answer)
    cap = None
    if was.cap is not None:
        cap = CapRefusal(
            was.cap.name, was.cap.limit, was.cap.window, was.cap.count, was.cap.retry_at_ms
        )
    answer = Answer(
        cast("AnswerOutcome", was.outcome),
        was.id,
        was.status,
        was.reason,
        cap,
        was.pointer,
        was.detail,
    )
    return RememberedAnswer(old.body_hash, answer, old.open)


remembered_codec = Codec(RememberedAnswer, "remembered answer", _remembered_of_2)
