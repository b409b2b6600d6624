"""Openings of e-mails become reactions, where a person opened and no program did. Raises
RedisUnavailable."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.events import Reacted
from gateway.core.reactions.clickers import Visitor, opened_by
from gateway.core.reactions.opens import Opened
from gateway.core.records.message import Message
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.store import Store


class Opening(msgspec.Struct, frozen=True):
    """Somebody fetched an e-mail's picture."""

    opened: Opened
    at_ms: int
    visitor: Visitor


async def react(store: Store, openings: Sequence[Opening], now_ms: int) -> None:
    """Has the first opening of each step by a person be a reaction; again it changes nothing."""
    messages = await reads.messages_anywhere(store, {each.opened.message for each in openings})
    first: dict[Opened, Item] = {}
    for each in openings:
        id_, step = each.opened
        message = messages.get(id_)
        if isinstance(message, Message) and _by_person(each, message):
            first.setdefault(each.opened, Item(id_, Reacted(step, "seen", each.at_ms)))
    if first:
        await store.apply(list(first.values()), now_ms)


def _by_person(opening: Opening, message: Message) -> bool:
    index = opening.opened.step
    carrier = message.steps[index].carrier if index < len(message.steps) else None
    if carrier is None or not carrier.sent_ms:
        return False
    return opened_by(opening.visitor, opening.at_ms - carrier.sent_ms) is None
