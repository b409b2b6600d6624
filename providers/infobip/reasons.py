"""Whom Infobip's reasons speak of: the person, the message, or the account.

What the tables do not name speaks of the account when the message was rejected, and of the person
when it was undeliverable. A rejection nobody knows that nearly all messages get cannot be of the
persons; taken for theirs it would send a whole campaign on to the next channel, taken for the
account's it costs a pause and an alert. That a message could not be delivered, on the other hand,
is what networks and phones say in many ways.
"""

from __future__ import annotations

from providers.contract import About
from providers.infobip.wire import Error, Status, StatusKey

REJECTED = 5

PERSON_STATUSES: frozenset[StatusKey] = frozenset(
    (REJECTED, number)
    for number in (
        8,  # REJECTED_PREFIX_MISSING
        10,  # REJECTED_DND
        14,  # REJECTED_DESTINATION_BLOCKLISTED
        20,  # REJECTED_FLOODING_FILTER: too much to one number
        51,  # MISSING_TO
        52,  # REJECTED_DESTINATION
        87,  # SIGNALS_BLOCKED
    )
)
MESSAGE_STATUSES: frozenset[StatusKey] = frozenset(
    (REJECTED, number)
    for number in (
        24,  # REJECTED_INVALID_UDH
        25,  # REJECTED_MESSAGE_TOO_LONG
    )
)
PERSON_ERRORS = frozenset(
    {
        *(1, 2, 5, 6, 7, 8, 9, 11, 12, 13, 21, 27, 31, 32, 33),  # the handset and its subscriber
        *(565, 573, 581, 628, 629),
        *(351, 352, 603, 604, 2049, 2052, 3041, 4103, 4104),  # the number, or its user's wish
        *(568, 569, 630, 2050),
        *(7002, 7003, 7201),  # no Viber, blocked, no device for it
    }
)
MESSAGE_ERRORS = frozenset(
    {
        *(323, 355, 607, 4096, 4100, 4101),
        *(7006, 7008, 7013, 7014, 7015, 7022, 7027),  # arguments, media, content
    }
)
# Of those that speak of the person: the address reaches nobody on this channel, for longer than a
# phone is off. Who is barred, blocklisted or flooded is reached another time.
UNREACHABLE_STATUSES: frozenset[StatusKey] = frozenset({(REJECTED, 52)})  # REJECTED_DESTINATION
UNREACHABLE_ERRORS = frozenset(
    {
        *(1, 9, 11, 12),  # no such subscriber, or none who can get one
        *(565, 568, 573, 629),  # ... by SMS
        *(7002, 7003, 7201),  # no Viber, blocked, no device for it
    }
)
ACCOUNT_ERRORS = frozenset(
    {
        *(368, 375, 2053),  # the sender
        *(433, 541, 542, 572, 577, 578, 579, 580, 594, 597, 598, 601, 4099, 4202),
        *(7001, 7004, 7005, 7007, 7009, 7011, 7019, 7081, 7083, 7084, 7281),
    }
)


def about(status: Status, error: Error | None = None) -> About:
    """Whom the reason of a failed message speaks of; an error says more than a status."""
    number = error.id if error is not None else None
    if number in PERSON_ERRORS or status.key in PERSON_STATUSES:
        return "person"
    if number in MESSAGE_ERRORS or status.key in MESSAGE_STATUSES:
        return "message"
    if number in ACCOUNT_ERRORS or status.group == REJECTED:
        return "account"
    return "person"


def is_unreachable(status: Status, error: Error | None = None) -> bool:
    """Whether the reason of a failed message says that its address reaches nobody."""
    number = error.id if error is not None else None
    return number in UNREACHABLE_ERRORS or status.key in UNREACHABLE_STATUSES
