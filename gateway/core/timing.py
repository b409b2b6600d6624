"""How long a step may take, when it is tried again and when its provider is asked, and on which
day something counts. Pure."""

from __future__ import annotations

import datetime
import functools
import zlib

from gateway.core.policy import LOOK_UP_DELAYS_MS, RETRY_DELAY_MAX_MS, Policy
from gateway.core.records.message import Attempt, Message, Step

DAY_MS = 86_400_000
EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()


def day_of(now_ms: int) -> datetime.date:
    """The UTC day by which a moment is priced and booked."""
    return _day(now_ms // DAY_MS)


@functools.lru_cache(maxsize=4)
def _day(days: int) -> datetime.date:
    return datetime.date.fromordinal(EPOCH_ORDINAL + days)


def patience_ms(message: Message, step: Step, now_ms: int) -> int:
    """How long a step that starts now may take: its wait, but not beyond the moment the message is
    worth it.

    It is also the time limit the provider is given, so that it stops trying when we do."""
    return max(min(step.wait_ms, message.expires_ms - now_ms), 1)


def retry_due_ms(
    message: Message, step: Step, attempt: Attempt, policy: Policy, now_ms: int
) -> int:
    """The delay doubles with each try and is spread by up to a fifth, so that a batch does not
    return at once; the spread comes from the message's id, so that the rule stays pure."""
    retry_ms = policy.providers[step.provider_of(attempt)].retry_ms
    delay = retry_ms << min(max(attempt.tries - 1, 0), 16)
    delay = min(delay, RETRY_DELAY_MAX_MS)
    delay += delay * (zlib.crc32(message.id.encode()) % 200) // 1000
    return min(now_ms + delay, message.expires_ms)


def unknown_end_ms(step: Step, attempt: Attempt) -> int:
    """When a step whose answer was lost is given up: its time runs from the claim that was sent."""
    return attempt.claimed_ms + step.wait_ms + step.grace_ms


def unknown_due_ms(step: Step, attempt: Attempt, policy: Policy, now_ms: int) -> int:
    """The next look-up, or the end of the step's time where there is none."""
    end = unknown_end_ms(step, attempt)
    can_look_up = policy.providers[step.provider_of(attempt)].can_look_up
    if can_look_up and attempt.look_ups < len(LOOK_UP_DELAYS_MS):
        return min(now_ms + LOOK_UP_DELAYS_MS[attempt.look_ups], end)
    return end
