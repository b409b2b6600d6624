"""Infobip's vocabulary: statuses and errors, in its own words.

An id that is not here is refused when a knob names it (`knobs.check`), never when a report is made.
"""

from __future__ import annotations

from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

_GROUPS: Final = {
    1: ("PENDING", State.ACCEPTED),
    2: ("UNDELIVERABLE", State.UNDELIVERED),
    3: ("DELIVERED", State.DELIVERED),
    4: ("EXPIRED", State.EXPIRED),
    5: ("REJECTED", State.REJECTED),
}
_ERROR_GROUPS: Final = {0: "OK", 1: "HANDSET_ERRORS", 2: "USER_ERRORS", 3: "OPERATOR_ERRORS"}


def _status(group: int, number: int, name: str, description: str, action: str = "") -> Status:
    group_name, state = _GROUPS[group]
    shape: dict[str, object] = {
        "groupId": group,
        "groupName": group_name,
        "id": number,
        "name": name,
        "description": description,
    }
    if action:
        shape["action"] = action
    return Status(state, number, name, msgspec.Raw(msgspec.json.encode(shape)))


def _error(group: int, number: int, name: str, permanent: bool) -> Error:
    shape = {
        "groupId": group,
        "groupName": _ERROR_GROUPS[group],
        "id": number,
        "name": name,
        "description": name.removeprefix("EC_").replace("_", " ").capitalize(),
        "permanent": permanent,
    }
    return Error(number, name, permanent, msgspec.Raw(msgspec.json.encode(shape)))


STATUSES: Final[dict[int, Status]] = {
    entry.id: entry
    for entry in (
        _status(3, 2, "DELIVERED_TO_OPERATOR", "Message delivered to operator"),
        _status(1, 3, "PENDING_WAITING_DELIVERY", "Message sent, waiting for delivery report"),
        _status(2, 4, "UNDELIVERABLE_REJECTED_OPERATOR", "Message rejected by operator"),
        _status(3, 5, "DELIVERED_TO_HANDSET", "Message delivered to handset"),
        _status(5, 6, "REJECTED_NETWORK", "Network is forbidden"),
        _status(1, 7, "PENDING_ENROUTE", "Message sent to next instance"),
        _status(5, 8, "REJECTED_PREFIX_MISSING", "Number prefix is missing"),
        _status(2, 9, "UNDELIVERABLE_NOT_DELIVERED", "Message sent but not delivered"),
        _status(5, 10, "REJECTED_DND", "Destination is on the do-not-disturb list"),
        _status(5, 11, "REJECTED_SOURCE", "Source is forbidden"),
        _status(5, 12, "REJECTED_NOT_ENOUGH_CREDITS", "Not enough credits", "Top up the account"),
        _status(5, 13, "REJECTED_SENDER", "Sender is blocklisted"),
        _status(5, 14, "REJECTED_DESTINATION_BLOCKLISTED", "Destination is blocklisted"),
        _status(4, 15, "EXPIRED_EXPIRED", "Message expired"),
        _status(5, 17, "REJECTED_PREPAID_PACKAGE_EXPIRED", "Prepaid package expired"),
        _status(5, 18, "REJECTED_DESTINATION_NOT_REGISTERED", "Destination is not registered"),
        _status(5, 19, "REJECTED_ROUTE_NOT_AVAILABLE", "Route not available"),
        _status(5, 20, "REJECTED_FLOODING_FILTER", "Rejected by the anti-flooding filter"),
        _status(5, 21, "REJECTED_SYSTEM_ERROR", "System error", "Send again as a new message"),
        _status(5, 23, "REJECTED_DUPLICATE_MESSAGE_ID", "Duplicate message ID"),
        _status(5, 24, "REJECTED_INVALID_UDH", "Invalid UDH"),
        _status(5, 25, "REJECTED_MESSAGE_TOO_LONG", "Message too long"),
        _status(1, 26, "PENDING_ACCEPTED", "Message accepted, pending for delivery."),
        _status(4, 29, "EXPIRED_DLR_UNKNOWN", "No delivery report received in time"),
        _status(2, 31, "UNDELIVERABLE_NOT_SENT", "Message not sent"),
        _status(5, 51, "MISSING_TO", "Missing destination"),
        _status(5, 52, "REJECTED_DESTINATION", "Invalid destination address"),
        _status(5, 100, "UNDELIVERABLE_REJECTED_PLATFORM", "Rejected by the platform"),
    )
}

