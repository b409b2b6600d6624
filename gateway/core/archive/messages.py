"""A closed message as the archive keeps it. Pure.

Beside the columns that people ask for stands the record itself, without anything that says to whom
it went or what it said: addresses, `user`, `metadata`, texts, variables, and sentences of a
provider, which may quote any of those. From that record a late receipt settles, and it is shown as
ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.archive.hashing import hashes_of
from gateway.core.channels import CHANNELS
from gateway.core.records.message import MESSAGE_NAMES, STEP_NAMES, Message, Step
from gateway.core.records.message_codec import pack_message
from gateway.core.records.words import IMPORTANCE_NAMES, REACTION_NAMES
from providers.contract import Fault

WITHHELD = "withheld"
# A code or a name such as `5.1.1` or `EC_ABSENT_SUBSCRIBER`; seven digits could be a number.
_is_word = re.compile(r"(?!(?:\D*\d){7})[A-Za-z0-9_.:-]{1,64}", re.ASCII).fullmatch


class StepRow(NamedTuple):
    """Amounts in 1e-6 units, moments in epoch milliseconds; None: there was none."""

    channel: str
    provider: str | None
    status: str
    attempts: int
    sent_at: int | None
    delivered_at: int | None
    seen_at: int | None
    clicked_at: int | None
    done_at: int | None
    parts: int | None
    cost: int | None
    billed: int | None
    error: str | None


class MessageRow(NamedTuple):
    """One state of a message: of several rows with its id the one with the highest `revision` is
    how it is now."""

    id: str
    revision: int
    app: str
    campaign: str | None
    variant: str | None
    category: str
    importance: str
    route: str
    country: str
    status: str
    reason: str | None
    reaction: str | None
    created_at: int
    updated_at: int
    phone_hash: str | None
    mail_hash: str | None
    channel: str | None
    provider: str | None
    cost: int | None
    billed: int | None
    currency: str
    steps: list[StepRow]
    record: bytes


def nameless(message: Message) -> bytes:
    """The record without what names a person or says what was said."""
    return pack_message(
        replace(
            message,
            steps=[_wordless(step) for step in message.steps],
            reason=_word(message.reason),
            addresses=Addresses(),
            person="",
            user=None,
            metadata=None,
            tz=None,
            content=b"",
            vars=None,
        )
    )


def _wordless(step: Step) -> Step:
    attempts = [replace(each, fault=_bare(each.fault)) for each in step.attempts]
    return replace(step, fault=_bare(step.fault), attempts=attempts)


def _bare(fault: Fault | None) -> Fault | None:
    """A provider's code and name, where they are words; a name that is a sentence is its code."""
    if fault is None:
        return None
    code = _word(fault.code) or WITHHELD
    return Fault(code, fault.name if _is_word(fault.name) else code, fault.permanent)


def _word(text: str | None) -> str | None:
    return text if text is None or _is_word(text) else WITHHELD


def row_of(message: Message, revision: int, key: bytes, currency: str) -> MessageRow:
    """`key` is that of the hashes."""
    phone_hash, mail_hash = hashes_of(key, message.addresses)
    first = message.steps[message.delivered_step] if message.delivered_step >= 0 else None
    return MessageRow(
        id=message.id,
        revision=revision,
        app=message.app,
        campaign=message.campaign,
        variant=message.variant or None,
        category=message.category,
        importance=IMPORTANCE_NAMES[message.importance],
        route=message.route,
        country=message.country,
        status=MESSAGE_NAMES[message.status],
        reason=_word(message.reason),
        reaction=REACTION_NAMES[message.reaction],
        created_at=message.created_ms,
        updated_at=message.updated_ms,
        phone_hash=phone_hash,
        mail_hash=mail_hash,
        channel=first.channel if first else None,
        provider=first.provider if first else None,
        cost=message.charged,
        billed=message.billed,
        currency=currency,
        steps=list(_steps(message)),
        record=nameless(message),
    )


def _steps(message: Message) -> Iterator[StepRow]:
    for index, step in enumerate(message.steps):
        carrier, fault = step.carrier, _bare(step.latest_fault)
        yield StepRow(
            channel=step.channel,
            provider=step.provider,
            status=STEP_NAMES[step.status],
            attempts=step.tries,
            sent_at=(carrier.sent_ms if carrier else 0) or None,
            delivered_at=step.delivered_ms or None,
            seen_at=step.seen_ms or None,
            clicked_at=step.clicked_ms or None,
            done_at=step.done_ms or None,
            parts=step.parts if _has_parts(step) else None,
            cost=step.charged,
            billed=message.billed_by(index),
            error=fault.code if fault else None,
        )


def _has_parts(step: Step) -> bool:
    return step.channel in CHANNELS and CHANNELS[step.channel].price_unit == "part"
