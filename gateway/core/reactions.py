"""Which step of a message somebody reacted to. Pure."""

from __future__ import annotations

from gateway.core.records.message import OPEN, Message


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
        attempt = step.attempt
        if sent is None and attempt is not None and (attempt.sent_ms or step.status in OPEN):
            sent = index
    return sent
