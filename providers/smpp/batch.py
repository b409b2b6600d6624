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
        self._told: set[str] = set()  # of which `news` need say nothing more
        self._ripe: list[Submitted] = []

    def add(self, ref: str, written: Written) -> None:
        self.messages.append(Message(ref, *written, len(self.pdus)))
        self.pdus += written.pdus

    def news(self) -> list[Submitted]:
        """What was taken, and was so already when this was asked last; each message once. So a
        batch whose answers come together has none before its end."""
        ripe, self._ripe = self._ripe, []
        for message in self.messages:
            if message.ref not in self._told:
                told = self._answers_to(message)
                if len(told) == len(message.pdus) and _refusal(told) is None:
                    self._ripe.append(self._submitted(message, told))
                    self._told.add(message.ref)
        return ripe

    def settle(self, count: int) -> list[Message]:
        """The first `count` PDUs were written, and no answer is waited for any more: notes what
        became of the messages, nothing where nobody knows. Returns those that are out in part:
        a part was taken, and others can be sent again."""
        in_part = []
        for message in self.messages:
            told = self._answers_to(message)
            if count <= message.first:
                self.outcomes[message.ref] = NotTaken(message.ref)
            elif len(told) < min(count - message.first, len(message.pdus)):
                self._told.add(message.ref)  # should it be answered yet, that is brought as late
            elif self._is_out_in_part(message, told):
                in_part.append(message)
            else:
                self._note(message, told)
        return in_part

    def settle_again(self, in_part: Iterable[Message]) -> None:
        """As `settle`, when their parts were sent again: one that is still out in part is unknown,
        because nobody knows whether it arrives."""
        for message in in_part:
            told = self._answers_to(message)
            if not self._is_out_in_part(message, told):
                self._note(message, told)

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

    def _note(self, message: Message, told: Sequence[Answer]) -> None:
        ref, refused = message.ref, _refusal(told)
        if refused is None:
            self.outcomes[ref] = self._submitted(message, told)
        elif refused in reasons.SLOW_DOWN:
            self.outcomes[ref] = NotTaken(ref, throttled=True)
        else:
            self.outcomes[ref] = reasons.refused(ref, refused, self._ids(told))

    def _is_out_in_part(self, message: Message, told: Sequence[Answer]) -> bool:
        """Whether a part was taken, and another has no answer that stays."""
        if len(message.pdus) == 1:
            return False
        return any(answer.status == pdu.OK for answer in told) and bool(self.lacking(message))

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
