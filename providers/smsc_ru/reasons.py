"""Whom the reasons of SMSC.ru speak of: the person, the message, the account, or this moment alone.

There are two lists: of requests that it refuses (`error_code`), and of messages that did not arrive
(`status`, and `err` which says more). A code that neither knows speaks of the account.
"""

from __future__ import annotations

import msgspec

from providers.contract import About, ReceiptStatus


class Reason(msgspec.Struct, frozen=True):
    """`unreachable`: the number has no SMS."""

    name: str
    about: About
    unreachable: bool = False


# Of a request. Codes 2, 3 and 4 are the account's, 9 is of this minute.
REFUSED: dict[int, Reason] = {
    1: Reason("parameters", "message"),
    5: Reason("date", "message"),
    6: Reason("forbidden", "account"),  # the text, or a sender that is not registered
    7: Reason("number", "person", unreachable=True),
    8: Reason("not_deliverable", "person"),
}
ACCOUNT: dict[int, str] = {
    2: "The login or its key is wrong, or the address is not allowed.",
    3: "There is no money on the account: top it up.",
    4: "The address is blocked for a while after too many faults.",
}
TOO_MANY = 9

STATUSES: dict[int, ReceiptStatus] = {
    -2: "sent",  # stopped by its owner; it may go on
    -1: "sent",
    0: "sent",
    1: "delivered",
    2: "delivered",  # read, of which an SMS knows nothing
    3: "expired",
    4: "delivered",  # a link of theirs was clicked
    20: "undelivered",
    22: "rejected",
    23: "rejected",
    24: "rejected",
    25: "undelivered",
}
FAILED: dict[int, Reason] = {
    3: Reason("expired", "person"),
    20: Reason("not_deliverable", "person"),
    22: Reason("number", "person", unreachable=True),
    23: Reason("forbidden", "account"),
    24: Reason("no_money", "account"),
    25: Reason("number_unavailable", "person"),
}
ERRORS: dict[int, Reason] = {
    1: Reason("no_subscriber", "person", unreachable=True),
    6: Reason("absent", "person"),
    11: Reason("no_sms_service", "person", unreachable=True),
    12: Reason("phone_fault", "person"),
    13: Reason("subscriber_blocked", "person"),
    21: Reason("no_sms_support", "person", unreachable=True),
    219: Reason("sim_replaced", "person"),
    220: Reason("operator_queue_full", "person"),
    237: Reason("no_answer", "person"),
    238: Reason("no_template", "account"),
    239: Reason("address_forbidden", "account"),
    240: Reason("busy", "person"),
    241: Reason("conversion", "message"),
    243: Reason("no_contract", "account"),
    244: Reason("mailing_forbidden", "account"),
    245: Reason("no_status", "person"),
    246: Reason("hours_limit", "account"),
    247: Reason("messages_limit", "account"),
    248: Reason("no_route", "account"),
    249: Reason("number_format", "person", unreachable=True),
    250: Reason("number_forbidden_by_settings", "person"),
    251: Reason("number_limit", "person"),
    252: Reason("number_forbidden", "person"),
    253: Reason("spam_filter", "message"),
    254: Reason("sender_not_registered", "account"),
    255: Reason("operator_refused", "person"),
}


def refused(code: int) -> Reason:
    """Why a request was refused."""
    return REFUSED.get(code, Reason(f"error_{code}", "account"))


def failed(status: int, error: int) -> Reason:
    """Why a message did not arrive; the error says more than the status."""
    found = ERRORS.get(error) if error else FAILED.get(status)
    return found or Reason(f"status_{status}_{error}", "account")
