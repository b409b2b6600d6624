"""Vonage's Messages API, for SMS and for Viber: one message a request, one event a callback.

It repeats our reference as `client_ref`; its own id, `message_uuid`, is what an invoice names. A
message says where its events go. Its own failover is never asked for: the cascade is ours. What
carries the token is `providers.vonage.provider`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from providers.contract import (
    AccountFault,
    Channel,
    Fault,
    Outcome,
    PersonReply,
    Receipt,
    ReceiptStatus,
    Submission,
    Submitted,
    Unknown,
    WithoutLookUps,
)
from providers.http import json_text
from providers.http.adapter import HttpConfig, ProviderRequest, Receipts, Reply, only
from providers.http.json_text import text_of
from providers.http.replies import (
    ErrorDetail,
    moment_ms,
    network_code,
    parts_of,
    raise_unless_ok,
)
from providers.reasons import PERSON
from providers.vonage import reasons
from providers.vonage.reasons import reason_of

SEND_PATH = "/v1/messages"
CALLBACK_BYTES_MAX = 32 * 1024
VIBER_TTL_S = (30, 259_200)
SMS_TTL_S = (20, 604_800)
_HEADERS = (("Content-Type", "application/json"), ("Accept", "application/json"))


STATUSES: Mapping[str, ReceiptStatus] = {
    "submitted": "sent",
    "delivered": "delivered",
    "read": "seen",
    "rejected": "rejected",
    "undeliverable": "undelivered",
}


class Answer(msgspec.Struct, frozen=True):
    """A message, or a problem: the code stands behind the # of its `type`."""

    message_uuid: str | None = None
    type: object = None
    title: object = None
    detail: object = None

    @property
    def name(self) -> str:
        return str(self.title) if isinstance(self.title, str | int) else ""

    @property
    def code(self) -> int:
        return _code(text_of(self.type), self.name)


class Problem(msgspec.Struct, frozen=True):
    type: str = ""
    title: str | int = ""
    detail: str = ""


class Usage(msgspec.Struct, frozen=True):
    price: Decimal | None = None
    currency: str | None = None


class Destination(msgspec.Struct, frozen=True):
    network_code: str | int | None = None


class Count(msgspec.Struct, frozen=True):
    count_total: str | int | None = None


