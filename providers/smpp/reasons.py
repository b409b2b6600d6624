"""What an answer's status means for the message, and what to call it. Pure.

Providers use codes of their own above the standard's, and some of the standard's for anything:
what is not known here is a refusal for good that is the account's, so that many in a row pause the
provider instead of sending a campaign on.
"""

from __future__ import annotations

from typing import Final

from providers.contract import About, AccountFault, Fault, NotSent, Refused, SendFault
from providers.smpp import pdu

SLOW_DOWN: Final = frozenset({pdu.THROTTLED, pdu.QUEUE_FULL})
TEMPORARY: Final = frozenset({pdu.SYSTEM_ERROR, pdu.TEMPORARY_ERROR, pdu.DELIVERY_FAILED})
OF_ACCOUNT: Final = frozenset({pdu.BIND_FAILED, pdu.WRONG_PASSWORD, pdu.WRONG_SYSTEM_ID})
OF_PERSON: Final = frozenset({pdu.INVALID_DESTINATION})
OF_MESSAGE: Final = frozenset({0x01, 0x02, 0x06, 0x07, 0x43, 0x61, 0x62, *range(0xC0, 0xC5)})

NAMES: Final = {
    0x01: "invalid_message_length",
    0x02: "invalid_command_length",
    0x03: "invalid_command",
    0x04: "not_bound",
    0x05: "already_bound",
    0x06: "invalid_priority",
    0x07: "invalid_registered_delivery",
    0x08: "system_error",
    0x0A: "invalid_source",
    0x0B: "invalid_destination",
    0x0C: "invalid_message_id",
    0x0D: "bind_failed",
    0x0E: "wrong_password",
    0x0F: "wrong_system_id",
    0x14: "queue_full",
    0x15: "invalid_service_type",
    0x43: "invalid_esm_class",
    0x45: "submit_failed",
    0x48: "invalid_source_ton",
    0x49: "invalid_source_npi",
    0x50: "invalid_destination_ton",
    0x51: "invalid_destination_npi",
    0x53: "invalid_system_type",
    0x58: "throttled",
    0x61: "invalid_schedule",
    0x62: "invalid_validity",
    0x64: "temporary_error",
    0x65: "permanent_error",
    0x66: "rejected",
    0xC0: "parameters_unreadable",
    0xC1: "parameter_not_allowed",
    0xC2: "invalid_parameter_length",
    0xC3: "parameter_missing",
    0xC4: "invalid_parameter_value",
    0xFE: "delivery_failed",
    0xFF: "unknown_error",
}


def name_of(status: int) -> str:
    return NAMES.get(status, "provider_code")


def refused(ref: str, status: int, part_ids: tuple[str, ...] = ()) -> Refused:
    """The outcome of a message that was refused with a status other than 0 and SLOW_DOWN, of which
    these parts were taken."""
    fault = Fault(f"0x{status:02x}", name_of(status), status not in TEMPORARY)
    about: About = "account"
    if status in OF_PERSON:
        about = "person"
    elif status in OF_MESSAGE:
        about = "message"
    return Refused(ref, fault, account=status in OF_ACCOUNT, about=about, part_ids=part_ids)


def bind_refused(status: int) -> SendFault:
    """Why there is no session."""
    code, name = f"0x{status:02x}", name_of(status)
    if status in OF_ACCOUNT:
        return AccountFault(name, f"The bind was refused: {name} ({code}).")
    return NotSent(name, f"The bind was refused: {name} ({code}).")
