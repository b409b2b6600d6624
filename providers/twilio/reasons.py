"""Whom Twilio's error codes speak of. A code that is not here speaks of the account: Twilio adds
codes, and a new one that everybody gets must not send a campaign on to the next channel."""

from __future__ import annotations

from providers.reasons import ACCOUNT, LATER, LEFT, MESSAGE, NOBODY, PERSON, Reason

EXPIRED = 30036
# For nobody's message is there a way: the account is suspended.
SUSPENDED = frozenset({30002, 20003})

CODES: dict[int, Reason] = {
    14107: LATER,  # a rate of this sender
    21211: NOBODY,  # no number
    21212: ACCOUNT,  # the sender
    21408: ACCOUNT,  # a region that is not enabled
    21602: MESSAGE,  # no body
    21606: ACCOUNT,  # a sender without SMS
    21610: LEFT,
    21611: LATER,  # the queue of the sender is full
    21614: NOBODY,  # no mobile number
    21617: MESSAGE,  # too long
    30001: LATER,
    30003: PERSON,  # the phone is off
    30004: PERSON,  # blocked
    30005: NOBODY,  # unknown
    30006: NOBODY,  # a landline
    30007: MESSAGE,  # filtered
    30008: PERSON,
    30010: MESSAGE,  # dearer than allowed
    30017: PERSON,  # the carrier is congested
    30018: ACCOUNT,
    30024: ACCOUNT,
    30034: ACCOUNT,
    30036: PERSON,  # its time passed in the queue
    30410: PERSON,  # the carrier did not answer
    30450: ACCOUNT,  # taken for fraud
    30453: ACCOUNT,
}


def reason_of(code: int) -> Reason:
    return CODES.get(code, ACCOUNT)
