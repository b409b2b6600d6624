"""What came of messages, counted for the metrics: once the transaction that says so is committed.

The time from acceptance to a status is until we learned of it: a receipt that comes late counts
late, as it does for whoever waits for it. It costs 0.65 us a change of status (2026-11-28).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.effects import Effects
from gateway.core.records.message import Message
from gateway.timings import Timings

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3_600, 14_400, 86_400)


class Outcomes(Collector):
    """One process's."""

    def __init__(self) -> None:
        self._seconds = Timings(SECONDS)
        self._fallbacks: Counter[tuple[str, str, str, str]] = Counter()
        self._reactions: Counter[tuple[str, str, str]] = Counter()

    def note(self, message: Message, effects: Effects) -> None:
        """What one event changed."""
        for change in effects.status_changes:
            self._seconds.note(
                (change.status, message.category, change.channel or ""),
                (change.at_ms - message.created_ms) / 1000,
            )
        fallback = effects.fallback
        if fallback is not None:
            which = (message.category, fallback.channel, fallback.to, fallback.reason)
            self._fallbacks[which] += 1
        if effects.reaction is not None:
            channel, kind = effects.reaction
            self._reactions[message.category, channel, kind] += 1

    def collect(self) -> Iterator[Metric]:
        yield self._seconds.metric(
            "kaskad_message_seconds",
            "From acceptance to a change of status, by the channel of the step that brought it.",
            ["status", "category", "channel"],
        )
        fallbacks = CounterMetricFamily(
            "kaskad_message_fallbacks",
            "Steps that followed another, by why that one ended.",
            labels=["category", "channel", "to", "reason"],
        )
        for which, count in self._fallbacks.items():
            fallbacks.add_metric(which, count)
        yield fallbacks
        reactions = CounterMetricFamily(
            "kaskad_message_reactions",
            "What people did with messages: seen, replied, clicked, each once a step.",
            labels=["category", "channel", "kind"],
        )
        for reaction, count in self._reactions.items():
            reactions.add_metric(reaction, count)
        yield reactions
