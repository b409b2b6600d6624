"""What a deliver_sm says: a receipt, or what a person wrote. Pure.

Parameters are believed before the text, and the text is read loosely, because every provider writes
it in its own way. Its text may hold what a person was sent, so that keys are looked for in front of
`text:` only. Its dates have no zone and are not used.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from providers.contract import About, Fault, Receipt, ReceiptStatus
from providers.smpp import pdu, texts

IdFormat = Literal["text", "hex", "dec"]

KIND_MASK: Final = 0x3C  # of esm_class: what sort of deliver_sm
FINAL: Final = 0x04
INTERMEDIATE: Final = 0x20

# By message_state.
STATES: Final[dict[int, str]] = {
    0: "SCHEDULED",
    1: "ENROUTE",
    2: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
    9: "SKIPPED",
}
STATUSES: Final[dict[str, ReceiptStatus]] = {
    "SCHEDULED": "sent",
    "ENROUTE": "sent",
    "DELIVRD": "delivered",
    "EXPIRED": "expired",
    "DELETED": "undelivered",
    "UNDELIV": "undelivered",
    "ACCEPTD": "sent",
    "UNKNOWN": "undelivered",
    "REJECTD": "rejected",
    "SKIPPED": "undelivered",
}
# The same in other words: the standard's for `message_state` (5.2.28), and those of some providers.
WORDS: Final[dict[str, str]] = {
    "DELIVERED": "DELIVRD",
    "UNDELIVERABLE": "UNDELIV",
    "UNDELIVERED": "UNDELIV",
    "FAILED": "UNDELIV",
    "ACCEPTED": "ACCEPTD",
    "BUFFERED": "ACCEPTD",
    "REJECTED": "REJECTD",
}
NO_ERROR: Final = frozenset({"", "0", "00", "000"})

_id = re.compile(r"\bid:([A-Za-z0-9._-]{1,64})", re.IGNORECASE).search
_stat = re.compile(r"\bstat:([A-Za-z]{5,15})", re.IGNORECASE).search
_err = re.compile(r"\berr:([0-9A-Za-z]{1,8})", re.IGNORECASE).search
_text = re.compile(r"\btext:", re.IGNORECASE).search
_decimal = re.compile(r"[0-9]{1,20}").fullmatch
_hexadecimal = re.compile(r"[0-9A-Fa-f]{1,16}").fullmatch


class NoReceipt(NamedTuple):
    """A receipt that speaks of nothing that can be found: why."""

    sentence: str


def one_id(text: str, written: IdFormat) -> str:
    """An id in its one spelling: a number's is decimal. What is no such number stays as it is."""
    if not _is_number(text, written):
        return text
    return str(int(text, 16 if written == "hex" else 10))


def _is_number(text: str, written: IdFormat) -> bool:
    if written == "text":
        return False
    return (_hexadecimal if written == "hex" else _decimal)(text) is not None


def is_receipt(message: pdu.Short | pdu.Data) -> bool:
    """Whether it tells of a message of ours; else a person wrote it."""
    kind = message.esm_class & KIND_MASK
    return kind != 0 or pdu.RECEIPTED_MESSAGE_ID in message.tlvs


def read(
    message: pdu.Short | pdu.Data, in_answers: IdFormat, in_texts: IdFormat
) -> Receipt | NoReceipt:
    """The receipt in a deliver_sm. Its parameter has the id as the answer to the submit_sm had it,
    its text perhaps in another way; where both are spelled alike, and as numbers are in texts, both
    are written as texts are."""
    text = _written(message)
    head = text[: found.start()] if (found := _text(text)) else text
    told = message.tlvs.get(pdu.RECEIPTED_MESSAGE_ID, b"").rstrip(b"\0").decode("latin-1")
    found = _id(head)
    written = found[1] if found else ""
    if not told or (told == written and _is_number(told, in_texts)):
        provider_id = one_id(written, in_texts)
    else:
        provider_id = one_id(told, in_answers)
    state = _state(message, head)
    if not provider_id:
        return NoReceipt("A receipt names no message.")
    if state not in STATUSES:
        return NoReceipt(f"The receipt of {provider_id} has the unknown state {state or 'none'}.")
    status = STATUSES[state]
    if message.esm_class & KIND_MASK == INTERMEDIATE:
        status = "sent"  # it may still go on
    fault = _fault(message, head, state) if status not in ("sent", "delivered") else None
    about: About = "account" if status == "rejected" else "person"
    return Receipt(
        status,
        provider_id=provider_id,
        fault=fault,
        to=message.source.lstrip("+") or None,
        about=about,
        raw=head or _parameters(message),
    )


def _written(message: pdu.Short | pdu.Data) -> str:
    """Its text: in UCS-2 where it is, and not where only the coding of what it tells of is said."""
    content = message.content
    in_ucs2 = message.data_coding == texts.UCS2 and content[:1] == b"\0"
    return content.decode("utf-16-be" if in_ucs2 else "latin-1", "replace")


def _parameters(message: pdu.Short | pdu.Data) -> str:
    """What it says where it says all without a text."""
    return " ".join(f"{tag:04x}={value.hex()}" for tag, value in message.tlvs.items())


def _state(message: pdu.Short | pdu.Data, head: str) -> str:
    told = message.tlvs.get(pdu.MESSAGE_STATE, b"")
    if len(told) == 1 and told[0] in STATES:
        return STATES[told[0]]
    found = _stat(head)
    state = found[1].upper() if found else ""
    return WORDS.get(state, state)


def _fault(message: pdu.Short | pdu.Data, head: str, state: str) -> Fault:
    """The network's error code where one is told, else the one of the text."""
    network = message.tlvs.get(pdu.NETWORK_ERROR_CODE, b"")
    found = _err(head)
    code = found[1] if found else ""
    if len(network) == 3 and any(network[1:]):
        code = str(int.from_bytes(network[1:], "big"))
    return Fault(state if code in NO_ERROR else code, state, True)
