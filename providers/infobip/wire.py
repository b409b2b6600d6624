"""Infobip's JSON as Structs, and its status tables: the generation of /viber/2 and /sms/3.

Reading is lenient about what Kaskad does not use (unknown keys are ignored) and strict about what
it does: a wrong type fails that one item.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from providers.contract import ReceiptStatus

ID_CHARS_MAX = 200
PARTS_MAX = 1000

StatusKey = tuple[int, int | None]  # (groupId, id): id alone is ambiguous

GROUPS_ACCEPTED = frozenset({0, 1, 3})
GROUPS_REFUSED = frozenset({2, 4, 5})
DUPLICATE_ID: StatusKey = (5, 23)  # the id was used before: the earlier request did arrive
SIGNALS_BLOCKED_FREE: StatusKey = (5, 87)
NO_CREDIT: StatusKey = (5, 12)
PACKAGE_EXPIRED: StatusKey = (5, 17)
FLOODING_FILTER: StatusKey = (5, 20)
SYSTEM_ERROR: StatusKey = (5, 21)
ACCOUNT_STATUSES = frozenset({NO_CREDIT, PACKAGE_EXPIRED})
TEMPORARY_STATUSES = ACCOUNT_STATUSES | {FLOODING_FILTER, SYSTEM_ERROR}

# Where the group decides; group 3, DELIVERED, is left out because only its id tells a delivery from
# a hand-over.
RECEIPT_BY_GROUP: dict[int, ReceiptStatus] = {
    0: "sent",
    1: "sent",
    2: "undelivered",
    4: "expired",
    5: "rejected",
}
RECEIPT_BY_STATUS: dict[StatusKey, ReceiptStatus] = {
    (3, 2): "sent",
    (3, 5): "delivered",
    DUPLICATE_ID: "sent",
}
# Unknown user, blocked user, unsupported device: no Viber there, whatever the report says about
# permanence.
PERMANENT_ERRORS = frozenset({7002, 7003, 7201})


GROUP_BY_NAME = {
    "OK": 0,
    "ACCEPTED": 0,
    "PENDING": 1,
    "UNDELIVERABLE": 2,
    "DELIVERED": 3,
    "EXPIRED": 4,
    "REJECTED": 5,
}
DELIVERED = 3
TO_OPERATOR = "DELIVERED_TO_OPERATOR"


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """A status; older and white-label answers leave out numbers that the names say as well."""

    group_id: int | None = None
    group_name: str | None = None
    id: int | None = None
    name: str | None = None

    @property
    def group(self) -> int:
        """The group's number; -1 when neither number nor name is known."""
        if self.group_id is not None:
            return self.group_id
        return GROUP_BY_NAME.get((self.group_name or "").upper(), -1)

    @property
    def key(self) -> StatusKey:
        number = self.id
        if number is None and self.group == DELIVERED and self.name is not None:
            number = 2 if self.name.upper() == TO_OPERATOR else 5
        return self.group, number


class Error(msgspec.Struct, frozen=True):
    id: int | None = None
    name: str | None = None
    permanent: bool | None = None


class Price(msgspec.Struct, frozen=True, rename="camel"):
    price_per_message: Decimal | None = None
    currency: str | None = None


class Details(msgspec.Struct, frozen=True, rename="camel"):
    message_count: int | None = None


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One message of a send answer."""

    message_id: str | int | None = None
    destination: str | int | None = None
    status: Status | None = None
    details: Details | None = None


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """One item of a delivery report, a seen report or a log: a seen report has seenAt and no
    status.
    """

    message_id: str | int | None = None
    callback_data: str | int | None = None
    status: Status | None = None
    error: Error | None = None
    sent_at: str | None = None
    done_at: str | None = None
    seen_at: str | None = None
    message_count: int | None = None
    price: Price | None = None
    mcc_mnc: str | int | None = None
    to: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct, frozen=True):
    messages: list[msgspec.Raw]


class Results(msgspec.Struct, frozen=True, rename="camel"):
    results: list[msgspec.Raw] | None = None
    notification_type: str | None = None


class GoodResults(msgspec.Struct, frozen=True):
    """As `Results`, where every item is as it should be."""

    results: list[Report]


class ServiceException(msgspec.Struct, frozen=True, rename="camel"):
    message_id: str | None = None
    text: str | None = None


class RequestError(msgspec.Struct, frozen=True, rename="camel"):
    service_exception: ServiceException | None = None


class Violation(msgspec.Struct, frozen=True):
    property: str | None = None
    violation: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    """Both shapes in one: errorCode and its company (v3), or requestError (the older endpoints)."""

    error_code: str | None = None
    description: str | None = None
    violations: list[Violation] | None = None
    request_error: RequestError | None = None


class Destination(msgspec.Struct, frozen=True, rename="camel"):
    to: str
    message_id: str


class ValidityPeriod(msgspec.Struct, frozen=True, rename="camel"):
    amount: int
    time_unit: str = "SECONDS"


class Webhook(msgspec.Struct, frozen=True):
    url: str


def text_id(value: str | int | None) -> str | None:
    """An id as text, or None when there is none or it is longer than Infobip's ids are.

    Infobip's own ids are strings of digits, and some writers turn those into JSON numbers.
    """
    if value is None or value == "":
        return None
    text = str(value)
    return text if len(text) <= ID_CHARS_MAX else None


def parts_count(value: int | None) -> int | None:
    return value if value is not None and 1 <= value <= PARTS_MAX else None
