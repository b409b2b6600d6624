"""The messages of one batch as PDUs, and what the answers say of each. Pure.

A message of several parts is taken when each part is. One of which no part was taken goes back, one
that lost an answer is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from providers.contract import NotTaken, Outcome, Refused, Submitted
from providers.smpp import pdu, reasons
from providers.smpp.receipts import IdFormat, one_id
from providers.smpp.session import Answer
from providers.smpp.words import Written


class Message(NamedTuple):
    """A submission as PDUs, the first of which is the `first` of its batch."""

    ref: str
    pdus: Sequence[pdu.Short]
    countable: bool
    first: int

    @property
    def places(self) -> range:
        """Those of its PDUs in the batch."""
        return range(self.first, self.first + len(self.pdus))


class Batch:
    """`answers` has those that came until now, each by the place of its PDU; of a part that was
    sent again the newest."""

    def __init__(self, id_format: IdFormat) -> None:
        self.messages: list[Message] = []
        self.pdus: list[pdu.Short] = []
        self.answers: dict[int, Answer] = {}
        self.outcomes: dict[str, Outcome] = {}  # by reference
        self._id_format = id_format
        self._open: list[Message] = []  # of which `news` said nothing

    def add(self, ref: str, written: Written) -> None:
        message = Message(ref, *written, len(self.pdus))
        self.messages.append(message)
        self.pdus += written.pdus
        self._open.append(message)

    def news(self) -> list[Submitted]:
        """Those that were taken since it was asked last."""
        taken, still_open = [], []
        for message in self._open:
            told = self._answers_to(message)
            if len(told) == len(message.pdus) and _refusal(told) is None:
                taken.append(self._submitted(message, told))
            else:
                still_open.append(message)
        self._open = still_open
        return taken

    def settle(self, count: int) -> list[Message]:
        """The first `count` PDUs were written, and no answer is waited for any more: notes what
        became of the messages, nothing where nobody knows. Returns those that are out in part:
        a part was taken, and others can be sent again."""
        in_part = []
        for message in self.messages:
            if count <= message.first:
                self.outcomes[message.ref] = NotTaken(message.ref)
            elif self._lost(message, count):
                continue
            elif self._is_out_in_part(message):
                in_part.append(message)
            else:
                self._note(message)
        self._open = [each for each in self._open if not self._lost(each, count)]
        return in_part

    def settle_again(self, in_part: Iterable[Message]) -> None:
        """As `settle`, when their parts were sent again: one that is still out in part is unknown,
        because nobody knows whether it arrives."""
        for message in in_part:
            if not self._is_out_in_part(message):
                self._note(message)

    def lacking(self, message: Message) -> list[int]:
        """The places of its parts that have no answer that stays."""
        answers = self.answers
        return [each for each in message.places if each not in answers or not stays(answers[each])]

    def late(self, place: int) -> Submitted | Refused | None:
        """What an answer says that came when nobody waited for it any more: something where it was
        the last that its message lacked, and all parts were taken, or one was refused for good."""
        message = next(each for each in self.messages if place in each.places)
        told = self._answers_to(message)
        if len(told) < len(message.pdus):
            return None
        refused = _refusal(told)
        if refused is None:
            return self._submitted(message, told)
        if all(map(stays, told)) and refused not in reasons.OF_ACCOUNT:
            return reasons.refused(message.ref, refused, self._ids(told))
        return None

    def _answers_to(self, message: Message) -> list[Answer]:
        """In the order of its parts."""
        answers = self.answers
        return [answers[place] for place in message.places if place in answers]

    def _note(self, message: Message) -> None:
        ref, told = message.ref, self._answers_to(message)
        refused = _refusal(told)
        if refused is None:
            self.outcomes[ref] = self._submitted(message, told)
        elif refused in reasons.SLOW_DOWN:
            self.outcomes[ref] = NotTaken(ref, throttled=True)
        else:
            self.outcomes[ref] = reasons.refused(ref, refused, self._ids(told))

    def _lost(self, message: Message, count: int) -> bool:
        """Whether the answer to a PDU that was written is missing."""
        written = message.places[: count - message.first]
        return any(place not in self.answers for place in written)

    def _is_out_in_part(self, message: Message) -> bool:
        """Whether a part was taken, and another has no answer that stays."""
        if len(message.pdus) == 1:
            return False
        taken = any(answer.status == pdu.OK for answer in self._answers_to(message))
        return taken and bool(self.lacking(message))

    def _ids(self, told: Sequence[Answer]) -> tuple[str, ...]:
        """Those of the parts that were taken."""
        written = self._id_format
        return tuple(one_id(each.message_id, written) for each in told if each.status == pdu.OK)

    def _submitted(self, message: Message, told: Sequence[Answer]) -> Submitted:
        ids = self._ids(told)
        if len(ids) == 1:
            return Submitted(message.ref, ids[0], 1 if message.countable else None)
        return Submitted(message.ref, parts=len(ids), part_ids=ids)


def stays(answer: Answer) -> bool:
    """Whether an answer to a part is its last word."""
    return answer.status not in reasons.SLOW_DOWN and answer.status not in reasons.TEMPORARY


def _refusal(told: Sequence[Answer]) -> int | None:
    """The status of the first part that was refused."""
    return next((answer.status for answer in told if answer.status != pdu.OK), None)
