"""The adapter that Infobip's two channels share: requests, answers, look-ups.

It speaks to the v2 Viber and v3 SMS endpoints; shapes and tables are in `wire`, receipts in
`reports`, and what differs between the channels in the two small files beside it. An answer that
cannot be read is Unknown, because Infobip may have accepted what it answers.

Three traps of this provider are handled here. Status 2, "delivered to operator", sits in the group
DELIVERED and is not a delivery. Id 87 exists in two groups, charged in one and free in the other.
And a report or log row with REJECTED_DUPLICATE_MESSAGE_ID carries the id of the original, which is
alive: it never says "rejected".
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar
from urllib.parse import urlencode

import msgspec

from providers.contract import (
    AccountFault,
    Channel,
    Fault,
    Outcome,
    PartlyRead,
    Receipt,
    Refused,
    Submission,
    Submitted,
    Unknown,
)
from providers.http import json_text
from providers.http.adapter import HttpConfig, ProviderRequest, Receipts, Reply
from providers.http.replies import ErrorDetail, raise_unless_ok
from providers.infobip.reasons import about, is_unreachable
from providers.infobip.reports import read_envelope, read_good, read_reports
from providers.infobip.wire import (
    ACCOUNT_STATUSES,
    DUPLICATE_ID,
    GROUPS_ACCEPTED,
    GROUPS_REFUSED,
    TEMPORARY_STATUSES,
    Answer,
    Destination,
    Entry,
    ErrorBody,
    ValidityPeriod,
    Webhook,
    parts_count,
    text_id,
)

BATCH_MAX = 1000  # Infobip names no limit; at 1,000 an answer is about 350 KB, well under our own
LOOK_UP_MAX = 30  # the query parameter takes 2,048 characters, a ref has at most 64
LOOK_UP_ROWS_MAX = 1000  # what Infobip returns at most; its default of 50 could hide a ref
# Reports in one callback, and what one of them takes at most: without callback data some 700 bytes.
CALLBACK_BYTES_MAX = 2_000 * 2_048
VALIDITY_S_MIN = 10  # what Infobip documents for this generation
VALIDITY_S_MAX = 48 * 3600  # Infobip silently shortens anything longer

_SENDER = re.compile(r"\b(sender|from)$")  # the last part of a violation's property

K = TypeVar("K")
V = TypeVar("V")

_ANSWER = msgspec.json.Decoder(Answer)
_ENTRY = msgspec.json.Decoder(Entry)
_ENTRY_CORE = ("messageId", "status")  # what of an entry cannot be done without
_ERROR_BODY = msgspec.json.Decoder(ErrorBody)


class Infobip(ABC):
    """The adapter of both channels; a subclass names its paths and writes its messages."""

    kind: str
    channel: Channel
    batch_max: int = BATCH_MAX
    can_look_up: bool = True
    look_up_max: int = LOOK_UP_MAX
    callback_bytes_max: int = CALLBACK_BYTES_MAX
    send_path: ClassVar[str]
    logs_path: ClassVar[str]

    def __init__(self, config: HttpConfig) -> None:
        """Raises ValueError with a sentence when the API key cannot be a header's value."""
        self.webhook = Webhook(config.callback_url)
        self._get_headers = (
            ("Authorization", f"App {config.checked_key()}"),
            ("Accept", "application/json"),
        )
        self._post_headers = (*self._get_headers, ("Content-Type", "application/json"))

    @abstractmethod
    def request_body(self, batch: Sequence[Submission]) -> msgspec.Struct:
        """The body as Structs, ready to encode: one entry a submission, in order."""

    def submit(self, batch: Sequence[Submission]) -> ProviderRequest:
        if not 1 <= len(batch) <= self.batch_max:
            raise ValueError(f"A batch has 1 to {self.batch_max} submissions, not {len(batch)}.")
        body = msgspec.json.encode(self.request_body(batch))
        return ProviderRequest("POST", self.send_path, self._post_headers, body)

    def outcomes(self, batch: Sequence[Submission], reply: Reply) -> list[Outcome]:
        raise_unless_ok(reply, explain)
        outcomes = _match(batch, _entries(reply.body))
        if not outcomes:
            raise Unknown("answer_unreadable", "The answer mentions none of the messages sent.")
        account = [o.fault for o in outcomes if isinstance(o, Refused) and o.account]
        if len(account) == len(batch):
            raise AccountFault(
                account[0].name, "Infobip refused every message: top up the account."
            )
        return outcomes

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        good = read_good(body)
        if good is not None:
            return good
        results = read_envelope(body)
        if results.results is None:
            if results.notification_type is not None:
                return Receipts([])  # a click report: one object, nothing to book
            raise ValueError("The report has no results.")
        return read_reports(results.results)

    def look_up(self, refs: Sequence[str]) -> ProviderRequest:
        if not 1 <= len(refs) <= self.look_up_max:
            raise ValueError(f"A look-up has 1 to {self.look_up_max} refs, not {len(refs)}.")
        query = urlencode([*(("messageId", ref) for ref in refs), ("limit", LOOK_UP_ROWS_MAX)])
        return ProviderRequest("GET", f"{self.logs_path}?{query}", self._get_headers)

    def looked_up(self, reply: Reply) -> list[Receipt]:
        raise_unless_ok(reply, explain)
        try:
            results = read_envelope(reply.body).results
        except ValueError as error:
            raise Unknown("answer_unreadable", f"The log cannot be read: {error}") from error
        if results is None:
            raise Unknown("answer_unreadable", "The log has no results.")
        read = read_reports(results)
        # A row lost here would say that Infobip does not know the ref, and so have it sent again.
        if len(read.receipts) < len(results):
            why = next(iter(read.faults), "It is somebody's reply.")
            raise PartlyRead("row_unreadable", f"A log row cannot be read: {why}", read.receipts)
        return read.receipts


