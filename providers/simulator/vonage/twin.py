"""Vonage's Messages API as a twin, for SMS and Viber: one message a request, one signed event."""

# ruff: noqa: ARG001, ARG002 - the arguments are the port's

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks, charge_of
from providers.simulator.callbacks_only import CallbacksOnly, moment
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

SEND_PATH: Final = "/v1/messages"
TTL_S_MAX: Final = 604_800
_CHANNELS: Final[dict[str, Channel]] = {"sms": "sms", "viber_service": "viber"}
_BASE: Final = 70_000  # of ids that are nobody else's; behind it Vonage's own codes
_STATUSES: Final = {
    each.id: each
    for each in (
        Status(State.ACCEPTED, _BASE, "submitted"),
        Status(State.DELIVERED, _BASE + 1, "delivered"),
        Status(State.UNDELIVERED, _BASE + 2, "rejected"),
        Status(State.EXPIRED, _BASE + 3, "rejected"),
        Status(State.REJECTED, _BASE + 1170, "invalid number"),
        Status(State.REJECTED, _BASE + 1120, "illegal sender"),
        Status(State.REJECTED, _BASE + 1250, "unroutable"),
    )
}
_NO_ERROR: Final = Error(0, "none", False)
_ERRORS: Final = {
    each.id: each
    for each in (
        _NO_ERROR,
        Error(_BASE + 1180, "absent subscriber", False),
        Error(_BASE + 1300, "not part of the provider's network", True),
        Error(_BASE + 1360, "TTL was reached", True),
    )
}
_ENDS: Final[dict[Ending, tuple[int, int]]] = {
    "delivered": (_BASE + 1, 0),
    "undelivered": (_BASE + 2, _BASE + 1180),
    "expired": (_BASE + 3, _BASE + 1360),
    "silent": (_BASE + 3, _BASE + 1360),
    "rejected": (_BASE + 1120, 0),
}


def _signed(url: str, body: bytes, key: str) -> dict[str, str]:
    claims = {"iss": "Vonage", "payload_hash": hashlib.sha256(body).hexdigest()}
    return {"authorization": f"Bearer {jwt.encode(claims, key, algorithm='HS256')}"}


CATALOGUE: Final = Catalogue(
    provider="vonage",
    statuses=_STATUSES,
    errors=_ERRORS,
    accepted=_STATUSES[_BASE],
    enroute=_STATUSES[_BASE],
    delivered=_STATUSES[_BASE + 1],
    duplicate=_STATUSES[_BASE],  # a reference may be given twice
    no_route=_STATUSES[_BASE + 1250],
    unreachable=_STATUSES[_BASE + 1170],
    no_error=_NO_ERROR,
    usual=lambda ending, _: _ENDS[ending],
    seen_channels=frozenset({"viber"}),
    absent=(_BASE + 2, _BASE + 1300),
    reports_max=1,
    headers=_signed,
)


class _Viber(msgspec.Struct, frozen=True):
    category: str = ""
    ttl: int = TTL_S_MAX


class _Image(msgspec.Struct, frozen=True):
    url: str
    caption: str = ""


class _Request(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    channel: str
    message_type: str
    to: str
    from_: str
    text: str = ""
    image: _Image | None = None
    ttl: int = TTL_S_MAX
    viber_service: _Viber = _Viber()
    client_ref: str = ""
    webhook_url: str = ""


_REQUEST: Final = msgspec.json.Decoder(_Request)


class Vonage(CallbacksOnly):
    channels: tuple[Channel, ...] = ("viber", "sms")
    catalogue = CATALOGUE
    media_type = "application/json"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        """Any application's token is taken: whose signature it is nobody checks here."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return False
        return scheme == b"Bearer" and {"application_id", "iat", "exp", "jti"} <= set(claims)

    def sends_at(self, path: str) -> Channel | None:
        """One path for both channels: which it is the message says."""
        return "sms" if path == SEND_PATH else None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        request = decoded(_REQUEST, body, "Your request body could not be read:")
        named = _CHANNELS.get(request.channel)
        if named is None or not (request.text or request.image) or not request.from_:
            raise Unreadable("The channel, the sender or the content is missing.")
        viber = named == "viber"
        order = Order(
            channel=named,
            sender=request.from_,
            parts=1 if viber else text_parts(request.text),
            category=_category(request.viber_service.category) if viber else "",
            validity_ms=(request.viber_service.ttl if viber else request.ttl) * 1_000,
            hooks=Hooks(request.webhook_url, request.webhook_url),
            intermediate=True,
            destinations=[Destination(request.client_ref, request.to)],
            link=link_in(request.text),
        )
        return Sending(bulk_id="", orders=[order], counted=True)

    def refusal(self, order: Order, to: str) -> Status | None:
        digits = to.isascii() and to.isdecimal() and 7 <= len(to) <= 15
        return None if digits else CATALOGUE.unreachable

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        (one,) = taken
        if one.in_hand:
            return json_reply(202, {"message_uuid": _uuid(one.message_id)})
        return _problem(422, one.status.id - _BASE, one.status.name)

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        return _problem(status, {400: 1020, 429: 1000}.get(status, 0), sentence).body

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, entry.status.name, entry.error, entry.done_ms)

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return _event(entry, "delivered", _NO_ERROR, entry.revived_ms)

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return _event(entry, "submitted", _NO_ERROR, now_ms)

    def seen_report(self, entry: Entry) -> bytes:
        return _event(entry, "read", _NO_ERROR, entry.seen_ms)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        said = {"message_uuid": f"reply-{entry.message_id}", "from": entry.to, "to": entry.sender}
        told = {"message_type": "text", "text": text, "timestamp": moment(now_ms)}
        return msgspec.json.encode(said | told)


def _uuid(message_id: str) -> str:
    """What a message is called in the answer and in each of its events."""
    return f"uuid-{message_id}"


def _category(name: str) -> str:
    return "marketing" if name == "promotion" else "transactional"


def _problem(status: int, code: int, sentence: str) -> Reply:
    kind = f"https://developer.vonage.com/api-errors/messages#{code}" if code else "about:blank"
    return json_reply(status, {"type": kind, "title": sentence, "detail": sentence})


def _event(entry: Entry, status: str, error: Error, at_ms: int) -> bytes:
    told: dict[str, Any] = {
        "message_uuid": _uuid(entry.message_id),
        "client_ref": entry.message_id,
        "to": entry.to,
        "from": entry.sender,
        "timestamp": moment(at_ms),
        "status": status,
    }
    if entry.channel == "sms":
        told["sms"] = {"count_total": str(entry.parts)}
    if error.id:
        code = error.id - _BASE
        told["error"] = {"type": f"https://developer.vonage.com/x#{code}", "title": code}
    if entry.charged_ms and status in ("submitted", "delivered"):
        price = f"{charge_of(entry):f}"
        told["usage"] = {"currency": entry.tag.currency, "price": price}
    return msgspec.json.encode(told)
