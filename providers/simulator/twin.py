"""What a twin is: one provider's wire format, seen from the provider's side.

The core decides what happens to a message; a twin reads the requests of its provider's clients and
writes its answers and reports. It is pure, keeps nothing, and fails only with `Unreadable`, which
is the client's fault. A new one is a package beside `infobip` and a name in `twins.TWINS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.replies import Reply
from providers.simulator.vocabulary import Catalogue, State, Status

Listing = Literal["logs", "reports"]  # what can be pulled: messages, or reports nobody has pulled
ErrorShape = Literal["api", "request"]
Violations = Sequence[tuple[str, str]]  # (property, sentence)
_T = TypeVar("_T")


class Destination(NamedTuple):
    message_id: str  # empty: the provider gives one
    to: str


class Order(msgspec.Struct, frozen=True):
    """One message of a request, and what all its destinations share.

    `category` is empty where the wire format has none; `intermediate` asks for a report on the way;
    `link` is what a person would follow, empty where there is none or the twin reads no texts.
    `answered` parts were taken for good before anything is decided, and cost also where the message
    is rejected.
    """

    channel: Channel
    sender: str
    parts: int
    category: str
    validity_ms: int
    hooks: Hooks
    intermediate: bool
    destinations: list[Destination]
    link: str = ""
    answered: int = 0


class Sending(msgspec.Struct, frozen=True):
    """One request: at least one order. `counted`: the answer is to say the parts."""

    bulk_id: str  # empty: the provider gives one
    orders: list[Order]
    counted: bool


class Taken(NamedTuple):
    """What the answer says of one destination; `accepted` is false for a rejection."""

    order: Order
    message_id: str
    to: str
    status: Status
    accepted: bool

    @property
    def in_hand(self) -> bool:
        """Also of a repetition, where the provider takes what it has for taken."""
        return self.accepted or self.status.state is State.ACCEPTED


class Pull(NamedTuple):
    message_ids: list[str]
    bulk_ids: list[str]
    limit: int


class Unreadable(ValueError):
    """A request that the provider answers with 400: a sentence and what breaks which rule."""

    def __init__(self, sentence: str, violations: Violations = ()) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.violations = violations


def decoded(decoder: msgspec.json.Decoder[_T], body: bytes, said: str) -> _T:
    """What `body` says. Raises Unreadable: `said`, and what is wrong."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise Unreadable(f"{said} {fault}") from None


class Twin(Protocol):
    """`media_type` is that of its sends; `pulls` are the paths that are asked with GET."""

    @property
    def channels(self) -> tuple[Channel, ...]: ...

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def media_type(self) -> str: ...

    @property
    def pulls(self) -> Mapping[str, tuple[Channel, Listing]]: ...

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        """Whether the request carries the key; names of headers are in lower case."""
        ...

    def sends_at(self, path: str) -> Channel | None:
        """The channel of what is posted there; None: nothing is sent there."""
        ...

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:
        """What is posted there without the key, and is no send; None: nothing."""
        ...

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        """Raises Unreadable."""
        ...

    def read_pull(self, query: Mapping[str, list[str]]) -> Pull:
        """Raises Unreadable."""
        ...

    def refusal(self, order: Order, to: str) -> Status | None:
        """The status a destination is rejected with that cannot be sent to at all, or None."""
        ...

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply: ...

    def pulled(
        self, listing: Listing, entries: Sequence[Entry], *, price_when_free: bool
    ) -> bytes: ...

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        """The body of an HTTP error; `shape` is the one of today or of older endpoints."""
        ...

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        """The report of the message's fated end, whatever has happened to it since."""
        ...

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        """The report of a delivery that came after another end."""
        ...

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes: ...

    def seen_report(self, entry: Entry) -> bytes: ...

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        """What the person wrote back to a message, as it is pushed."""
        ...

    def complaint(self, entry: Entry, now_ms: int) -> bytes:
        """That the person reported a message as spam; empty where nobody hears of that."""
        ...

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        """The body of a POST with reports of one kind; `key` is that of the API, where it signs."""
        ...