class Event(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    message_uuid: str | None = None
    client_ref: str | None = None
    status: str | None = None
    timestamp: str | None = None
    to: str | None = None
    destination: Destination | None = None
    from_: str | None = None
    message_type: str | None = None  # of what somebody sent, a picture perhaps
    text: str | None = None
    error: Problem | None = None
    usage: Usage | None = None
    sms: Count | None = None


_ANSWER = msgspec.json.Decoder(Answer)
_EVENT = msgspec.json.Decoder(Event, strict=False)
_EVENT_TEXTS = tuple(
    each.encode_name for each in msgspec.structs.fields(Event) if each.type == str | None
)


class Vonage(WithoutLookUps, ABC):
    """The adapter of both channels."""

    kind: str
    channel: Channel
    batch_max = 1
    callback_bytes_max = CALLBACK_BYTES_MAX
    statuses: ClassVar[Mapping[str, ReceiptStatus]] = STATUSES

    def __init__(self, config: HttpConfig) -> None:
        """Raises ValueError with a sentence when the signature secret cannot be one."""
        config.checked_key()  # no request has it: it is what events are held to
        self._callback_url = config.callback_url

    @abstractmethod
    def content(self, sent: Submission) -> dict[str, Any]:
        """What only this channel has."""

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        sent = only(batch)
        body = {
            "to": sent.to.removeprefix("+"),
            "from": sent.sender,
            "client_ref": sent.ref,
            "webhook_url": self._callback_url,
            "webhook_version": "v1",
            **self.content(sent),
        }
        return ProviderRequest("POST", SEND_PATH, _HEADERS, msgspec.json.encode(body))

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        (sent,) = batch
        answer = _answer(reply.body)
        if 400 <= reply.status < 500 and reply.status not in (401, 402, 429) and answer.code:
            return [_refused(sent, answer)]
        raise_unless_ok(reply, _explain)
        if not answer.message_uuid:
            raise Unknown("answer_unreadable", "The answer names no message.")
        return [Submitted(sent.ref, answer.message_uuid)]

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        event, faults = _event(body)
        if event.status is None and (event.text is not None or event.message_type is not None):
            return _reply(event, faults)
        if event.status is None or not (event.client_ref or event.message_uuid):
            raise ValueError("The body is no report: it has no status or names no message.")
        said = self.statuses.get(event.status)
        if said is None:
            return Receipts([], [f"The report has the unknown status {event.status[:64]}."])
        receipt = _receipt(event, said)
        return Receipts([receipt], faults, _wishes(event, receipt))


class VonageSms(Vonage):
    kind = "vonage-sms"
    channel: Channel = "sms"
    statuses: ClassVar[Mapping[str, ReceiptStatus]] = {**STATUSES, "read": "delivered"}

    def content(self, sent: Submission) -> dict[str, Any]:
        return {
            "channel": "sms",
            "message_type": "text",
            "text": sent.text,
            "ttl": _ttl(sent, SMS_TTL_S),
        }


class VonageViber(Vonage):
    kind = "vonage-viber"
    channel: Channel = "viber"

    def content(self, sent: Submission) -> dict[str, Any]:
        service: dict[str, Any] = {
            "category": "promotion" if sent.category == "marketing" else "transaction",
            "ttl": _ttl(sent, VIBER_TTL_S),
        }
        if sent.button is not None:
            service["action"] = {"url": sent.button.url, "text": sent.button.caption}
        shown: dict[str, Any] = {"message_type": "text", "text": sent.text}
        if sent.image_url is not None:
            image = {"url": sent.image_url} | ({"caption": sent.text} if sent.text else {})
            shown = {"message_type": "image", "image": image}
        return {"channel": "viber_service", "viber_service": service, **shown}


def _ttl(sent: Submission, within: tuple[int, int]) -> int:
    return min(max(sent.validity_ms // 1000, within[0]), within[1])


def _refused(sent: Submission, answer: Answer) -> Outcome:
    if answer.code == reasons.ALREADY_SENT:
        return Submitted(sent.ref, again=True)
    code = str(answer.code)
    if answer.code in reasons.NO_WAY:
        raise AccountFault(code, text_of(answer.detail) or "Vonage refuses the account.")
    return reason_of(answer.code).refused(sent.ref, code, answer.name or code)


def _event(body: bytes) -> tuple[Event, list[str]]:
    """An event, and what is wrong with it: a delivery must not be lost over a price. Raises
    ValueError."""
    try:
        return json_text.decode(_EVENT, body), []
    except (ValueError, RecursionError) as error:
        try:
            event = json_text.in_part(_EVENT, body, _EVENT_TEXTS, texts=True)
        except (ValueError, RecursionError):
            event = Event()
        if event.status is event.text is event.message_type is None:
            raise ValueError(f"The body is not a JSON report: {error}") from error
        return event, [f"The report was read in part: {error}"]


def _receipt(event: Event, said: ReceiptStatus) -> Receipt:
    usage, price = event.usage, event.usage.price if event.usage is not None else None
    if price is not None and not price.is_finite():
        price = None
    receipt = Receipt(
        said,
        ref=event.client_ref or None,
        provider_id=event.message_uuid,
        at_ms=_at_ms(event.timestamp),
        parts=parts_of(event.sms.count_total) if event.sms is not None else None,
        cost=price,
        currency=usage.currency if usage is not None and price is not None else None,
        to=event.to,
        network=network_code(event.destination.network_code) if event.destination else None,
    )
    if said not in ("rejected", "undelivered"):
        return receipt
    problem = event.error or Problem()
    code = _code_of(problem)
    if code == reasons.ALREADY_SENT:
        return msgspec.structs.replace(receipt, status="sent")
    why = reason_of(code) if code else PERSON
    return msgspec.structs.replace(
        receipt,
        status="expired" if code == reasons.EXPIRED else said,
        fault=Fault(str(code or said), str(problem.title)[:64] or said, True),
        about=why.about,
        unreachable=why.unreachable,
    )


def _wishes(event: Event, receipt: Receipt) -> list[PersonReply]:
    """That its person told Vonage to be sent no more, as a failure says."""
    who, problem = (event.to or "").removeprefix("+"), event.error
    if receipt.fault is None or problem is None or not who.isdecimal():
        return []
    if not reason_of(_code_of(problem)).opted_out:
        return []
    return [PersonReply(f"{event.message_uuid}-left", who, at_ms=receipt.at_ms, kind="block")]


def _reply(event: Event, faults: list[str]) -> Receipts:
    """What somebody wrote to a sender of ours."""
    sender = (event.from_ or "").removeprefix("+")
    if not event.message_uuid or not sender.isdecimal():
        raise ValueError("The body is no report: it does not say whose message it is.")
    at_ms = _at_ms(event.timestamp)
    told = PersonReply(event.message_uuid, sender, event.to or "", event.text or "", at_ms)
    return Receipts([], faults, [told])


def _answer(body: bytes) -> Answer:
    try:
        return json_text.decode(_ANSWER, body)
    except (ValueError, RecursionError):
        return Answer()


def _explain(body: bytes) -> ErrorDetail:
    answer = _answer(body)
    return ErrorDetail(str(answer.code or ""), text_of(answer.detail) or answer.name)


def _code_of(problem: Problem) -> int:
    return _code(problem.type, problem.title)


def _code(kind: str, title: str | int) -> int:
    """The code of a problem: behind the # of its type, else its title; 0: it names none."""
    for text in (kind.rpartition("#")[2], str(title)):
        if text.isascii() and text.isdecimal() and len(text) < 6:
            return int(text)
    return 0


def _at_ms(text: str | None) -> int | None:
    """A moment with its zone: 2026-11-01T10:00:00Z, or 2026-11-01 10:00:00 +0000."""
    try:
        told = datetime.fromisoformat((text or "").replace(" +", "+"))
    except ValueError:
        return None
    return moment_ms(told.timestamp() * 1000) if told.tzinfo is not None else None
