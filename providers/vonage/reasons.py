"""Whom the error codes of Vonage's Messages API speak of. A code that is not here speaks of the
account, so that a new one that everybody gets sends no campaign on to the next channel."""

from __future__ import annotations

import msgspec

from providers.contract import About


class Reason(msgspec.Struct, frozen=True):
    """`unreachable`: the person does not have the channel. `account`: nobody's message can go."""

    about: About
    permanent: bool = True
    unreachable: bool = False
    account: bool = False


PERSON = Reason("person")
NOBODY = Reason("person", unreachable=True)
LATER = Reason("person", permanent=False)
MESSAGE = Reason("message")
OF_ACCOUNT = Reason("account")
NO_WAY = Reason("account", account=True)
EXPIRED = 1360
ALREADY_SENT = 1320

CODES: dict[int, Reason] = {
    1000: LATER,  # throttled
    1010: MESSAGE,
    1020: MESSAGE,
    1021: MESSAGE,
    1022: OF_ACCOUNT,  # a template that is not registered
    1030: LATER,
    1040: MESSAGE,
    1050: PERSON,  # barred
    1060: NO_WAY,  # the account is barred
    1070: NO_WAY,  # no credit
    1080: NO_WAY,  # not enabled
    1090: MESSAGE,
    1100: LATER,
    1120: OF_ACCOUNT,  # the sender
    1130: MESSAGE,
    1140: OF_ACCOUNT,
    1150: MESSAGE,
    1160: OF_ACCOUNT,
    1170: NOBODY,  # no number
    1180: PERSON,  # absent for now
    1190: NOBODY,  # absent for good
    1200: PERSON,
    1210: MESSAGE,  # taken for spam
    1220: PERSON,
    1230: PERSON,
    1240: PERSON,  # said STOP
    1241: LATER,
    1250: OF_ACCOUNT,  # no route
    1260: OF_ACCOUNT,
    1270: PERSON,
    1280: PERSON,
    1290: PERSON,
    1300: NOBODY,  # no Viber
    1310: NOBODY,  # no device for it
    1330: PERSON,
    1331: PERSON,
    1340: OF_ACCOUNT,  # outside the allowed hours
    1360: PERSON,  # its time passed
    1380: MESSAGE,
    1381: MESSAGE,
    1382: MESSAGE,
}


def reason_of(code: int) -> Reason:
    return CODES.get(code, OF_ACCOUNT)
