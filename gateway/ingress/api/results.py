"""What a caller is told about each message it sent: the Structs of CONTRACT.md section 3's results.

The store's `Answer` and every failure are told in the same words for a single message, an item of
an array and a line of a stream.
"""

from __future__ import annotations

import secrets
from typing import Literal, cast

import msgspec
import structlog

from gateway.core.money.money import format_amount
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.message import Message
from gateway.core.records.request import Answer
from gateway.core.views.message import Amount
from gateway.core.views.words import HeldView, Status, Time, held_view, rfc3339
from gateway.ingress.http.problems import (
    Problem,
    Refusal,
    RequestFault,
    invalid,
    problem,
    refuse,
    unavailable,
)
from gateway.ingress.intake.batcher import QueueFull
from gateway.redis.errors import RedisUnavailable
from gateway.store.messages.apply import Applied

UNSET = msgspec.UNSET
_PASSING = ("/docs#backlog", "/docs#rate")  # problems of a 4xx that soon end by themselves

_log = structlog.get_logger("ingress")

WhySuppressed = Literal[
    "frequency_cap",
    "opted_out",
    "campaign_cancelled",
    "campaign_ended",
    "recipients_max",
    "excluded",
    "holdout",
    "budget",
]


class CapHit(msgspec.Struct, frozen=True):
    """The cap that refused: `count` messages of at most `limit` in `window`, free at `retry_at`."""

    name: str
    limit: int
    window: str
    count: int
    retry_at: Time


class BudgetHit(msgspec.Struct, frozen=True):
    """The budget that refused: so much of its `limit` is `used`, with what is reserved for messages
    that are not final."""

    name: str
    limit: Amount
    used: Amount


class Result(msgspec.Struct, omit_defaults=True, kw_only=True):
    """How one message was decided. `index` in an array's answer, `line` in a stream's.

    accepted: it will reach a final status; `held`: it waits for a moment first. duplicate: `id` is
    the message that was there before. suppressed: a cap, a budget or an opt-out, `reason` says
    which. rejected: the request is at fault, `error` says why. error: we could not take it now, and
    the same message can be sent again.
    """

    index: int | msgspec.UnsetType = UNSET
    line: int | msgspec.UnsetType = UNSET
    id: str | msgspec.UnsetType = UNSET
    outcome: Literal["accepted", "duplicate", "suppressed", "rejected", "error"]
    status: Status | msgspec.UnsetType = UNSET
    held: HeldView | msgspec.UnsetType = UNSET
    reason: WhySuppressed | msgspec.UnsetType = UNSET
    cap: CapHit | msgspec.UnsetType = UNSET
    budget: BudgetHit | msgspec.UnsetType = UNSET
    error: Problem | msgspec.UnsetType = UNSET


def result_of(answer: Answer | Problem | Exception) -> Result:
    """The result of what the store said, or of why it was not asked or could not say anything."""
    if not isinstance(answer, Answer):
        return failure(answer if isinstance(answer, Problem) else refusal_of(answer).problem)
    outcome = answer.outcome
    if outcome in ("accepted", "duplicate"):
        return Result(
            outcome=outcome,
            id=cast("str", answer.id),
            status=cast("Status", answer.status),
            held=held_view(answer.held) or UNSET,
        )
    if outcome == "suppressed":
        return _suppressed(answer)
    if outcome == "conflict":
        return failure(conflict())
    if outcome == "unavailable":
        return failure(newer_record())
    if outcome == "over_quota":
        return failure(problem("day-max", answer.detail))
    if outcome == "failed":
        return failure(incident_of(answer.detail))
    return failure(invalid([RequestFault(answer.pointer, answer.detail)]))


def failure(why: Problem) -> Result:
    """One message that was not taken."""
    return Result(outcome=outcome_of(why), error=why)


def outcome_of(why: Problem) -> Literal["rejected", "error"]:
    """Whether something was not taken by the caller's fault, or for now by ours."""
    caller = why.status < 500 and why.type not in _PASSING
    return "rejected" if caller else "error"


def conflict() -> Problem:
    return problem(
        "idempotency-conflict",
        "This idempotency key came with another body within the last 24 hours: "
        "repeat that body, or take a new key.",
    )


def newer_record() -> Problem:
    """Why an older process cannot serve what a newer one keeps."""
    return problem(
        "unavailable",
        "A record of this person was written by a newer Kaskad, and an older one answered: send it "
        "again.",
    )


def of_newer(what: str) -> Refusal:
    """The same of what is no person's: `what` was written or declared."""
    return refuse(
        "unavailable",
        f"{what} by a newer Kaskad, and an older one answered: send it again, to a server that is "
        "upgraded.",
    )


def no_message() -> Problem:
    return problem("not-found", "Your app has no message of this id; it may have been forgotten.")


def own_message(found: Message | Exception | None, app: str) -> Message | Problem:
    """A message that was found for an app, or why it has none."""
    if isinstance(found, Exception):
        return refusal_of(found).problem
    return no_message() if found is None or found.app != app else found


def message_after(applied: Applied, said: str) -> Message | Problem:
    """The message that an event was applied to, or what kept it from that; `said` is logged where
    it was set aside."""
    if applied.newer:
        return newer_record()
    if applied.set_aside or applied.postponed:
        return incident_of(said)
    return no_message() if applied.message is None else applied.message


def refusal_of(error: Exception) -> Refusal:
    """What a caller is told of an exception; a bug is logged with the incident that is told."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RedisUnavailable):
        _log.debug("store_away", reason=str(error))
        return unavailable()
    if isinstance(error, NewerRecordError):
        return Refusal(newer_record())
    if isinstance(error, QueueFull):
        return Refusal(problem("unavailable", "Too many requests wait already: send it again."))
    return Refusal(incident_of(repr(error), error))


def incident_of(reason: str, error: Exception | None = None) -> Problem:
    """A fault of ours, logged with the incident that the caller is told."""
    incident = secrets.token_hex(6)
    _log.error("incident", incident=incident, reason=reason, exc_info=error)
    told = problem("internal", "This is a fault of ours and was logged. Name the incident.")
    return msgspec.structs.replace(told, incident=incident)


def _suppressed(answer: Answer) -> Result:
    if (full := answer.budget) is not None:
        shown = BudgetHit(full.name, format_amount(full.limit), format_amount(full.used))
        return Result(outcome="suppressed", reason="budget", budget=shown)
    if answer.cap is None:
        # What was remembered before there were other reasons has none.
        reason = cast("WhySuppressed", answer.reason or "opted_out")
        return Result(outcome="suppressed", reason=reason)
    hit = answer.cap
    cap = CapHit(hit.name, hit.limit, hit.window, hit.count, rfc3339(hit.retry_at_ms))
    return Result(outcome="suppressed", reason="frequency_cap", cap=cap)
