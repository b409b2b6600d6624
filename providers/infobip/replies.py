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


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    message_id: str | int | None = None
    from_: object = msgspec.field(name="from", default=None)
    sender: object = None
    to: object = None
    destination: object = None
    text: object = None
    message: object = None
    content: object = None
    event: object = None
    received_at: str | None = None


_ITEM = msgspec.json.Decoder(_Item)
_KINDS: dict[str, Literal["block", "unblock"]] = {"BLOCK": "block", "UNBLOCK": "unblock"}


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
    content = item.content
    kind = _KINDS.get(json_text.text_of(item.event))
    if isinstance(content, dict) and kind is not None:
        person, about = _person(content.get("destination")), _sender(content.get("sender"))
        return PersonReply(_named(id_), person, about, at_ms=when, kind=kind)
    sender = item.from_ if item.from_ is not None else item.sender
    parts = [item.message, *(content if isinstance(content, list) else ())]
    texts = (json_text.text_of(json_text.part(each, "text")) for each in parts)
    text = json_text.text_of(item.text) or " ".join(filter(None, texts))
    to = item.to if item.to is not None else item.destination
    return PersonReply(_named(id_), _person(sender), _sender(to), text, when)


def _named(id_: str | None) -> str:
    if id_ is None:
        raise ValueError("a reply has no messageId.")
    return id_


def _person(sender: object) -> str:
    found = _DIGITS(str(sender))
    if found is None:
        raise ValueError("a reply does not say whose it is.")
    return found[1]


def _sender(value: object) -> str:
    """The sender of ours that was written to, a name or a number."""
    return str(value) if isinstance(value, str | int) else ""
