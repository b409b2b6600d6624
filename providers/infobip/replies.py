"""How Infobip's inbound messages and blocklist events become replies of people.

Three shapes say the same: SMS (`from`, `text`), Viber (`sender`, `message`) and the unified one
(`event` MO, `sender`, `content` as a list). A wish is looked for in the whole `text`: of
`cleanText` the keyword is cut away. A blocklist event names the person as `destination`.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from providers.contract import PersonReply
from providers.http import json_text
from providers.infobip.times import at_ms
from providers.infobip.wire import text_id

_DIGITS = re.compile(r"\+?([0-9]{5,15})").fullmatch


class _Message(msgspec.Struct, frozen=True):
    text: str | None = None


class _Block(msgspec.Struct, frozen=True):
    sender: str | int | None = None
    destination: str | int | None = None
    text: str | None = None


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    message_id: str | int | None = None
    from_: str | int | None = msgspec.field(name="from", default=None)
    sender: str | int | None = None
    to: str | int | None = None
    destination: str | int | None = None
    text: str | None = None
    message: _Message | None = None
    content: _Block | list[_Message] | None = None
    event: str | None = None
    received_at: str | None = None


_ITEM = msgspec.json.Decoder(_Item)
_KINDS: dict[str | None, Literal["block", "unblock"]] = {"BLOCK": "block", "UNBLOCK": "unblock"}


def read_reply(raw: msgspec.Raw) -> PersonReply | None:
    """The reply that an item is; None where it is none. Raises ValueError for one that names
    nobody."""
    try:
        item = json_text.decode(_ITEM, raw)
    except ValueError:
        return None
    if item.received_at is None:
        return None
    id_ = text_id(item.message_id)
    when = at_ms(item.received_at)
    if isinstance(item.content, _Block) and item.event in _KINDS:
        person = _person(item.content.destination)
        kind = _KINDS[item.event]
        return PersonReply(_named(id_), person, _text(item.content.sender), at_ms=when, kind=kind)
    sender = item.from_ if item.from_ is not None else item.sender
    text = item.text or (item.message.text if item.message else None)
    if isinstance(item.content, list):
        text = " ".join(each.text for each in item.content if each.text)
    to = item.to if item.to is not None else item.destination
    return PersonReply(_named(id_), _person(sender), _text(to), text or "", when)


def _named(id_: str | None) -> str:
    if id_ is None:
        raise ValueError("a reply has no messageId.")
    return id_


def _person(sender: str | int | None) -> str:
    found = _DIGITS(str(sender))
    if found is None:
        raise ValueError("a reply does not say whose it is.")
    return found[1]


def _text(value: str | int | None) -> str:
    return "" if value is None else str(value)
