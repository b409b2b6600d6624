"""What is known to have happened to a message, in order. Pure: a function of its record alone.

A record keeps moments and counters and no list of events: of a provider's tries the first and the
latest have a moment, and the others are counted. What has no moment of its own is told at the one
that it came with.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.core.reactions.reactions import answers, had_arrived
from gateway.core.records.attempt import Attempt
from gateway.core.records.message import (
    ARRIVED,
    MESSAGE_NAMES,
    STEP_NAMES,
    Message,
    Step,
    StepStatus,
)

# Why a step is skipped at acceptance, where it does not say when.
_AT_ACCEPTANCE = frozenset(("no_address", "no_content", "importance"))
_AT_THE_END = frozenset(("ttl", "cancelled", "erased", "converted"))
_ENDED = (StepStatus.EXPIRED, StepStatus.UNDELIVERED, StepStatus.REJECTED)


class Happening(msgspec.Struct, frozen=True):
    """One thing that happened, to the step of that index; None: to the message as a whole."""

    at_ms: int
    event: str
    step: int | None = None
    channel: str | None = None
    provider: str | None = None
    detail: str | None = None


def timeline(message: Message) -> list[Happening]:
    """The oldest first; what happened in one moment stands in the order of the route."""
    told = [Happening(message.created_ms, "accepted", detail=f"route {message.route}")]
    for index, step in enumerate(message.steps):
        told += _of_step(message, index, step)
    if message.ended_ms:
        # A late delivery has taken the place of how it ended.
        name = "ended" if message.status in ARRIVED else MESSAGE_NAMES[message.status]
        told.append(Happening(message.ended_ms, name, detail=message.reason))
    return sorted(told, key=lambda happening: happening.at_ms)


def _of_step(message: Message, index: int, step: Step) -> Iterator[Happening]:
    def happened(at_ms: int, event: str, detail: str | None = None) -> Happening:
        return Happening(at_ms, event, index, step.channel, step.provider, detail)

    if index and _has_own_start(message, step):
        yield happened(step.clock.since_ms, "started")
    for attempt in step.attempts:
        provider = step.provider_of(attempt)
        for at_ms, event, detail in _of_attempt(attempt):
            yield Happening(at_ms, event, index, step.channel, provider, detail)
    fault = step.latest_fault
    why = fault.name if fault is not None else None
    if step.status == StepStatus.SKIPPED:
        code = step.fault.code if step.fault is not None else None
        yield happened(_skipped_ms(message, index, step), "skipped", code)
    elif step.status == StepStatus.UNKNOWN:
        since_ms = step.done_ms or step.claimed_ms
        yield happened(since_ms, "unknown", "the provider's answer was lost")
    elif step.status in _ENDED:
        yield happened(step.done_ms or message.updated_ms, STEP_NAMES[step.status], why)
    if step.delivered_ms:
        double = message.billed_by(index) is None
        yield happened(step.delivered_ms, "delivered", "a double delivery" if double else None)
    for at_ms, event in _by_person(step):
        yield happened(at_ms, event)


def _by_person(step: Step) -> Iterator[tuple[int, str]]:
    """What the person did with it."""
    if step.seen_ms:
        yield step.seen_ms, "seen"
    if had_arrived(step, step.replied_ms) and answers(step, step.replied_ms):
        yield max(step.replied_ms, step.delivered_ms), "replied"  # some tell whole seconds
    if step.clicked_ms:
        yield step.clicked_ms, "clicked"
    if step.converted_ms:
        yield step.converted_ms, "converted"


def _has_own_start(message: Message, step: Step) -> bool:
    """Whether its clock says when it started: that of a marketing step is set again when its turn
    comes, and any clock when it is stopped."""
    return step.clock.since_ms > 0 and not step.clock.used_ms and message.category != "marketing"


def _of_attempt(attempt: Attempt) -> Iterator[tuple[int, str, str | None]]:
    if not attempt.claimed_ms:
        return  # it ended before anybody sent it
    if attempt.first_claimed_ms and attempt.first_claimed_ms != attempt.claimed_ms:
        yield attempt.first_claimed_ms, "tried", None
    yield attempt.claimed_ms, "tried", _counted(attempt)
    if attempt.sent_ms:
        yield attempt.sent_ms, "sent", attempt.provider_id
    if attempt.absent_ms:
        yield attempt.absent_ms, "not_known", "asked, the provider did not know it"


def _counted(attempt: Attempt) -> str | None:
    """What the latest of several tries says of all of them."""
    counts = {
        "put back unsent": attempt.put_backs,
        "refused for now": attempt.refusals,
        "without a connection": attempt.unreachable,
        "answers lost": attempt.lost,
    }
    told = [f"{what}: {count}" for what, count in counts.items() if count]
    if attempt.claims > 1:
        told.insert(0, f"the last of {attempt.claims}")
    if told and attempt.fault is not None and not attempt.fault.permanent:
        told.append(attempt.fault.name)
    return ", ".join(told) or None


def _skipped_ms(message: Message, index: int, step: Step) -> int:
    """When the step was skipped, as near as is known: what did not start keeps no moment."""
    code = step.fault.code if step.fault is not None else ""
    if step.done_ms:
        return step.done_ms
    if code in _AT_ACCEPTANCE:
        return message.created_ms
    if code == "reacted":
        moments = [at_ms for each in message.steps for at_ms in (each.seen_ms, each.clicked_ms)]
        return min(filter(None, moments), default=message.updated_ms)
    if code == "delivered" and message.delivered_step >= 0:
        first_ms = message.steps[message.delivered_step].delivered_ms
        arrived = [s.delivered_ms for s in message.steps if s.arrived and s.until == "delivered"]
        return min(arrived, default=first_ms)
    if code in _AT_THE_END or code == message.reason:
        return message.ended_ms or message.updated_ms
    # Passed over: when the one before it ended, or else the one after it started.
    ended = [earlier.done_ms for earlier in message.steps[:index] if earlier.done_ms]
    started = [s.clock.since_ms for s in message.steps[index + 1 :] if s.clock.since_ms]
    return next(iter([*ended[-1:], *started, message.created_ms]))
