"""SMSC.ru: one message a request as JSON, one report a callback as a form.

It takes our reference as the message's id and repeats it in its reports. Errors come with HTTP 200.
Amounts are in roubles, for all parts of a message together. It is asked for the status of a message
only together with its number, so that there is no look-up by reference here.

Nothing of this format could be held against another implementation: none can be installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TypedDict
from urllib.parse import parse_qsl

import msgspec

from providers.contract import (
    AccountFault,
    Channel,
    Fault,
    Outcome,
    PersonReply,
    Receipt,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Unknown,
    WithoutLookUps,
)
from providers.http import json_text
from providers.http.adapter import HttpConfig, ProviderRequest, Receipts, Reply, only
from providers.http.replies import ErrorDetail, moment_ms, parts_of, raise_unless_ok
from providers.smsc_ru import reasons

SEND_PATH = "/rest/send/"
CALLBACK_BYTES_MAX = 16 * 1024
FIELDS_MAX = 64
VALID_MIN_MAX = 24 * 60  # minutes; a longer life is refused
TOO_MANY_MS = 10_000  # it counts requests a minute
CURRENCY = "RUB"
MOSCOW = "+0300"  # the zone of dates that are written out


class Body(msgspec.Struct, frozen=True):
    apikey: str
    phones: str
    mes: str
    sender: str
    id: str
    valid: str
    charset: str = "utf-8"
    fmt: int = 3


class _Details(TypedDict):
    at_ms: int | None
    parts: int | None
    cost: Decimal | None
    currency: str | None
    to: str | None


class Answer(msgspec.Struct, frozen=True):
    id: str | int | None = None
    cnt: object = None
    error: object = None
    error_code: int | None = None


_ANSWER = msgspec.json.Decoder(Answer)
_HEADERS = (("Content-Type", "application/json"),)


class SmscRu(WithoutLookUps):
    kind = "smsc-ru"
    channel: Channel = "sms"
    batch_max = 1
    callback_bytes_max = CALLBACK_BYTES_MAX

    def __init__(self, config: HttpConfig) -> None:
        """Raises ValueError with a sentence when the API key cannot be one."""
        self._api_key = config.checked_key()

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        sent = only(batch)
        minutes = min(max(sent.validity_ms // 60_000, 1), VALID_MIN_MAX)
        body = Body(
            apikey=self._api_key,
            phones=sent.to.removeprefix("+"),
            mes=sent.text,
            sender=sent.sender,
            id=sent.ref,
            valid=f"{minutes // 60:02}:{minutes % 60:02}",
        )
        return ProviderRequest("POST", SEND_PATH, _HEADERS, msgspec.json.encode(body))

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        raise_unless_ok(reply, _explain)
        (sent,) = batch
        try:
            answer = json_text.decode(_ANSWER, reply.body)
        except (ValueError, RecursionError) as error:
            raise Unknown("answer_unreadable", f"The answer cannot be read: {error}") from error
        code = answer.error_code
        if code is None and answer.id is not None:
            own_id, parts = str(answer.id), parts_of(answer.cnt)
            return [Submitted(sent.ref, own_id if own_id != sent.ref else None, parts)]
        if code is None:
            raise Unknown("answer_unreadable", "The answer says neither yes nor no.")
        if code in reasons.ACCOUNT:
            raise AccountFault(f"error_{code}", reasons.ACCOUNT[code])
        if code == reasons.TOO_MANY:
            raise Throttled(
                f"error_{code}", "Too many requests a minute.", retry_after_ms=TOO_MANY_MS
            )
        why = reasons.refused(code)
        fault = Fault(str(code), why.name, True)
        return [Refused(sent.ref, fault, about=why.about, unreachable=why.unreachable)]

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        try:
            form = dict(parse_qsl(body.decode(), max_num_fields=FIELDS_MAX))
        except ValueError as error:
            raise ValueError(f"The body is no form: {error}") from None
        if "mes" in form and "status" not in form:
            return _reply(form)
        id_, status = form.get("id"), _integer(form.get("status"))
        if not id_ or status is None:
            raise ValueError("The body is no report: it has no id or no status.")
        said = reasons.STATUSES.get(status)
        if said is None:
            return Receipts([], [f"Report {id_[:64]} has the unknown status {status}."])
        if said in ("sent", "delivered"):
            return Receipts([Receipt(said, id_, **_details(form))])
        why = reasons.failed(status, _integer(form.get("err")) or 0)
        fault = Fault((form.get("err") or str(status))[:16], why.name, True)
        receipt = Receipt(
            said, id_, fault=fault, about=why.about, unreachable=why.unreachable, **_details(form)
        )
        return Receipts([receipt])


def _explain(body: bytes) -> ErrorDetail:
    try:
        answer = json_text.decode(_ANSWER, body)
    except (ValueError, RecursionError):
        return ErrorDetail()
    code = "" if answer.error_code is None else f"error_{answer.error_code}"
    return ErrorDetail(code, json_text.text_of(answer.error))


def _reply(form: dict[str, str]) -> Receipts:
    """What somebody wrote to a number of ours. Whether its id is its own, or that of the message it
    answers, which others answer too, the documents do not say: it is told apart by all of it."""
    id_, phone = form.get("sms_id") or form.get("id"), form.get("phone", "").removeprefix("+")
    if not id_ or not phone.isdecimal():
        raise ValueError("The body is no report: it does not say whose message it is.")
    said = (id_, phone, form["mes"], form.get("ts") or form.get("time"))
    digest = hashlib.sha256(repr(said).encode()).hexdigest()[:32]
    told = PersonReply(digest, phone, form.get("to", ""), form["mes"], _at_ms(form))
    return Receipts([], replies=[told])


def _details(form: dict[str, str]) -> _Details:
    """When it was, and what it cost."""
    cost = _amount(form.get("cost"))
    return {
        "at_ms": _at_ms(form),
        "parts": parts_of(form.get("cnt")),
        "cost": cost,
        "currency": None if cost is None else CURRENCY,
        "to": form.get("phone", "").removeprefix("+") or None,
    }


def _at_ms(form: dict[str, str]) -> int | None:
    stamp = _integer(form.get("ts"))
    if stamp is not None:
        return moment_ms(stamp * 1000)
    try:
        told = datetime.strptime(f"{form.get('time')} {MOSCOW}", "%d.%m.%Y %H:%M:%S %z")
    except ValueError:
        return None
    return moment_ms(told.timestamp() * 1000)


def _integer(text: str | None) -> int | None:
    digits = (text or "").removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 12):
        return None
    return int(text or "")


def _amount(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text or "")
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
