"""How records were written before they carried a byte of schema: msgpack arrays, by place.

Frozen: nothing here follows today's records. Each kind's own module turns these into today's form.
The channels of then are named here, and only here beside the table of today's.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from providers import contract
from providers.contract import Category

# The keys of a request that its hash covered even when they were left out, in their order.
HASHED_KEYS = (
    "to",
    "category",
    "text",
    "user",
    "campaign",
    "viber",
    "sms",
    "route",
    "ttl",
    "idempotency_key",
    "metadata",
)


class Fault(msgspec.Struct, array_like=True):
    code: str
    name: str
    permanent: bool


class Step(msgspec.Struct, array_like=True):
    provider: str
    channel: str
    wait_ms: int
    grace_ms: int
    cost: int
    sell: int
    parts: int = 1
    status: int = 0
    attempts: int = 0
    look_ups: int = 0
    series: int = 0
    started_ms: int = 0
    claimed_ms: int = 0
    sent_ms: int = 0
    done_ms: int = 0
    provider_id: str | None = None
    fault: Fault | None = None
    charged: int | None = None
    priced: bool = False


class Message(msgspec.Struct, array_like=True):
    schema: int
    id: str
    app: str
    to: str
    country: str
    category: Category
    route: str
    created_ms: int
    updated_ms: int
    expires_ms: int
    steps: list[Step]
    status: int = 0
    current: int = 0
    due_ms: int = 0
    baseline_cost: int = 0
    billed: int | None = None
    delivered_step: int = -1
    user: str | None = None
    campaign: str | None = None
    reason: str | None = None
    metadata: dict[str, str] | None = None
    holds: bool = False
    content: bytes = b""


class Button(msgspec.Struct, array_like=True):
    caption: str
    url: str


class Content(msgspec.Struct, array_like=True):
    text: str
    viber_text: str | None = None
    image_url: str | None = None
    button: Button | None = None
    sms_text: str | None = None
    sms_sender: str | None = None


class Claim(msgspec.Struct, array_like=True):
    message: str
    until_ms: int


class Slot(msgspec.Struct, array_like=True):
    message: str
    at_ms: int
    category: str
    channel: str


class Person(msgspec.Struct, array_like=True):
    schema: int
    claims: dict[str, Claim] = {}
    slots: list[Slot] = []


class CapHit(msgspec.Struct, array_like=True):
    name: str
    limit: int
    window: str
    count: int
    retry_at_ms: int


class Answer(msgspec.Struct, array_like=True):
    outcome: str
    id: str | None = None
    status: str | None = None
    reason: str | None = None
    cap: CapHit | None = None
    pointer: str = ""
    detail: str = ""
    replayed: bool = False


class Remembered(msgspec.Struct, array_like=True):
    schema: int
    body_hash: bytes
    answer: bytes
    open: bool = False


class Post(msgspec.Struct, array_like=True):
    group: tuple[str, str, str, str, str, str]
    measures: dict[str, int]
    message: str | None = None
    step: int = -1
    note: dict[str, int] | None = None
    metadata: dict[str, str] | None = None


class LedgerEntry(msgspec.Struct, array_like=True):
    schema: int
    at_ms: int
    posts: list[Post]


class Event(msgspec.Struct, array_like=True):
    app: str
    id: str
    campaign: str | None
    status: str
    channel: str | None
    reason: str | None
    at_ms: int
    metadata: dict[str, str] | None = None


class Parked(msgspec.Struct, array_like=True):
    provider: str
    receipt: bytes
    since_ms: int


decode_message = msgspec.msgpack.Decoder(Message).decode
decode_person = msgspec.msgpack.Decoder(Person).decode
decode_remembered = msgspec.msgpack.Decoder(Remembered).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_ledger_entry = msgspec.msgpack.Decoder(LedgerEntry).decode
decode_events = msgspec.msgpack.Decoder(list[Event]).decode
decode_parked = msgspec.msgpack.Decoder(Parked).decode
decode_total = msgspec.msgpack.Decoder(tuple[str, str, str, str, str, str, str]).decode
_decode_content = msgspec.msgpack.Decoder(Content).decode
_decode_any = msgspec.msgpack.Decoder().decode


def fault_of(old: Fault | None) -> contract.Fault | None:
    return None if old is None else contract.Fault(old.code, old.name, old.permanent)


def content_parts(record: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """The text, and what each channel said differently, under the names that it has today."""
    old = _decode_content(record)
    button = None
    if old.button is not None:
        button = {"caption": old.button.caption, "url": old.button.url}
    viber = {"text": old.viber_text, "image_url": old.image_url, "button": button}
    sms = {"text": old.sms_text, "sender": old.sms_sender}
    said: dict[str, dict[str, Any]] = {"viber": viber, "sms": sms}
    return old.text, {
        channel: {name: value for name, value in fields.items() if value is not None}
        for channel, fields in said.items()
        if any(value is not None for value in fields.values())
    }


def receipt_of(old: bytes) -> contract.Receipt:
    """A receipt as it was kept: a map, but for its fault."""
    fields = _decode_any(old)
    fault = fields.pop("fault", None)
    receipt = msgspec.convert(fields, contract.Receipt)
    return receipt if fault is None else replace(receipt, fault=contract.Fault(*fault))
