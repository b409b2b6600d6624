"""What a server's reply means for the one mail that was to be sent. Pure.

Until the mail itself was accepted nothing was: a refusal says whom it speaks of, a server that is
busy is asked again, and what concerns the account stops everybody.
"""

from __future__ import annotations

from typing import Literal

from providers.contract import (
    AccountFault,
    NotSent,
    Outcome,
    SendFault,
    Submitted,
    Throttled,
)
from providers.mail import reasons
from providers.mail.mailbox import blanked
from providers.reasons import ACCOUNT, MESSAGE, Reason
from providers.smtp.wire import Reply

Stage = Literal["sender", "recipient", "content"]  # what was refused, or accepted last

NAME_CHARS_MAX = 120
_NOT_LOGGED_IN = frozenset({530, 534, 535, 538})


def outcome(ref: str, stage: Stage, reply: Reply, *, delivered: bool) -> Outcome:
    """What became of a mail. Raises Throttled and AccountFault."""
    if reply.good:
        return Submitted(ref, delivered=delivered)
    if reply.code == 421:
        raise Throttled(_code(reply), blanked(reply.text))
    if reply.code in _NOT_LOGGED_IN:
        detail = f"{blanked(reply.text)} Check user_env and password_env."
        raise AccountFault(_code(reply), detail)
    if stage == "sender" and reply.code < 500:
        raise Throttled(_code(reply), blanked(reply.text))
    name = blanked(reply.text)[:NAME_CHARS_MAX]
    return _reason(stage, reply).refused(ref, _code(reply), name)


def no_session(reply: Reply) -> SendFault:
    """Why a server does not let us in: nothing was sent."""
    if reply.code < 500:
        return Throttled(_code(reply), blanked(reply.text))
    detail = f"{blanked(reply.text)} Check host, port, tls, user and password."
    return AccountFault(_code(reply), detail)


def lost(what: str) -> NotSent:
    """The connection ended before any mail was on it."""
    return NotSent("connection_lost", what)


def _reason(stage: Stage, reply: Reply) -> Reason:
    if stage == "sender":
        return MESSAGE if reply.code == 552 or reply.enhanced in reasons.TOO_LARGE else ACCOUNT
    if stage == "recipient":
        return reasons.of_recipient(reply.code, reply.enhanced, reply.text)
    return reasons.of_content(reply.code, reply.enhanced)


def _code(reply: Reply) -> str:
    return reply.enhanced or f"smtp_{reply.code}"
