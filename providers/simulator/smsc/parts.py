"""Puts the parts of long messages together, each of which has its own id from the start. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from providers.simulator.segments import octet_parts, text_parts
from providers.smpp import pdu, texts

UNFINISHED_MAX: Final = 10_000  # messages; the oldest is forgotten for one more


class Whole(NamedTuple):
    """A message that is all there: the ids that its parts were given, and the parts to charge."""

    ids: list[str]
    parts: int


class Gathering:
    def __init__(self) -> None:
        self._unfinished: dict[tuple[str, str, str, int, int], dict[int, str]] = {}

    def take(self, account: str, message: pdu.Short, id_: str) -> Whole | None:
        """The whole message, when this was the last part that it lacked. A part that comes again
        takes the place of the first one."""
        piece = texts.read(message)
        if piece.total == 1:
            return Whole([id_], _cut(message, piece.text))
        key = (account, message.source, message.destination, piece.reference, piece.total)
        ids = self._unfinished.setdefault(key, {})
        ids[piece.number] = id_
        if len(ids) < piece.total:
            if len(self._unfinished) > UNFINISHED_MAX:
                del self._unfinished[next(iter(self._unfinished))]
            return None
        del self._unfinished[key]
        return Whole([ids[number] for number in sorted(ids)], piece.total)


def _cut(message: pdu.Short, text: str) -> int:
    """The parts that we make of a message that comes in one PDU."""
    if message.data_coding in (0, texts.UCS2):
        return text_parts(text)
    return octet_parts(len(message.content))
