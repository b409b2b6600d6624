"""Whom the error codes of Vonage's Messages API speak of. A code that is not here speaks of the
account, so that a new one that everybody gets sends no campaign on to the next channel."""

from __future__ import annotations

from providers.reasons import ACCOUNT, LATER, LEFT, MESSAGE, NOBODY, PERSON, Reason

EXPIRED = 1360
ALREADY_SENT = 1320
# For nobody's message is there a way: the account is barred, without credit, or not enabled.
NO_WAY = frozenset({1060, 1070, 1080})

CODES: dict[int, Reason] = {
    1000: LATER,  # throttled
    1010: MESSAGE,
    1020: MESSAGE,
    1021: MESSAGE,
    1022: ACCOUNT,  # a template that is not registered
    1030: LATER,
    1040: MESSAGE,
    1050: PERSON,  # barred
    1090: MESSAGE,
    1100: LATER,
    1120: ACCOUNT,  # the sender
    1130: MESSAGE,
    1140: ACCOUNT,
    1150: MESSAGE,
    1160: ACCOUNT,
    1170: NOBODY,  # no number
    1180: PERSON,  # absent for now
    1190: NOBODY,  # absent for good
    1200: PERSON,
    1210: MESSAGE,  # taken for spam
    1220: PERSON,
    1230: PERSON,
    1240: LEFT,
    1241: LATER,
    1250: ACCOUNT,  # no route
    1260: ACCOUNT,
    1270: PERSON,
    1280: PERSON,
    1290: PERSON,
    1300: NOBODY,  # no Viber
    1310: NOBODY,  # no device for it
    1330: PERSON,
    1331: PERSON,
    1340: ACCOUNT,  # outside the allowed hours
    1360: PERSON,  # its time passed
    1380: MESSAGE,
    1381: MESSAGE,
    1382: MESSAGE,
}


def reason_of(code: int) -> Reason:
    return CODES.get(code, ACCOUNT)
