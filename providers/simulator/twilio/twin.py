"""Twilio as a twin: a form a message, a signed form an event, ids of its own."""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final
from urllib.parse import parse_qsl, urlencode

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
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
)
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

BODY_MAX: Final = 1_600
VALIDITY_S_MAX: Final = 36_000
_path: Final = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-fA-F]{32})/Messages\.json").fullmatch
_number: Final = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
# Ids of ours, behind a base of their own; an error of an answer or event has Twilio's code in it.
_BASE: Final = 60_000
_STATUSES: Final = {
    each.id: each
    for each in (
        Status(State.ACCEPTED, _BASE, "queued"),
        Status(State.DELIVERED, _BASE + 1, "delivered"),
        Status(State.UNDELIVERED, _BASE + 2, "undelivered"),
        Status(State.EXPIRED, _BASE + 3, "failed"),
        Status(State.REJECTED, _BASE + 21_211, "invalid To"),
        Status(State.REJECTED, _BASE + 21_408, "region not enabled"),
    )
}
_NO_ERROR: Final = Error(0, "none", False)
_OFF: Final = Error(_BASE + 30_003, "unreachable handset", False)
_LATE: Final = Error(_BASE + 30_036, "validity period expired", True)
_ENDS: Final[dict[Ending, tuple[int, int]]] = {
    "delivered": (_BASE + 1, 0),
    "undelivered": (_BASE + 2, _OFF.id),
    "expired": (_BASE + 3, _LATE.id),
    "silent": (_BASE + 3, _LATE.id),
    "rejected": (_BASE + 21_408, 0),
}


def _signed(url: str, body: bytes, key: str) -> dict[str, str]:
    """Written apart from the gateway's own reading of it on purpose."""
    text = url
    for name, value in sorted(parse_qsl(body.decode(), keep_blank_values=True)):
        text += name + value
    digest = hmac.digest(key.encode(), text.encode(), "sha1")
    return {
        "content-type": "application/x-www-form-urlencoded",
        "x-twilio-signature": base64.b64encode(digest).decode(),
    }


CATALOGUE: Final = Catalogue(
    provider="twilio-sms",
    statuses=_STATUSES,
    errors={each.id: each for each in (_NO_ERROR, _OFF, _LATE)},
    accepted=_STATUSES[_BASE],
    enroute=_STATUSES[_BASE],
    delivered=_STATUSES[_BASE + 1],
    duplicate=_STATUSES[_BASE],  # it knows no message twice
    no_route=_STATUSES[_BASE + 21_408],
    unreachable=_STATUSES[_BASE + 21_211],
    no_error=_NO_ERROR,
    usual=lambda ending, _: _ENDS[ending],
    seen_channels=frozenset(),
    reports_max=1,
    headers=_signed,
)


class Twilio(CallbacksOnly):
    channels: tuple[Channel, ...] = ("sms",)
    catalogue = CATALOGUE
    media_type = "application/x-www-form-urlencoded"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        try:
            _, _, token = base64.b64decode(given, validate=True).partition(b":")
        except ValueError:
            return False
        return scheme == b"Basic" and hmac.compare_digest(token, api_key.encode())

    def sends_at(self, path: str) -> Channel | None:
        return "sms" if _path(path) else None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        sender = form.get("From") or form.get("MessagingServiceSid", "")
        text, validity = form.get("Body", ""), form.get("ValidityPeriod", str(VALIDITY_S_MAX))
        if not sender or not text or len(text) > BODY_MAX:
            raise Unreadable("The 'From' or 'Body' parameter is missing or too long.")
        if not validity.isdecimal() or not 1 <= int(validity) <= VALIDITY_S_MAX:
            raise Unreadable("The 'ValidityPeriod' parameter is not valid.")
        order = Order(
            channel=channel,
            sender=sender,
            parts=text_parts(text),
            category="",
            validity_ms=int(validity) * 1_000,
            hooks=Hooks(form.get("StatusCallback", ""), ""),
            intermediate=True,
            destinations=[Destination("", form.get("To", "").removeprefix("+"))],
            link=link_in(text),
        )
        return Sending(bulk_id="", orders=[order], counted=True)

    def refusal(self, order: Order, to: str) -> Status | None:
        return None if _number("+" + to) else CATALOGUE.unreachable

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        (one,) = taken
        if not one.accepted:
            return _refused(400, one.status.id - _BASE, one.status.name)
        told = {"sid": sid_of(one.message_id), "status": "queued", "to": "+" + one.to}
        return json_reply(201, told | {"num_segments": str(one.order.parts), "error_code": None})

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        code = {400: 21602, 401: 20003, 429: 20429}.get(status, 20500)
        return _refused(status, code, sentence).body

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, entry.status.name, entry.error)

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, "delivered", _NO_ERROR)

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return _event(entry, "sent", _NO_ERROR)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        sid = sid_of(f"reply {entry.message_id}")
        told = {"MessageSid": sid, "SmsStatus": "received", "From": "+" + entry.to}
        return urlencode(told | {"To": entry.sender, "Body": text}).encode()


def sid_of(message_id: str) -> str:
    """The id that Twilio gives a message."""
    return "SM" + blake2b(message_id.encode(), digest_size=16).hexdigest()


def _refused(status: int, code: int, sentence: str) -> Reply:
    return json_reply(status, {"code": code, "message": sentence, "status": status})


def _event(entry: Entry, status: str, error: Error) -> bytes:
    sid = sid_of(entry.message_id)
    told = {"MessageSid": sid, "SmsSid": sid, "MessageStatus": status, "To": "+" + entry.to}
    if error.id:
        told["ErrorCode"] = str(error.id - _BASE)
    return urlencode(told | {"From": entry.sender, "ApiVersion": "2010-04-01"}).encode()
