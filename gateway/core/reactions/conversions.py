"""What a conversion is put down to. Pure: a function of what is known of the messages, in whatever
order it became known.

The last human click within the click window has it; without one the last delivery within the
delivery window. A correction goes where the latest conversion before it went, however long ago that
was. Other channels that touched the person in the same campaign within these windows assisted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from gateway.core.records.message import Message, Step

By = Literal["click", "delivery", "conversion"]


class ConversionRule(msgspec.Struct, frozen=True):
    """For how long a click, and without one a delivery, has what follows."""

    click_ms: int = 7 * 86_400_000
    delivery_ms: int = 86_400_000


class Touch(NamedTuple):
    """Something of a message that reached its person; the latest of several is the greatest."""

    at_ms: int
    message: str
    step: int
    channel: str
    campaign: str | None
    by: By


class Attribution(NamedTuple):
    """Which touch has it, and those of other channels that assisted, one each."""

    touch: Touch
    assisted: tuple[Touch, ...]


def attribute(
    messages: Iterable[Message], at_ms: int, rule: ConversionRule, *, corrects: bool = False
) -> Attribution | None:
    """Of one person's messages; None: nothing has it."""
    touches = [touch for m in messages for touch in _touches(m, at_ms, rule)]
    for by in ("conversion", "click", "delivery") if corrects else ("click", "delivery"):
        if found := [touch for touch in touches if touch.by == by]:
            had = max(found)
            return Attribution(had, () if corrects else tuple(_assisting(touches, had)))
    return None


def _touches(message: Message, at_ms: int, rule: ConversionRule) -> Iterator[Touch]:
    for index, step in enumerate(message.steps):
        moments: tuple[tuple[By, int, int], ...] = (
            ("conversion", step.converted_ms, at_ms),
            ("click", _clicked_ms(step, at_ms), rule.click_ms),
            ("delivery", step.delivered_ms, rule.delivery_ms),
        )
        for by, moment_ms, window_ms in moments:
            if moment_ms and at_ms - window_ms <= moment_ms <= at_ms:
                yield Touch(moment_ms, message.id, index, step.channel, message.campaign, by)


def _clicked_ms(step: Step, at_ms: int) -> int:
    """The last click up to that moment of which the step knows; it knows the first and the last."""
    return step.reclicked_ms if 0 < step.reclicked_ms <= at_ms else step.clicked_ms


def _assisting(touches: Iterable[Touch], had: Touch) -> Iterator[Touch]:
    latest: dict[str, Touch] = {}
    for touch in sorted(touches):
        if touch.by != "conversion" and touch.campaign == had.campaign:
            latest[touch.channel] = touch
    latest.pop(had.channel, None)
    yield from latest.values()