ERRORS: Final[dict[int, Error]] = {
    entry.id: entry
    for entry in (
        _error(0, 0, "NO_ERROR", False),
        _error(1, 1, "EC_UNKNOWN_SUBSCRIBER", True),
        _error(1, 6, "EC_ABSENT_SUBSCRIBER_SM", False),
        _error(1, 13, "EC_CALL_BARRED", False),
        _error(1, 27, "EC_ABSENT_SUBSCRIBER", False),
        _error(1, 31, "EC_SUBSCRIBER_BUSY_FOR_MT_SMS", False),
        _error(1, 32, "EC_SM_DELIVERY_FAILURE", False),
        _error(1, 34, "EC_SYSTEM_FAILURE", False),
        _error(1, 255, "EC_UNKNOWN_ERROR", False),
        _error(1, 500, "EC_PROVIDER_GENERAL_ERROR", False),
        _error(1, 502, "EC_NO_RESPONSE", False),
        _error(1, 573, "EC_SC_BLOCKED_BY_END_USER", True),
        _error(2, 351, "EC_INVALID_DESTINATION_ADDRESS", False),
        _error(2, 355, "EC_MSG_TEXT_TOO_LONG", True),
        _error(2, 368, "EC_INVALID_SOURCE_ADDRESS", True),
        _error(2, 542, "EC_QUOTA_REACHED", False),
        _error(2, 603, "EC_CONTENT_BLOCKED", True),
        _error(2, 607, "EC_REJECTED_SPAM_BY_OPERATOR", True),
        _error(2, 2052, "EC_BLACKLISTED_DESTINATIONADDRESS", True),
        _error(2, 4101, "EC_VALIDITY_EXPIRED", True),
        _error(3, 345, "EC_OPERATOR_NOT_FOUND", True),
        _error(3, 568, "EC_DESTINATION_NOT_SMS_PROVISIONED", True),
        _error(3, 631, "EC_MOBILE_OPERATOR_NETWORK_ERROR", True),
        _error(3, 2048, "EC_TIME_OUT", False),
        _error(3, 2050, "EC_DEST_ADDRESS_BLACKLISTED", True),
        _error(1, 7002, "EC_UNKNOWN_USER", True),
        _error(1, 7003, "EC_BLOCKED_USER", True),
        _error(1, 7009, "EC_INVALID_TEMPLATE", True),
        _error(1, 7011, "EC_ACCOUNT_ISSUE", True),
        _error(1, 7013, "EC_MEDIA_HOSTING_ERROR", False),
        _error(1, 7016, "EC_SPAM_RATE", True),
        _error(1, 7017, "EC_TOO_MANY_REQUESTS", False),
        _error(1, 7027, "EC_BLOCKED_CONTENT", True),
        _error(1, 7201, "EC_UNSUPPORTED_DEVICE", True),
        _error(2, 7050, "EC_PROVIDER_INTERNAL_ERROR", False),
        _error(2, 7051, "EC_PROVIDER_TIMEOUT", False),
        _error(3, 7080, "EC_INTERNAL_ERROR", True),
        _error(3, 7082, "EC_TEMPORARY_GATEWAY_ERROR", True),
    )
}

OPERATOR: Final = STATUSES[2]
TOO_LONG: Final = STATUSES[25]
MISSING_TO: Final = STATUSES[51]
BAD_DESTINATION: Final = STATUSES[52]


def usual(ending: Ending, channel: Channel) -> tuple[int, int]:
    """Status and error ids an ending has when nobody names others."""
    match ending:
        case "delivered":
            return 5, 0
        case "undelivered":
            return 9, 7003 if channel == "viber" else 27
        case "expired" | "silent":
            return 15, 4101
        case "rejected":
            return 6, 0


CATALOGUE: Final = Catalogue(
    provider="infobip",
    statuses=STATUSES,
    errors=ERRORS,
    accepted=STATUSES[26],
    enroute=STATUSES[7],
    delivered=STATUSES[5],
    duplicate=STATUSES[23],
    no_route=STATUSES[19],
    unreachable=BAD_DESTINATION,
    no_error=ERRORS[0],
    usual=usual,
    seen_channels=frozenset({"viber"}),
)
