"""One log line a change of a message, for whoever follows one by its id: `[log] messages` asks.

No line holds an address, a `user`, or a text. A line costs 18 us (2026-11-28), so it is off unless
it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gateway.core.effects import Effects
from gateway.core.records.request import Answer, MessageRequest

_log = structlog.get_logger("messages")


def asked(requests: Sequence[MessageRequest], answers: Sequence[Answer]) -> None:
    """What requests came to. A duplicate names the message that won."""
    for request, answer in zip(requests, answers, strict=True):
        _log.info(
            "message_asked",
            message=answer.id,
            app=request.app,
            campaign=request.campaign,
            category=request.category,
            outcome=answer.outcome,
            reason=answer.reason,
        )


def changed(message_id: str, effects: Effects) -> None:
    """What one event did to a message."""
    for change in effects.status_changes:
        _log.info(
            "message_status",
            message=message_id,
            status=change.status,
            channel=change.channel,
            reason=change.reason,
        )
    if effects.reaction is not None:
        channel, kind = effects.reaction
        _log.info("message_reaction", message=message_id, channel=channel, kind=kind)
    if effects.fallback is not None:
        _log.info(
            "message_fallback",
            message=message_id,
            channel=effects.fallback.channel,
            to=effects.fallback.to,
            reason=effects.fallback.reason,
        )
