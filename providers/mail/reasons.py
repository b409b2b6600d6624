"""Whom a mail server's refusal or a bounce speaks of: the person, the message or the account.

The enhanced status code (RFC 3463) decides where there is one, else the code of the reply and what
it answers. What nobody knows speaks of the account, so that it pauses the provider when all
messages get it, instead of sending a campaign on to the next channel.
"""

from __future__ import annotations

import re

from providers.reasons import ACCOUNT, LATER, MESSAGE, NOBODY, PERSON, Reason

NO_SUCH_ADDRESS = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
MAILBOX_FULL = "5.2.2"
TOO_LARGE = frozenset({"5.2.3", "5.3.4"})

_policy = re.compile(
    r"relay|denied|polic|spam|block|black|reputation|authenticat|not permitted|banned",
    re.IGNORECASE,
).search


def of_recipient(code: int, enhanced: str, text: str) -> Reason:
    """Why a recipient was refused, or a mail to it bounced."""
    if known := _of_enhanced(enhanced):
        return known
    if 400 <= code < 500 or code == 552:
        return LATER
    if code in (550, 551, 553):
        return ACCOUNT if _policy(text) else NOBODY
    return ACCOUNT


def of_content(code: int, enhanced: str) -> Reason:
    """Why a whole mail was refused, its recipient being good."""
    if known := _of_enhanced(enhanced):
        return known
    if 400 <= code < 500:
        return LATER
    return MESSAGE if code == 552 else ACCOUNT


def _of_enhanced(status: str) -> Reason | None:
    """None: it says nothing that its reply does not say."""
    kind, _, rest = status.partition(".")
    if kind == "4" or status == MAILBOX_FULL:
        return LATER
    if status in NO_SUCH_ADDRESS:
        return NOBODY
    if status in TOO_LARGE:
        return MESSAGE
    match rest.partition(".")[0]:
        case "1" | "2" | "4":
            return ACCOUNT if status in ("5.1.7", "5.1.8") else PERSON
        case "6":
            return MESSAGE
        case "7":
            return ACCOUNT
        case _:
            return None
