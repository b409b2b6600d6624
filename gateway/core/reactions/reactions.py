"""To which step of a message somebody can react, to which it was, and when. Pure."""

from __future__ import annotations

from gateway.core.records.message import OPEN, Message, Step
from gateway.core.timing import within_ms

ANSWER_MS = 72 * 3_600_000  # so long after it arrived a message is answered


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


def answers(step: Step, at_ms: int) -> bool:
    """Whether a reply of that moment answers the step: it arrived, and not too long before."""
    return step.delivered_ms > 0 and at_ms - step.delivered_ms <= ANSWER_MS


def had_arrived(step: Step, at_ms: int) -> bool:
    """Whether it is known now that it had arrived by then. Some tell seconds alone."""
    return 0 < step.delivered_ms // 1000 <= at_ms // 1000


def answered_step(message: Message, channel: str, at_ms: int) -> int | None:
    """The step that a reply answers: the latest that had arrived on its channel."""
    steps = enumerate(message.steps)
    arrived = [(s.delivered_ms, i) for i, s in steps if s.channel == channel and answers(s, at_ms)]
    return max(arrived)[1] if arrived else None


def unheard_step(message: Message, channel: str, at_ms: int) -> int | None:
    """The step that a reply may answer: the latest that was out on its channel, not long before,
    and is not known to have arrived."""
    for index in reversed(range(len(message.steps))):
        step = message.steps[index]
        out = step.channel == channel and not step.arrived and may_have_left(step)
        since_ms = at_ms - step.first_claimed_ms // 1000 * 1000
        if out and 0 <= since_ms <= ANSWER_MS:
            return index
    return None


def reacted_ms(message: Message, index: int, at_ms: int, now_ms: int) -> int:
    """The moment that an app's clock names, within what can be: nobody reacts before the step was
    sent, or was first taken to be where that is not known yet."""
    step = message.steps[index]
    carrier = step.carrier
    sent_ms = carrier.sent_ms if carrier is not None else 0
    return within_ms(message, max(at_ms, sent_ms or step.first_claimed_ms), now_ms)
