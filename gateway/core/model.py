"""The glossary, as records. Everything Kaskad knows about a message is one of these.

    message   one send request that was accepted: one person, one content, one route
    step      one attempt on one channel through one provider; a message's steps are its route
    content   what is said, per channel; freed as soon as no further step can need it
    identity  what a person is known by: "p:" and a phone's digits, "u:" and the caller's id
    person    what one person was sent lately: cap slots and campaign claims, under one identity,
              the home; the others are aliases of it
    claim     (person, campaign) belongs to one live or delivered message
    receipt   what a provider says about a step
    settle    to book a delivered step in the ledger

Records are msgspec Structs encoded as msgpack arrays (about 190 bytes a message, and its content)
with a schema version in front: a field may be appended with a default, never moved. They hold no
behaviour beyond reading themselves; the rules are in `admission` and `cascade`. Times are epoch
milliseconds, UTC; money is in 1e-6 currency units.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from providers.contract import Button, Category, Channel, Fault
from ratelimit.caps import Slot

SCHEMA = 2


class StepStatus(enum.IntEnum):
    """A step's status; the value is its rank in the lattice, and a step never moves to a lower
    rank."""

    PLANNED = 0  # a later step of the route, not reached yet
    QUEUED = 1  # in its provider's lane
    RETRYING = 2  # waits for its timer to go back to the lane
    SENDING = 10  # claimed: bytes may be on the wire
    SENT = 20  # the provider took it
    UNKNOWN = 30  # the answer was lost: it may or may not have been taken
    SKIPPED = 38  # never started: something made it needless or forbidden
    EXPIRED = 40
    UNDELIVERED = 41
    REJECTED = 42
    DELIVERED = 50
    SEEN = 60


class MessageStatus(enum.IntEnum):
    QUEUED = 0
    SENT = 1
    DELIVERED = 2
    SEEN = 3
    UNDELIVERED = 4
    SUPPRESSED = 5
    EXPIRED = 6
    CANCELLED = 7


STEP_NAMES: dict[int, str] = {
    StepStatus.PLANNED: "queued",
    StepStatus.QUEUED: "queued",
    StepStatus.RETRYING: "queued",
    StepStatus.SENDING: "queued",
    StepStatus.SENT: "sent",
    StepStatus.UNKNOWN: "unknown",
    StepStatus.SKIPPED: "skipped",
    StepStatus.EXPIRED: "expired",
    StepStatus.UNDELIVERED: "undelivered",
    StepStatus.REJECTED: "rejected",
    StepStatus.DELIVERED: "delivered",
    StepStatus.SEEN: "seen",
}
MESSAGE_NAMES: dict[int, str] = {status: status.name.lower() for status in MessageStatus}
# Plain ints from here on: enum members cost a lookup each time a record is read.
FINAL = frozenset(int(s) for s in MessageStatus if s > MessageStatus.SENT)
ARRIVED = frozenset((int(MessageStatus.DELIVERED), int(MessageStatus.SEEN)))
WAITING = frozenset((int(StepStatus.QUEUED), int(StepStatus.RETRYING), int(StepStatus.PLANNED)))
OPEN = frozenset((int(StepStatus.SENDING), int(StepStatus.SENT), int(StepStatus.UNKNOWN)))


class Step(msgspec.Struct, array_like=True):
    """`wait_ms`, `grace_ms`, `cost` and `sell` are fixed at acceptance (per part), so a changed
    configuration or price list never changes a message that is under way."""

    provider: str
    channel: Channel
    wait_ms: int
    grace_ms: int
    cost: int  # list price of one part to us
    sell: int  # price of one part to the app
    parts: int = 1
    status: int = 0
    attempts: int = 0
    look_ups: int = 0
    series: int = 0  # how often the provider was given a new reference, after a refusal
    started_ms: int = 0  # the first claim
    claimed_ms: int = 0  # the latest claim
    sent_ms: int = 0
    done_ms: int = 0  # set once the step ended, delivered or not
    provider_id: str | None = None
    fault: Fault | None = None
    charged: int | None = None  # what the provider's charge was booked as, in all
    priced: bool = False  # ... by a receipt's price, not by the price list


class Message(msgspec.Struct, array_like=True):
    """Read and written by `unpack_message` and `pack_message`.

    `content` is a packed Content and goes with the record: a key of its own for each text cost 104
    bytes a waiting message, and a write and a deletion more (2026-11-22)."""

    schema: int
    id: str
    app: str
    to: str  # E.164 digits without the plus
    country: str
    category: Category
    route: str
    created_ms: int
    updated_ms: int
    expires_ms: int
    steps: list[Step]
    status: int = 0
    current: int = 0  # the step the cascade is at
    due_ms: int = 0  # when its timer fires; 0 is none
    sms_cost: int = 0  # what the same content as SMS would have cost us
    billed: int | None = None
    delivered_step: int = -1  # the first delivery
    user: str | None = None
    campaign: str | None = None
    reason: str | None = None
    metadata: dict[str, str] | None = None
    holds: bool = False  # it holds a claim or a cap slot of its person
    content: bytes = b""  # empty once no further step can need it
    person: str | None = None  # whose record has its claim and slot; None: its phone number's

    @property
    def holder(self) -> str:
        """The identity under which its claim and slot are kept, in its own shard."""
        return self.person or "p:" + self.to

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def closed(self) -> bool:
        """Final, and no step of it can still be heard of within its time."""
        return self.status in FINAL and self.due_ms == 0


class Content(msgspec.Struct, array_like=True):
    """`text` is the default of every channel; the others override it."""

    text: str
    viber_text: str | None = None
    image_url: str | None = None
    button: Button | None = None
    sms_text: str | None = None
    sms_sender: str | None = None

    def for_channel(self, channel: Channel) -> str:
        override = self.viber_text if channel == "viber" else self.sms_text
        return self.text if override is None else override


class Claim(msgspec.Struct, array_like=True, frozen=True):
    """`until_ms` 0 while the message is live; a moment once it was delivered."""

    message: str
    until_ms: int


class Person(msgspec.Struct, omit_defaults=True):
    """What is kept under one identity. Read and written by `unpack_person` and `pack_person`.

    A home has no `home`. An alias names its home, or one that became an alias itself; what it holds
    is from when it was a home. Claims are records of their own, so that a person of ten thousand
    campaigns is read and written as one of ten: here are those that were loaded."""

    home: str = ""
    aliases: list[str] = []  # of a home: the other identities of the person
    former: list[str] = []  # the aliases among them that may hold something still
    slots: list[Slot] = []
    keep_ms: int = 0  # nothing is held here after this
    linked_ms: int = 0  # until when its aliases stand at least; of an alias: it itself
    claims: dict[str, Claim] = {}


class _PersonOfSchema2(msgspec.Struct, array_like=True):
    schema: int
    claims: dict[str, Claim] = {}
    slots: list[Slot] = []


class Remembered(msgspec.Struct, array_like=True, frozen=True):
    """A request kept under its idempotency key for a day: the hash of its body and the first
    answer."""

    schema: int
    body_hash: bytes
    answer: bytes
    open: bool = False  # the answer is not given yet: its message may be half made


class Send(msgspec.Struct, frozen=True):
    """A validated send request: what admission decides on."""

    id: str  # the id the message gets if it is accepted
    app: str
    to: str
    country: str
    category: Category
    content: Content
    route: str | None = None
    user: str | None = None
    campaign: str | None = None
    ttl_ms: int | None = None
    metadata: dict[str, str] | None = None
    idempotency_key: str | None = None
    body_hash: bytes = b""

    @property
    def identities(self) -> list[str]:
        """What the person is known by in this request, the phone before the rest."""
        return ["p:" + self.to] if self.user is None else ["p:" + self.to, "u:" + self.user]


encode = msgspec.msgpack.Encoder().encode
_decode_message = msgspec.msgpack.Decoder(Message).decode
decode_content = msgspec.msgpack.Decoder(Content).decode
_decode_person = msgspec.msgpack.Decoder(Person).decode
_decode_person_2 = msgspec.msgpack.Decoder(_PersonOfSchema2).decode
decode_remembered = msgspec.msgpack.Decoder(Remembered).decode


def pack_message(message: Message) -> bytes:
    """The record as it is kept under its id, which it does not repeat."""
    id_, message.id = message.id, ""
    packed = encode(message)
    message.id = id_
    return packed


def unpack_message(message_id: str, record: bytes) -> Message:
    """Reads what `pack_message` made. Raises msgspec.DecodeError."""
    message = _decode_message(record)
    message.id = message_id
    return message


def pack_person(person: Person) -> bytes:
    """The record as it is kept under its identity, without the claims."""
    claims, person.claims = person.claims, {}
    packed = encode(person)
    person.claims = claims
    return packed


def unpack_person(record: bytes | None) -> Person:
    """Reads what `pack_person` made, and records of schema 2, which hold their claims. Raises
    msgspec.DecodeError."""
    if record is None:
        return Person()
    if record[0] & 0xF0 == 0x90:  # an array
        old = _decode_person_2(record)
        return Person(claims=old.claims, slots=old.slots)
    return _decode_person(record)


class Ref(NamedTuple):
    """What a reference of ours names. A step gets a new `series` after each refusal: a provider
    that refused an id would take the same id for a repetition."""

    message_id: str
    step: int
    series: int


def step_ref(message_id: str, index: int, series: int = 0) -> str:
    """The id a provider gets for a step, and echoes in its receipts."""
    return f"{message_id}.{index}.{series}" if series else f"{message_id}.{index}"


def read_ref(ref: str) -> Ref | None:
    """Reads a reference of ours; None when it is not one."""
    message_id, *numbers = ref.split(".")
    if shard_of_id(message_id) is None or not 1 <= len(numbers) <= 2:
        return None
    if not all(n.isascii() and n.isdecimal() and len(n) <= 3 for n in numbers):
        return None
    return Ref(message_id, int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)


# --- ids: 20 characters of Crockford's base 32: 9 of milliseconds, 2 of shard, 9 of randomness.
# They sort by time, name their shard, and stay short because every waiting message stores its own
# in several keys. 45 random bits a millisecond and shard: at 10,000 messages a second one clash is
# expected in some 200 years.

ID_LENGTH = 20
SHARDS_MAX = 1024
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TRIPLES = [pair + c for pair in _PAIRS for c in _ALPHABET]  # a third of the time of single letters
_VALUE = {c: i for i, c in enumerate(_ALPHABET)}


def new_id(now_ms: int, shard: int, noise: int) -> str:
    """Builds a message id; `noise` is 45 random bits from the caller."""
    assert 0 <= shard < SHARDS_MAX
    moment, noise = now_ms & (1 << 45) - 1, noise & (1 << 45) - 1
    three = _TRIPLES
    return (
        three[moment >> 30] + three[moment >> 15 & 32767] + three[moment & 32767] + _PAIRS[shard]
        + three[noise >> 30] + three[noise >> 15 & 32767] + three[noise & 32767]
    )  # fmt: skip


def shard_of_id(message_id: str) -> int | None:
    """The shard named in an id; None when it is no id of ours."""
    if len(message_id) != ID_LENGTH:
        return None
    high, low = _VALUE.get(message_id[9]), _VALUE.get(message_id[10])
    return None if high is None or low is None else high << 5 | low


def born_ms(message_id: str) -> int:
    """When an id of ours was made."""
    number = 0
    for letter in message_id[:9]:
        number = number << 5 | _VALUE[letter]
    return number
