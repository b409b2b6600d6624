"""UniSender Go (UniOne elsewhere): many e-mails a request, its events signed with the API key.

A request has one subject, one body and one sender. What differs from mail to mail goes into
substitutions; a batch of several senders, or with an address twice, is refused here, so that it is
split. Answers name addresses, events repeat our reference. The provider has no look-up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from providers import reasons
from providers.contract import (
    AccountFault,
    BadRequest,
    Channel,
    Outcome,
    Submission,
    Submitted,
    Unknown,
    WithoutLookUps,
)
from providers.http import json_text
from providers.http.adapter import HttpConfig, ProviderRequest, Receipts, Reply
from providers.http.replies import ErrorDetail, raise_unless_ok
from providers.mail import mailbox, mime
from providers.mail.events.reading import CALLBACK_BYTES_MAX
from providers.reasons import Reason
from providers.unisender_go.events import read_events

BATCH_MAX = 500
API_PATH = "/ru/transactional/api/v1"  # where base_url names the host alone
REF_KEY = "kaskad"
ACCOUNT_CODES = frozenset({114})  # the account lives on the other host

# Why an address of a request was left out.
FAILED: dict[str, Reason] = {
    "permanent_unavailable": reasons.NOBODY,
    "invalid": reasons.NOBODY,
    "unsubscribed": reasons.LEFT,
    "complained": reasons.LEFT,
    "blocked": reasons.PERSON,
    "temporary_unavailable": reasons.LATER,
    "duplicate": reasons.LATER,
}


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    email: str
    metadata: dict[str, str]
    substitutions: dict[str, str] = {}


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    plaintext: str | None = None
    html: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    recipients: list[Recipient]
    from_email: str
    subject: str
    body: Body
    idempotence_key: str
    track_links: int
    track_read: int
    template_engine: str
    from_name: str | None = None
    reply_to: str | None = None
    headers: dict[str, str] = {}


class Send(msgspec.Struct, frozen=True):
    message: Message


class Answer(msgspec.Struct, frozen=True):
    """A good answer, and what an error says."""

    status: str = ""
    code: int | str | None = None
    message: str | None = None
    emails: list[str] | None = None
    failed_emails: object = None  # why, by address; an empty one may be written as a list


_ANSWER = msgspec.json.Decoder(Answer)


class UniSenderGo(WithoutLookUps):
    kind = "unisender-go"
    channel: Channel = "email"
    batch_max = BATCH_MAX
    callback_bytes_max = CALLBACK_BYTES_MAX

    def __init__(self, config: HttpConfig) -> None:
        """Raises ValueError with a sentence when the API key cannot be a header's value."""
        self._headers = (
            ("X-API-KEY", config.checked_key()),
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
        )
        api = "" if "/api/" in config.base_url else API_PATH
        self._path = f"{api}/email/send.json"

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        if not 1 <= len(batch) <= BATCH_MAX:
            raise ValueError(f"A batch has 1 to {BATCH_MAX} submissions, not {len(batch)}.")
        body = msgspec.json.encode(Send(_message(batch)))
        return ProviderRequest("POST", self._path, self._headers, body)

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        answer = _answer(reply.body)
        if answer is not None and answer.code in ACCOUNT_CODES:
            detail = mailbox.blanked(answer.message or "")
            raise AccountFault(f"unisender_{answer.code}", f"{detail} Check base_url.")
        failed = {} if answer is None else _failed(answer.failed_emails)
        if not failed or reply.status != 400:
            raise_unless_ok(reply, _explain)
        if answer is None:
            raise Unknown("answer_unreadable", "The answer cannot be read.")
        taken = {_spelled(address) for address in answer.emails or ()}
        found = [_outcome(sent, taken, failed) for sent in batch]
        outcomes = [outcome for outcome in found if outcome is not None]
        if not outcomes:
            raise Unknown("answer_unreadable", "The answer mentions none of the messages sent.")
        return outcomes

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        return read_events(body)


def _message(batch: Sequence[Submission]) -> Message:
    """Raises BadRequest for a batch that cannot be one request, so that it is split."""
    first = batch[0]
    alike = {(sent.from_, sent.reply_to, sent.unsubscribe_url is None) for sent in batch}
    if len(alike) > 1:
        raise BadRequest("several_senders", "A request has one sender.")
    if len({_spelled(sent.to) for sent in batch}) < len(batch):
        raise BadRequest("address_twice", "A request may name an address once.")
    try:
        sender = mailbox.read(first.from_ or first.sender)
        answers = mailbox.read(first.reply_to).address if first.reply_to else None
        unsubscribe = mime.unsubscribe(first.unsubscribe_url)
    except ValueError as error:
        raise BadRequest("unsendable", mailbox.blanked(str(error))) from error
    recipients = [Recipient(sent.to, {REF_KEY: sent.ref}, {}) for sent in batch]
    said: dict[str, list[str | None]] = {
        "subject": [sent.subject or "" for sent in batch],
        "plaintext": [sent.text or None for sent in batch],
        "html": [sent.html for sent in batch],
        "unsubscribe": [sent.unsubscribe_url for sent in batch],
    }
    shared = {name: _shared(name, values, recipients) for name, values in said.items()}
    return Message(
        recipients=recipients,
        from_email=sender.address,
        from_name=sender.name or None,
        reply_to=answers,
        subject=shared["subject"] or "",
        body=Body(shared["plaintext"], shared["html"]),
        headers={
            name: value.replace(first.unsubscribe_url or "", shared["unsubscribe"] or "")
            for name, value in unsubscribe
        },
        idempotence_key=_key(batch),
        track_links=0,
        track_read=1,
        template_engine="simple",
    )


def _shared(name: str, values: Sequence[str | None], recipients: Sequence[Recipient]) -> str | None:
    """What all mails say, or the name of a substitution that each fills with its own."""
    first = values[0]
    if "{{" not in (first or "") and all(value == first for value in values):
        return first
    for recipient, value in zip(recipients, values, strict=True):
        recipient.substitutions[f"{REF_KEY}_{name}"] = value or ""
    return f"{{{{{REF_KEY}_{name}}}}}"


def _key(batch: Sequence[Submission]) -> str:
    """The same for the same messages, so that a request which arrived is not taken twice."""
    return hashlib.sha256(" ".join(sent.ref for sent in batch).encode()).hexdigest()[:32]


def _outcome(sent: Submission, taken: set[str], failed: dict[str, str]) -> Outcome | None:
    """None: the answer does not say."""
    address = _spelled(sent.to)
    if (why := failed.get(address)) is not None:
        return FAILED.get(why, reasons.ACCOUNT).refused(sent.ref, why[:64], why[:64])
    return Submitted(sent.ref) if address in taken else None


def _failed(told: object) -> dict[str, str]:
    """Why an address was left out, by address."""
    named = told.items() if isinstance(told, dict) else ()
    return {_spelled(each): json_text.text_of(why) or "failed" for each, why in named}


def _spelled(address: str) -> str:
    return address.strip().lower()


def _answer(body: bytes) -> Answer | None:
    try:
        return json_text.decode(_ANSWER, body)
    except (ValueError, RecursionError):
        return None


def _explain(body: bytes) -> ErrorDetail:
    answer = _answer(body)
    if answer is None:
        return ErrorDetail()
    code = "" if answer.code is None else f"unisender_{answer.code}"
    return ErrorDetail(code, mailbox.blanked(answer.message or ""), "account")
