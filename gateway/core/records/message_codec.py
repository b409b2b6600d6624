"""A message as it is kept: its record packed and unpacked, and read in its form of schema 2."""

from __future__ import annotations

from gateway.core.addresses import Addresses
from gateway.core.records import schema2
from gateway.core.records.attempt import Attempt, Candidate
from gateway.core.records.codec import (
    GUARDED,
    LOOSE,
    NEWEST,
    RESERVING,
    SCHEMA,
    Codec,
    NewerRecordError,
)
from gateway.core.records.message import (
    OPEN,
    Message,
    MessageStatus,
    Step,
    StepStatus,
)
from gateway.core.records.moved import MovedError, is_moved, moved_to


def _message_of_2(record: bytes) -> Message:
    old = schema2.decode_message(record)
    return Message(
        app=old.app,
        addresses=Addresses(old.to),
        country=old.country,
        category=old.category,
        route=old.route,
        created_ms=old.created_ms,
        updated_ms=old.updated_ms,
        expires_ms=old.expires_ms,
        steps=[_step_of_2(step) for step in old.steps],
        status=old.status,
        current=old.current,
        due_ms=old.due_ms,
        finished=old.status > MessageStatus.SENT,
        baseline_cost=old.baseline_cost,
        billed=old.billed,
        delivered_step=old.delivered_step,
        user=old.user,
        campaign=old.campaign,
        reason=old.reason,
        metadata=old.metadata,
        holds=old.holds,
        content=old.content,
    )


def _step_of_2(old: schema2.Step) -> Step:
    fault = schema2.fault_of(old.fault)
    attempts = []
    if old.started_ms:
        attempts = [
            Attempt(
                series=old.series,
                first_claimed_ms=old.started_ms,
                claimed_ms=old.claimed_ms,
                sent_ms=old.sent_ms,
                provider_id=old.provider_id,
                fault=fault,
                charged=old.charged,
                priced=old.priced,
                claims=old.attempts,
                # Schema 2 counted all tries in one: each limit goes on from there.
                refusals=old.attempts - (old.status in OPEN),
                lost=old.attempts - (old.status == StepStatus.SENDING),
                look_ups=old.look_ups,
            )
        ]
    arrived = old.status >= StepStatus.DELIVERED
    return Step(
        channel=old.channel,
        candidates=[Candidate(old.provider, old.cost)],
        sell=old.sell,
        wait_ms=old.wait_ms,
        grace_ms=old.grace_ms,
        parts=old.parts,
        chosen=0,
        status=old.status,
        done_ms=old.done_ms,
        delivered_ms=old.done_ms if arrived else 0,
        fault=None if attempts else fault,
        attempts=attempts,
    )


message_codec = Codec(Message, "message", _message_of_2, NEWEST)


def pack_message(message: Message) -> bytes:
    """The record as it is kept under its id, which it does not repeat."""
    id_, message.id = message.id, ""
    packed = message_codec.encode_as(_schema_of(message), message)
    message.id = id_
    return packed


def _schema_of(message: Message) -> int:
    """What a process has to read that may change it."""
    if message.loose:
        return LOOSE
    held = message.held
    if message.reserved or (held is not None and held.reason == "budget"):
        return RESERVING
    guarded = message.content_of or message.variant or message.converted or message.links
    return GUARDED if guarded else SCHEMA


def unpack_message(message_id: str, record: bytes) -> Message:
    """Reads what `pack_message` made. Raises NewerRecordError, msgspec.DecodeError, and MovedError
    where the message is in another shard."""
    try:
        message = message_codec.decode(record)
    except NewerRecordError:
        if is_moved(record):
            raise MovedError(moved_to(record)) from None
        raise
    message.id = message_id
    return message