def validity(validity_ms: int) -> ValidityPeriod:
    """Whole seconds, not above the time asked, within VALIDITY_S_MIN and VALIDITY_S_MAX."""
    return ValidityPeriod(min(max(validity_ms // 1000, VALIDITY_S_MIN), VALIDITY_S_MAX))


def destination(submission: Submission) -> Destination:
    return Destination(submission.to.removeprefix("+"), submission.ref)


def explain(body: bytes) -> ErrorDetail:
    """Reads either error shape; of a body that is neither, nothing is said."""
    try:
        error = _ERROR_BODY.decode(body)
    except (ValueError, RecursionError):
        return ErrorDetail()
    old = error.request_error.service_exception if error.request_error else None
    if old is not None:
        return ErrorDetail(old.message_id or "", old.text or "")
    told = [f"{v.property}: {v.violation}" for v in error.violations or ()]
    senders = [v for v in error.violations or () if _SENDER.search(v.property or "")]
    return ErrorDetail(
        error.error_code or "",
        "; ".join([error.description or "", *told]),
        "account" if senders else "message",
    )


def _entries(body: bytes) -> list[Entry]:
    try:
        raw = json_text.decode(_ANSWER, body).messages
    except (ValueError, RecursionError) as error:
        raise Unknown("answer_unreadable", f"The answer cannot be read: {error}") from error
    return [_entry(item) for item in raw]


def _entry(item: msgspec.Raw) -> Entry:
    try:
        return _ENTRY.decode(item)
    except ValueError:
        pass
    try:
        return json_text.in_part(_ENTRY, item, _ENTRY_CORE)
    except ValueError:
        return Entry()  # keeps its place, so that its neighbours keep theirs; says nothing


def _match(batch: Sequence[Submission], entries: Sequence[Entry]) -> list[Outcome]:
    """Pairs submissions with entries: by our id, else by place, else by a destination named once.

    Infobip answers with our ids; the rest is for the day it does not. In the batch's order.
    """
    by_id = {text_id(entry.message_id): entry for entry in entries}
    paired: dict[str, Entry] = {}
    for submission in batch:
        entry = by_id.pop(submission.ref, None)
        if entry is not None:
            paired[submission.ref] = entry
    if len(paired) < len(batch):
        _match_foreign(batch, entries, paired)
    outcomes = (_outcome(s.ref, paired[s.ref]) for s in batch if s.ref in paired)
    return [outcome for outcome in outcomes if outcome is not None]


def _match_foreign(
    batch: Sequence[Submission], entries: Sequence[Entry], paired: dict[str, Entry]
) -> None:
    taken = {id(entry) for entry in paired.values()}
    if len(entries) == len(batch):
        for submission, entry in zip(batch, entries, strict=True):
            if submission.ref in paired or id(entry) in taken:
                continue
            if text_id(entry.destination) in (None, submission.to.removeprefix("+")):
                paired[submission.ref] = entry
                taken.add(id(entry))
    waiting = _unique((s.to.removeprefix("+"), s) for s in batch if s.ref not in paired)
    told = _unique((text_id(e.destination), e) for e in entries if id(e) not in taken)
    for number, submission in waiting.items():
        if number in told:
            paired[submission.ref] = told[number]


def _unique(pairs: Iterable[tuple[K, V]]) -> dict[K, V]:
    seen: dict[K, list[V]] = {}
    for key, value in pairs:
        seen.setdefault(key, []).append(value)
    return {key: values[0] for key, values in seen.items() if len(values) == 1}


def _outcome(ref: str, entry: Entry) -> Outcome | None:
    """None for a status that says neither yes nor no: the message is then unknown."""
    status = entry.status
    if status is None:
        return None
    if status.key == DUPLICATE_ID:
        return Submitted(ref, again=True)
    if status.group in GROUPS_ACCEPTED:
        own_id = text_id(entry.message_id)
        parts = parts_count(entry.details.message_count) if entry.details else None
        return Submitted(ref, own_id if own_id != ref else None, parts)
    if status.group not in GROUPS_REFUSED:
        return None
    fault = Fault(
        code=str(status.group if status.id is None else status.id),
        name=status.name or f"STATUS_{status.group}_{status.id}",
        permanent=status.key not in TEMPORARY_STATUSES,
    )
    account = status.key in ACCOUNT_STATUSES
    return Refused(ref, fault, account, about(status), is_unreachable(status))
