"""Twilio's Programmable SMS: forms both ways, one message a request, one event a callback.

Twilio takes no reference of ours. It names a message by an id of its own, which its answer tells
and its events repeat; an event that outruns the answer is matched later, and one of a message whose
answer was lost never is. Its events bear no time and no price.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Literal
from urllib.parse import parse_qsl, urlencode

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
from providers.http.replies import ErrorDetail, parts_of, raise_unless_ok
from providers.reasons import PERSON
from providers.twilio import reasons
from providers.twilio.reasons import reason_of

SEND_PATH = "/Messages.json"
CALLBACK_BYTES_MAX = 16 * 1024
FIELDS_MAX = 128
VALIDITY_S_MIN, VALIDITY_S_MAX = 5, 36_000
SERVICE = "MG"  # a messaging service stands in the place of a number

RECEIVED = ("received", "receiving")
# A reply has a status, which Twilio does not document; a report has none of these.
OF_REPLIES = frozenset(("Body", "NumMedia"))
STATUSES: dict[str, ReceiptStatus] = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "partially_delivered": "sent",
    "delivered": "delivered",
    "read": "delivered",  # of which an SMS knows nothing
    "undelivered": "undelivered",
    "failed": "rejected",
    "canceled": "rejected",
}


# What Twilio's own words for opting out made of a text; of HELP it makes nothing.
WISHES: dict[str, Literal["block", "unblock"]] = {"STOP": "block", "START": "unblock"}


class Answer(msgspec.Struct, frozen=True):
    """A message, or an error: `code` and `message`."""

    sid: str | None = None
    num_segments: object = None
    code: int | None = None
    message: object = None


_ANSWER = msgspec.json.Decoder(Answer, strict=False)  # a code may be written as a text


class TwilioSms(WithoutLookUps):
    kind = "twilio-sms"
    channel: Channel = "sms"
    batch_max = 1
    callback_bytes_max = CALLBACK_BYTES_MAX

    def __init__(self, config: HttpConfig) -> None:
        """Raises ValueError with a sentence when the token cannot be a header's value."""
        account = config.base_url.rpartition("/")[2]
        credentials = base64.b64encode(f"{account}:{config.checked_key()}".encode()).decode()
        self._headers = (
            ("Authorization", f"Basic {credentials}"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        )
        self._callback_url = config.callback_url

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        sent = only(batch)
        sender = "MessagingServiceSid" if sent.sender.startswith(SERVICE) else "From"
        form = {
            "To": sent.to,
            sender: sent.sender,
            "Body": sent.text,
            "StatusCallback": self._callback_url,
            "ValidityPeriod": min(max(sent.validity_ms // 1000, VALIDITY_S_MIN), VALIDITY_S_MAX),
        }
        return ProviderRequest("POST", SEND_PATH, self._headers, urlencode(form).encode())

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        (sent,) = batch
        answer = _answer(reply.body)
        if answer.code in reasons.SUSPENDED:
            raise AccountFault(
                str(answer.code), text_of(answer.message) or "The account is suspended."
            )
        if reply.status == 400 and answer.code is not None:
            code = str(answer.code)
            return [reason_of(answer.code).refused(sent.ref, code, code)]
        raise_unless_ok(reply, _explain)
        if answer.sid is None:
            raise Unknown("answer_unreadable", "The answer names no message.")
        return [Submitted(sent.ref, answer.sid, parts_of(answer.num_segments))]

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        try:
            form = dict(parse_qsl(body.decode(), max_num_fields=FIELDS_MAX))
        except ValueError as error:
            raise ValueError(f"The body is no form: {error}") from None
        sid = form.get("MessageSid") or form.get("SmsSid")
        status = form.get("MessageStatus") or form.get("SmsStatus")
        if sid and (status in RECEIVED or (not status and OF_REPLIES & form.keys())):
            return _reply(sid, form)
        if not sid or not status:
            raise ValueError("The body is no report: it has no MessageSid or no status.")
        said = STATUSES.get(status)
        if said is None:
            return Receipts([], [f"Report {sid[:64]} has the unknown status {status[:64]}."])
        to = form.get("To", "").removeprefix("+") or None
        if said in ("sent", "delivered"):
            return Receipts([Receipt(said, provider_id=sid, to=to)])
        code = form.get("ErrorCode", "")
        number = int(code) if code.isascii() and code.isdecimal() and len(code) < 9 else 0
        why = reason_of(number) if number else PERSON
        receipt = Receipt(
            "expired" if number == reasons.EXPIRED else said,
            provider_id=sid,
            fault=Fault(code[:16] or status, code[:16] or status, True),
            to=to,
            about=why.about,
            unreachable=why.unreachable,
        )
        return Receipts([receipt])


def _answer(body: bytes) -> Answer:
    try:
        return json_text.decode(_ANSWER, body)
    except (ValueError, RecursionError):
        return Answer()


def _explain(body: bytes) -> ErrorDetail:
    answer = _answer(body)
    return ErrorDetail("" if answer.code is None else str(answer.code), text_of(answer.message))


def _reply(sid: str, form: dict[str, str]) -> Receipts:
    """What somebody wrote to a number of ours, and the wish that Twilio took it for."""
    sender = form.get("From", "").removeprefix("+")
    if not sender.isdecimal():
        raise ValueError("The body is no report: it does not say whose message it is.")
    to = form.get("To", "").removeprefix("+")
    replies = [PersonReply(sid, sender, to, form.get("Body", ""))]
    wish = WISHES.get(form.get("OptOutType", "").upper())
    if wish is not None:
        replies.append(PersonReply(f"{sid}-{wish}", sender, to, kind=wish))
    return Receipts([], replies=replies)
