"""After a storm: was anything sent that was not to be sent any more, or not yet? Pure.

By the provider's own book, whose clock is the true one, as is that of the client who was told. What
a dispatcher had claimed by then had left: it may have stood still with it (SIGSTOP), and the way to
the provider may have hung. So much later (`LEFT_MS`) nothing comes that was claimed before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.chaos.audience import CANCELLED, OPENS, PAUSED
from bench.chaos.records import STEP_SKIPPED, Record

LEFT_MS = 11_000
KNOWN_MS = 2_000  # what is declared of a campaign holds everywhere by then
CLOCKS_MS = 9_000  # how far a machine's clock may be ahead

Sent = Mapping[str, Sequence[int]]  # by message: when the provider was sent a step of it
Found = tuple[str, dict[str, Any]]


def found(
    messages: Mapping[str, Record],
    sent: Sent,
    reacted: Mapping[str, float],
    campaigns: Mapping[str, float],
    opens_ms: float,
) -> Iterator[Found]:
    """Kinds of what must not be, with what was found of each. `reacted` and `campaigns` say when
    that was answered; `opens_ms` is when the campaign of the send window may begin."""

    def times(where: Callable[[Record], bool], wrong: Callable[[Record, int], bool]) -> Any:
        late = {
            m.id: [at_ms for at_ms in sent.get(m.id, ()) if wrong(m, at_ms)]
            for m in messages.values()
            if where(m)
        }
        return {id_: those for id_, those in late.items() if those}

    forgotten = {id_: at_ms for id_, at_ms in reacted.items() if not messages[id_].reaction}
    yield "reactions that were taken are forgotten", forgotten
    yield (
        "people who reacted have a step to come",
        {
            m.id: m.steps
            for m in messages.values()
            if m.reaction and any(s.status < STEP_SKIPPED and not s.attempts for s in m.steps)
        },
    )
    yield (
        "people who reacted got a further step",
        times(lambda m: m.id in reacted, lambda m, at_ms: at_ms > reacted[m.id] + LEFT_MS),
    )
    late_ms = KNOWN_MS + LEFT_MS
    if "cancelled" in campaigns:
        yield (
            "messages of a cancelled campaign were sent",
            times(
                lambda m: m.campaign == CANCELLED,
                lambda _, at_ms: at_ms > campaigns["cancelled"] + late_ms,
            ),
        )
    if "paused" in campaigns and "resumes" in campaigns:
        yield (
            "messages of a paused campaign were sent",
            times(
                lambda m: m.campaign == PAUSED,
                lambda _, at_ms: campaigns["paused"] + late_ms < at_ms < campaigns["resumes"],
            ),
        )
    if declared_ms := campaigns.get(f"{OPENS} is declared"):
        yield (
            "messages were sent before their window opened",
            times(
                lambda m: m.campaign == OPENS,
                lambda _, at_ms: declared_ms + late_ms < at_ms < opens_ms - CLOCKS_MS,
            ),
        )


def counts(messages: Mapping[str, Record], reacted: Mapping[str, float]) -> Counter[str]:
    """How often what must be shown came at all."""
    counted: Counter[str] = Counter()
    counted["reactions told by the app"] = len(reacted)
    counted["people who reacted"] = sum(m.reaction > 0 for m in messages.values())
    for message in messages.values():
        counted.update(
            f"skipped: {step.skipped}" for step in message.steps if step.status == STEP_SKIPPED
        )
        counted["cancelled with their campaign"] += message.reason == "campaign_cancelled"
    return counted
