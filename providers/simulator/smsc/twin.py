"""An SMSC as a twin: what it makes of whole messages, and its receipts and replies as deliver_sm.

A message has an id a part, and a receipt for each part that wants one. What answers it is a
submit_sm_resp: the status of the reply is its command_status. Reports are PDUs whose sequence
numbers the door fills in.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.callbacks_only import BesideHttp
from providers.simulator.replies import Reply
from providers.simulator.smsc.parts import Whole
from providers.simulator.twin import (
    Destination,
    Order,
    Sending,
    Taken,
    Unreadable,
)
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status
from providers.smpp import pdu, texts
from providers.smpp.receipts import FINAL, INTERMEDIATE

SCHEME: Final = "smpp"
VALIDITY_MS: Final = 48 * 3_600_000
_number: Final = re.compile(r"[1-9][0-9]{6,14}").fullmatch
_relative: Final = re.compile(r"0000(\d\d)(\d\d)(\d\d)(\d\d)\d{3}R").fullmatch
# Ids that are nobody else's; behind it a message_state, or a command_status further on.
_BASE: Final = 50_000
_REFUSED: Final = _BASE + 1_000
_WAITING, _DELIVERED, _EXPIRED, _UNDELIVERED = 1, 2, 3, 5
_STATUSES: Final = {
    each.id: each
    for each in (
        Status(State.ACCEPTED, _BASE + _WAITING, "ENROUTE"),
        Status(State.DELIVERED, _BASE + _DELIVERED, "DELIVRD"),
        Status(State.EXPIRED, _BASE + _EXPIRED, "EXPIRED"),
        Status(State.UNDELIVERED, _BASE + _UNDELIVERED, "UNDELIV"),
        Status(State.REJECTED, _REFUSED + pdu.INVALID_DESTINATION, "ESME_RINVDSTADR"),
        Status(State.REJECTED, _REFUSED + pdu.SUBMIT_FAILED, "ESME_RSUBMITFAIL"),
    )
}
_NO_ERROR: Final = Error(0, "none", False)
_ABSENT: Final = Error(_BASE + 1, "unknown subscriber", True)
_OFF: Final = Error(_BASE + 27, "absent subscriber", False)
_ENDS: Final[dict[Ending, tuple[int, int]]] = {
    "delivered": (_BASE + _DELIVERED, 0),
    "undelivered": (_BASE + _UNDELIVERED, _OFF.id),
    "expired": (_BASE + _EXPIRED, _OFF.id),
    "silent": (_BASE + _EXPIRED, _OFF.id),
    "rejected": (_REFUSED + pdu.SUBMIT_FAILED, 0),
}
CATALOGUE: Final = Catalogue(
    provider="smpp",
    statuses=_STATUSES,
    errors={each.id: each for each in (_NO_ERROR, _ABSENT, _OFF)},
    accepted=_STATUSES[_BASE + _WAITING],
    enroute=_STATUSES[_BASE + _WAITING],
    delivered=_STATUSES[_BASE + _DELIVERED],
    duplicate=_STATUSES[_BASE + _WAITING],  # it knows no message twice
    no_route=_STATUSES[_REFUSED + pdu.INVALID_DESTINATION],
    unreachable=_STATUSES[_REFUSED + pdu.INVALID_DESTINATION],
    no_error=_NO_ERROR,
    usual=lambda ending, _: _ENDS[ending],
    seen_channels=frozenset(),
    absent=(_BASE + _UNDELIVERED, _ABSENT.id),
    reports_max=1,
)


class Smsc(BesideHttp):
    channels: tuple[Channel, ...] = ("sms",)
    catalogue = CATALOGUE
    media_type = ""

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        raise Unreadable("Messages come over SMPP only.")

    def refusal(self, order: Order, to: str) -> Status | None:
        return None if _number(to) else CATALOGUE.unreachable

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        (one,) = taken
        return Reply(pdu.OK if one.accepted else one.status.id - _REFUSED, b"")

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _receipts(entry, entry.status, entry.error, entry.done_ms)

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _receipts(entry, CATALOGUE.delivered, _NO_ERROR, entry.revived_ms)

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return _receipts(entry, CATALOGUE.enroute, _NO_ERROR, now_ms)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        written = texts.encode(text, ("gsm7", "ucs2"), "udh", now_ms)
        assert written is not None  # nobody writes back that much
        coding = written.data_coding
        return b"".join(
            _deliver(entry, part.esm_class, coding, part.short_message, {})
            for part in written.parts
        )

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        return b"".join(reports)


def sending(message: pdu.Short, account: str, whole: Whole) -> Sending:
    """The whole message whose last part has come."""
    order = Order(
        channel="sms",
        sender=message.source,
        parts=whole.parts,
        category="",
        validity_ms=_validity_ms(message.validity_period),
        hooks=Hooks(f"{SCHEME}:{account}", "", tuple(whole.told)),
        intermediate=whole.on_the_way,
        destinations=[Destination("", message.destination.removeprefix("+"))],
        answered=whole.answered,
    )
    return Sending(bulk_id="", orders=[order], counted=False)


def _validity_ms(text: str) -> int:
    """Of a relative time; an absolute one, and none, count as the SMSC's own."""
    found = _relative(text)
    if found is None:
        return VALIDITY_MS
    days, hours, minutes, seconds = map(int, found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000


def _receipts(entry: Entry, status: Status, error: Error, at_ms: int) -> bytes:
    """A receipt a part; nothing for a message that wants none."""
    state = status.id - _BASE
    code = error.id - _BASE if error.id else 0
    kind = INTERMEDIATE if state == _WAITING else FINAL
    there = int(state == _DELIVERED)
    pdus = []
    for id_ in entry.hooks.echo:
        text = (
            f"id:{id_} sub:001 dlvrd:{there:03} submit date:{_time(entry.accepted_ms)} "
            f"done date:{_time(at_ms)} stat:{status.name} err:{code:03} text:"
        )
        tlvs = {
            pdu.RECEIPTED_MESSAGE_ID: id_.encode() + b"\0",
            pdu.MESSAGE_STATE: bytes([state]),
        }
        pdus.append(_deliver(entry, kind, 0, text.encode(), tlvs))
    return b"".join(pdus)


def _deliver(
    entry: Entry, esm_class: int, coding: int, octets: bytes, tlvs: Mapping[int, bytes]
) -> bytes:
    message = pdu.Short(
        source_ton=1,
        source_npi=1,
        source=entry.to,
        destination=entry.sender,
        esm_class=esm_class,
        data_coding=coding,
        short_message=octets,
        tlvs=tlvs,
    )
    return pdu.encode(pdu.DELIVER_SM, 0, message)


def _time(at_ms: int) -> str:
    return time.strftime("%y%m%d%H%M", time.gmtime(at_ms / 1000))
