"""Puts the parts of long messages together, each of which has its own id from the start, and says
for itself whether it wants a receipt: Kannel asks for one of a whole message. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from providers.simulator.segments import octet_parts, text_parts
from providers.smpp import pdu, texts

UNFINISHED_MAX: Final = 10_000  # messages; the oldest is forgotten for one more
WITH_RECEIPT: Final = 0x03  # of registered_delivery: of any end, or of a failure
ON_THE_WAY: Final = 0x10


class Whole(NamedTuple):
    """A message that is all there: the ids of those of its parts that want a receipt, whether one
    wants it on the way too, the parts to charge, and how many were answered before the last."""

    told: list[str]
    on_the_way: bool
    parts: int
    answered: int = 0


class _Part(NamedTuple):
    id: str
    wants: int


class Gathering:
    def __init__(self) -> None:
        self._unfinished: dict[tuple[str, str, str, int, int], dict[int, _Part]] = {}

    def take(self, account: str, message: pdu.Short, id_: str) -> Whole | None:
        """The whole message, when this was the last part that it lacked. A part that comes again
        takes the place of the first one."""
        piece = texts.read(message)
        part = _Part(id_, message.registered_delivery)
        if piece.total == 1:
            return _whole([part], _cut(message, piece.text))
        key = (account, message.source, message.destination, piece.reference, piece.total)
        parts = self._unfinished.setdefault(key, {})
        parts[piece.number] = part
        if len(parts) < piece.total:
            if len(self._unfinished) > UNFINISHED_MAX:
                del self._unfinished[next(iter(self._unfinished))]
            return None
        del self._unfinished[key]
        return _whole([parts[number] for number in sorted(parts)], piece.total)


def _whole(parts: Sequence[_Part], charged: int) -> Whole:
    told = [part.id for part in parts if part.wants & (WITH_RECEIPT | ON_THE_WAY)]
    on_the_way = any(part.wants & ON_THE_WAY for part in parts)
    return Whole(told, on_the_way, charged, len(parts) - 1)


def _cut(message: pdu.Short, text: str) -> int:
    """The parts that we make of a message that comes in one PDU."""
    if message.data_coding in (0, texts.UCS2):
        return text_parts(text)
    return octet_parts(len(message.content))
