"""SMSC.ru as a twin: one message a request, errors with HTTP 200, one form a report.

Where its reports go stands in its account, which here is a knob.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks, charge_of
from providers.simulator.callbacks_only import CallbacksOnly
from providers.simulator.links import link_in
from providers.simulator.replies import Reply, json_reply
from providers.simulator.segments import text_parts
from providers.simulator.twin import (
    Destination,
    ErrorShape,
    Order,
    Sending,
    Taken,
    Unreadable,
    Violations,
    decoded,
)
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

SEND_PATH: Final = "/rest/send/"
TEXT_MAX: Final = 800
VALID_MS_MAX: Final = 24 * 3_600_000
MOSCOW: Final = timedelta(hours=3)
# Its own statuses, behind a base of ours so that a knob which names one means one of these.
_BASE: Final = 7_000
_STATUSES: Final = {
    _BASE + number: Status(state, _BASE + number, name)
    for number, state, name in (
        (0, State.ACCEPTED, "PASSED_TO_OPERATOR"),
        (1, State.DELIVERED, "DELIVERED"),
        (3, State.EXPIRED, "EXPIRED"),
        (20, State.UNDELIVERED, "NOT_DELIVERABLE"),
        (107, State.REJECTED, "BAD_NUMBER"),  # an error of the answer, with its code
        (106, State.REJECTED, "FORBIDDEN"),
        (108, State.REJECTED, "NO_ROUTE"),
    )
}
_ANSWERED: Final = _BASE + 100
_NO_ERROR: Final = Error(0, "NO_ERROR", False)
_ABSENT: Final = Error(_BASE + 6, "ABSENT", False)
_ENDS: Final[dict[Ending, tuple[int, int]]] = {
    "delivered": (_BASE + 1, 0),
    "undelivered": (_BASE + 20, _ABSENT.id),
    "expired": (_BASE + 3, 0),
    "silent": (_BASE + 3, 0),
    "rejected": (_BASE + 106, 0),
}
CATALOGUE: Final = Catalogue(
    provider="smsc-ru",
    statuses=_STATUSES,
    errors={0: _NO_ERROR, _ABSENT.id: _ABSENT},
    accepted=_STATUSES[_BASE],
    enroute=_STATUSES[_BASE],
    delivered=_STATUSES[_BASE + 1],
    duplicate=_STATUSES[_BASE],  # an id may be given twice
    no_route=_STATUSES[_BASE + 108],
    unreachable=_STATUSES[_BASE + 107],
    no_error=_NO_ERROR,
    usual=lambda ending, _: _ENDS[ending],
    seen_channels=frozenset(),
    reports_max=1,
)


class _Request(msgspec.Struct, frozen=True):
    apikey: str
    phones: str
    mes: str
    sender: str = ""
    id: str = ""
    valid: str = "24:00"
    fmt: int = 0


_REQUEST: Final = msgspec.json.Decoder(_Request)


class SmscRu(CallbacksOnly):
    channels: tuple[Channel, ...] = ("sms",)
    catalogue = CATALOGUE
    media_type = "application/json"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        """The key stands in the body: `aside` looks at it."""
        return True

    def sends_at(self, path: str) -> Channel | None:
        return "sms" if path == SEND_PATH else None

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:
        if path != SEND_PATH:
            return None
        try:
            given = _REQUEST.decode(body).apikey
        except (msgspec.MsgspecError, RecursionError):
            return None  # for `read_send` to refuse
        if hmac.compare_digest(given.encode(), api_key.encode()):
            return None
        return _refused(2, "authorise error")

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        request = decoded(_REQUEST, body, "parameters error:")
        if not request.mes or len(request.mes) > TEXT_MAX or request.fmt != 3:
            raise Unreadable("parameters error")
        hours, _, minutes = request.valid.partition(":")
        if not (hours.isdecimal() and minutes.isdecimal()):
            raise Unreadable("parameters error: valid")
        validity_ms = (int(hours) * 60 + int(minutes)) * 60_000
        if not 60_000 <= validity_ms <= VALID_MS_MAX:
            raise Unreadable("parameters error: valid")
        order = Order(
            channel=channel,
            sender=request.sender,
            parts=text_parts(request.mes),
            category="",
            validity_ms=validity_ms,
            hooks=Hooks("", ""),
            intermediate=False,
            destinations=[Destination(request.id, request.phones)],
            link=link_in(request.mes),
        )
        return Sending(bulk_id="", orders=[order], counted=True)

    def refusal(self, order: Order, to: str) -> Status | None:
        digits = to.isascii() and to.isdecimal() and 10 <= len(to) <= 15
        return None if digits else CATALOGUE.unreachable

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        (one,) = taken
        if one.in_hand:
            return json_reply(200, {"id": one.message_id, "cnt": one.order.parts})
        return _refused(one.status.id - _ANSWERED, one.status.name.lower(), one.message_id)

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        return _refused(9 if status == 429 else 1, sentence).body

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        error = 0 if entry.error is _NO_ERROR else entry.error.id - _BASE
        return _report(entry, entry.status.id - _BASE, error, entry.done_ms)

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _report(entry, 1, 0, entry.revived_ms)

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return _report(entry, 0, 0, now_ms)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        said = {"sms_id": f"reply-{entry.message_id}", "phone": entry.to, "to": entry.sender}
        return urlencode(said | {"mes": text, "time": _moscow(now_ms)}).encode()


def _refused(code: int, sentence: str, message_id: str = "") -> Reply:
    error: dict[str, object] = {"error": sentence, "error_code": code}
    return json_reply(200, error | ({"id": message_id} if message_id else {}))


def _report(entry: Entry, status: int, error: int, at_ms: int) -> bytes:
    told: dict[str, object] = {
        "id": entry.message_id,
        "phone": entry.to,
        "status": status,
        "time": _moscow(at_ms),
        "ts": at_ms // 1000,
        "err": error,
        "cnt": entry.parts,
        "sender": entry.sender,
    }
    if entry.charged_ms:
        told["cost"] = f"{charge_of(entry):f}"
    return urlencode(told).encode()


def _moscow(at_ms: int) -> str:
    return (datetime.fromtimestamp(at_ms / 1000, UTC) + MOSCOW).strftime("%d.%m.%Y %H:%M:%S")
