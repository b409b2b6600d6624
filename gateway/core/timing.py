"""How long a step may take, when it is tried again and when its provider is asked, and on which
day something counts. Pure.

A step's time runs from the moment it may start, sent or not, for its wait, and never beyond the
moment the message is worth it. Of a marketing step that only waits for its turn the clock is
stopped: a campaign longer than the wait, at its provider's rate, must not end on the next channel.
"""

from __future__ import annotations

import zlib

from gateway.core.policy import (
    AWAY_LOOK_MAX_MS,
    AWAY_LOOK_MIN_MS,
    LOOK_UP_MAX_MS,
    LOOK_UP_MIN_MS,
    PASSED_OVER_MAX_MS,
    PASSED_OVER_MIN_MS,
    RETRY_DELAY_MAX_MS,
    Policy,
)
from gateway.core.records.attempt import Attempt
from gateway.core.records.message import Message, Step, StepStatus

GRACE_MAX_MS = 10_000
DOUBLINGS_MAX = 16  # of a delay; beyond it every limit is reached


def usual_grace_ms(wait_ms: int) -> int:
    """How much longer than its wait a step's last receipt has, where nothing else is said."""
    return min(wait_ms // 10, GRACE_MAX_MS)


def began_ms(message: Message, step: Step) -> int:
    """Since when the step's clock runs, or since when it is stopped.

    Of an older record that does not say so: a marketing step that was claimed began then, since
    its clock stood still in its lane; any other first step with the message, and a later one with
    its first claim at the latest."""
    if step.clock.since_ms:
        return step.clock.since_ms
    claimed_ms = step.first_claimed_ms
    if step is message.steps[0] and not (claimed_ms and message.category == "marketing"):
        return message.created_ms
    return claimed_ms or message.updated_ms


def within_ms(message: Message, at_ms: int, now_ms: int) -> int:
    """The moment that a provider's clock names, within what can be."""
    return max(min(at_ms, now_ms), message.created_ms)


def is_stopped(message: Message, step: Step) -> bool:
    """Whether the step's clock stands still: it waits for its turn, or may not start yet, or is
    held for a provider that is away."""
    if step.status == StepStatus.QUEUED:
        return message.category == "marketing" or step.clock.used_ms > 0
    held = message.held
    return held is not None and held.stops_clock and step.status == StepStatus.RETRYING


def may_be_out(message: Message, step: Step, restored_ms: int) -> bool:
    """Whether the step may have been sent after the backup from which the data was restored, and
    its provider did not say since that it was not."""
    if message.created_ms >= restored_ms:
        return False
    attempt = step.attempt
    if attempt is None or attempt.candidate != step.chosen:
        return True
    return attempt.absent_ms < restored_ms


def deadline_ms(message: Message, step: Step) -> int:
    """When the step's time is over; of a stopped clock, when it would be if it ran from then."""
    return min(began_ms(message, step) + step.wait_ms - step.clock.used_ms, message.expires_ms)


def patience_ms(message: Message, step: Step, now_ms: int) -> int:
    """The time limit the provider is given: what is left of the step's time, so that it stops
    trying when we do. Where the wait was learned, of the longest it could be: what came too late
    must be counted, or each wait would be learned from those that a shorter one left."""
    end = began_ms(message, step) + max(step.wait_ms, step.auto) - step.clock.used_ms
    return max(min(end, message.expires_ms) - now_ms, 1)


def end_ms(message: Message, step: Step) -> int:
    """When a step that is out at its provider is given up: its last receipt has a little longer."""
    return deadline_ms(message, step) + step.grace_ms


def react_end_ms(message: Message, now_ms: int) -> int:
    """Until when somebody may react to what was delivered before a further step starts. A
    provider's clock says when that was, within what can be."""
    ends = [
        max(min(step.delivered_ms, now_ms), step.attempts[0].first_claimed_ms) + step.react_ms
        for step in message.steps
        if step.arrived and step.attempts
    ]
    return min(max(ends, default=now_ms), message.expires_ms)


def is_over(message: Message, step: Step, now_ms: int) -> bool:
    """Whether nothing is left of the step's time."""
    if is_stopped(message, step):
        return step.clock.used_ms >= step.wait_ms or now_ms >= message.expires_ms
    return now_ms >= deadline_ms(message, step)


def queued_due_ms(message: Message, step: Step, policy: Policy) -> int:
    """When the timer of a step in its lane fires."""
    if is_stopped(message, step):
        return stopped_due_ms(message, step, policy, began_ms(message, step), None)
    return deadline_ms(message, step)


def stopped_due_ms(
    message: Message, step: Step, policy: Policy, now_ms: int, away_ms: int | None
) -> int:
    """When a step whose clock is stopped is over, as far as is known: with its message, unless the
    clock runs while its provider is away; `away_ms` is since when that is, None while it is up.

    While it is up the step is looked at again when it would be over if the provider left now, but
    not more often than each AWAY_LOOK_MIN_MS, however little of its time is left."""
    if policy.when_away(message.category) != "wait":
        return message.expires_ms
    left_ms = step.wait_ms - step.clock.used_ms
    if away_ms is not None:
        due_ms = max(began_ms(message, step), away_ms) + left_ms
    elif left_ms > 0:
        due_ms = now_ms + max(left_ms, AWAY_LOOK_MIN_MS)
    else:
        due_ms = now_ms
    return min(due_ms, message.expires_ms)


def away_until_ms(message: Message, now_ms: int) -> int:
    """When a step that is held until its provider is back is looked at again: a quarter of the
    message's age later, so that what waits for days costs little."""
    wait_ms = (now_ms - message.created_ms) // 4
    return now_ms + min(max(wait_ms, AWAY_LOOK_MIN_MS), AWAY_LOOK_MAX_MS)


def retry_due_ms(
    message: Message, step: Step, attempt: Attempt, policy: Policy, now_ms: int, failures: int
) -> int:
    """The delay doubles with each failure of its kind and is spread by up to a fifth, so that a
    batch does not return at once; the spread comes from the message's id, so that the rule stays
    pure. It is never beyond the step's time."""
    retry_ms = policy.provider(step.provider_of(attempt)).retry_ms
    delay = min(retry_ms << min(failures - 1, DOUBLINGS_MAX), RETRY_DELAY_MAX_MS)
    return min(now_ms + _spread(message, delay), deadline_ms(message, step))


def passed_over_due_ms(message: Message, step: Step, now_ms: int) -> int:
    """When a step whose provider is away, and after which there is none, is in its lane again: the
    later the longer it waits."""
    age_ms = now_ms - began_ms(message, step)
    delay = min(max(age_ms, PASSED_OVER_MIN_MS), PASSED_OVER_MAX_MS)
    return min(now_ms + _spread(message, delay), deadline_ms(message, step))


def look_up_due_ms(
    message: Message, step: Step, attempt: Attempt, policy: Policy, now_ms: int
) -> int:
    """The next look-up of a step whose answer was lost, or the end of its time. Asked again and
    again while it lives, after 5 s first and then twice as long each time, up to minutes. Where
    that is too late to send it again, half of what is left: a provider that is back is asked in
    time."""
    end = end_ms(message, step)
    if not policy.provider(step.provider_of(attempt)).can_look_up:
        return end
    delay = min(LOOK_UP_MIN_MS << min(attempt.look_ups, DOUBLINGS_MAX), LOOK_UP_MAX_MS)
    left = deadline_ms(message, step) - now_ms
    if delay >= left > 2 * LOOK_UP_MIN_MS:
        delay = left // 2
    return min(now_ms + delay, end)


def _spread(message: Message, delay_ms: int) -> int:
    return delay_ms + delay_ms * (zlib.crc32(message.id.encode()) % 200) // 1000
