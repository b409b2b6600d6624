"""To which step of a message somebody can react, to which it was, and when. Pure."""

from __future__ import annotations

from gateway.core.records.message import OPEN, Message, Step
from gateway.core.timing import within_ms


def may_have_left(step: Step) -> bool:
    """Whether a provider has it, or may have it."""
    attempt = step.carrier
    return attempt is not None and (attempt.sent_ms > 0 or step.status in OPEN)


def reacted_step(message: Message, channel: str | None) -> int | None:
    """The latest step on the channel (None: on any) that arrived, else the latest that was sent:
    the reaction may have outrun its receipt. None: nothing was sent there."""
    sent: int | None = None
    for index in reversed(range(len(message.steps))):
        step = message.steps[index]
        if channel not in (None, step.channel):
            continue
        if step.arrived:
            return index
        if sent is None and may_have_left(step):
            sent = index
    return sent


def reacted_ms(message: Message, index: int, at_ms: int, now_ms: int) -> int:
    """The moment that an app's clock names, within what can be: nobody reacts before the step was
    sent, or was first taken to be where that is not known yet."""
    step = message.steps[index]
    carrier = step.carrier
    sent_ms = carrier.sent_ms if carrier is not None else 0
    return within_ms(message, max(at_ms, sent_ms or step.first_claimed_ms), now_ms)
