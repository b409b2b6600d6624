"""What the readers of events share: items one by one, moments, addresses, and what failed.

An event counts also where something beside its message and what became of that cannot be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from providers.contract import Fault, PersonReply, Receipt, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.http.replies import moment_ms
from providers.mail import mailbox
from providers.mail.reasons import of_recipient
from providers.reasons import NOBODY, PERSON, Reason

CALLBACK_BYTES_MAX = 4 * 1024 * 1024
REF_CHARS_MAX = 64
NAME_CHARS_MAX = 120

Wish = Literal["block", "unblock"]
Said = Receipt | PersonReply | None  # None: an event that says nothing of a message or a person


def each(items: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Said]) -> Receipts:
    """Reads every item; one that cannot be read is a fault and fails no other."""
    found = Receipts([], [], [])
    for place, item in enumerate(items):
        try:
            said = read(item)
        except (ValueError, RecursionError) as error:
            found.faults.append(f"Item {place} cannot be read: {mailbox.blanked(str(error))}")
            continue
        if isinstance(said, Receipt):
            found.receipts.append(said)
        elif said is not None:
            found.replies.append(said)
    return found


def items_of(body: bytes) -> list[msgspec.Raw]:
    """The items of a JSON array, or one object as one. Raises ValueError with a sentence."""
    try:
        if body.lstrip().startswith(b"["):
            return json_text.decode(_ITEMS, body)
        return [json_text.decode(_ITEM, body)]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is no JSON of events: {error}") from error


def ours(ref: object) -> str:
    """Our reference as an event repeats it. Raises ValueError for a mail of somebody else."""
    if not isinstance(ref, str) or not 0 < len(ref) <= REF_CHARS_MAX:
        raise ValueError("it has no reference of ours.")
    return ref


def plain(status: ReceiptStatus, ref: str, at_ms: int | None) -> Receipt:
    return Receipt(status, ref, at_ms=at_ms)


def failed(
    ref: str,
    at_ms: int | None,
    why: str,
    reason: Reason,
    *,
    code: str,
    status: ReceiptStatus = "undelivered",
) -> Receipt:
    """A mail that did not arrive. Whatever the reason, the provider tries no more."""
    name = mailbox.blanked(why or code)[:NAME_CHARS_MAX]
    fault = Fault(code[:NAME_CHARS_MAX], name, permanent=True)
    return Receipt(
        status,
        ref,
        at_ms=at_ms,
        fault=fault,
        about=reason.about,
        unreachable=reason.unreachable,
    )


def bounced(ref: str, at_ms: int | None, enhanced: str, why: str, *, gone: bool) -> Receipt:
    """`gone`: the provider says itself that the address reaches nobody."""
    reason = NOBODY if gone else of_recipient(0, enhanced, why)
    if not gone and not enhanced:
        reason = PERSON
    return failed(ref, at_ms, why, reason, code=enhanced or ("hard" if gone else "soft"))


def wish(kind: Wish, id_: object, address: object, at_ms: int | None) -> PersonReply:
    """That somebody wants no more marketing, or wants it again. An event without an id is known by
    what it says and of whom, without naming them. Raises ValueError."""
    if not isinstance(address, str):
        raise ValueError("it names no address.")
    sender = mailbox.read(address.lower()).address
    known_by = json_text.text_of(id_)
    if not known_by:
        who = hashlib.blake2b(sender.encode(), digest_size=12).hexdigest()
        known_by = f"{kind}-{at_ms}-{who}"
    return PersonReply(known_by[:200], sender, at_ms=at_ms, kind=kind)


def seconds(value: object) -> int | None:
    """Epoch milliseconds of a number of seconds."""
    if isinstance(value, str):
        value = float(value) if value.replace(".", "", 1).isdecimal() else None
    return moment_ms(value * 1000) if isinstance(value, int | float) else None


def moment(value: object) -> int | None:
    """Epoch milliseconds of an ISO 8601 date; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(json_text.text_of(value))
    except ValueError:
        return None
    return moment_ms(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)


def json_header(value: object) -> str:
    """JSON as a header holds it: ASCII, in one line."""
    return json.dumps(value, separators=(",", ":"))


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(msgspec.Raw)
