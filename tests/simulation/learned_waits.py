"""What a learned wait saves against a fixed one of fifteen minutes, and what it costs.

    python -m tests.simulation.learned_waits       writes docs/learned-waits.md, in seconds

Audiences of stated habits are played in virtual time against the rules that decide for real
(`gateway.core.waits`): messages go out one after the other for three days, deliveries are counted
as they come, and each wait is learned from those before it, looked at each minute. The provider
tries for as long as the longest wait. The same seed gives the same page.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gateway.core.money.days import DAY_MS
from gateway.core.policy import LearnedWait
from gateway.core.timing import usual_grace_ms
from gateway.core.waits import (
    DAYS,
    NOTHING_LEARNED,
    QUARTER_MS,
    QUARTERS,
    Delay,
    Learned,
    learn,
    wait_of,
)

PAGE = Path(__file__).parents[2] / "docs" / "learned-waits.md"
RULE = LearnedWait(min_ms=30_000, max_ms=900_000)
FIXED_MS = RULE.max_ms
LOOK_MS = 60_000
DAYS_PLAYED = 3
MESSAGES_A_DAY = 20_000
SMS_COST = 0.04
HOUR_MS = 3_600_000
PAIR = ("viber", "RU")


class Audience(msgspec.Struct, frozen=True):
    """`reached` of 100 messages would be delivered sooner or later: half of them within
    `median_s`, and the more of them later the larger `spread` is (log-normal). From hour
    `slow_from` on, for `slow_hours`, everything takes `slow_times` as long."""

    name: str
    reached: int
    median_s: float
    spread: float
    slow_from: int = 0
    slow_hours: int = 0
    slow_times: int = 1


AUDIENCES = (
    Audience("phones that are on", 95, 3, 0.9),
    Audience("one in four is off", 75, 4, 1.2),
    Audience("many are off for a while", 90, 12, 2.0),
    Audience("a provider that slows down for three hours", 90, 3, 0.9, 60, 3, 60),
)


class Sent(msgspec.Struct, frozen=True):
    """A message: when its step began, what it waits, and what its delivery takes, if any."""

    at_ms: int
    wait_ms: int
    took_ms: int | None

    @property
    def given_up_ms(self) -> int:
        return self.wait_ms + usual_grace_ms(self.wait_ms)

    @property
    def falls_back(self) -> bool:
        return self.took_ms is None or self.took_ms > self.given_up_ms

    @property
    def arrives_twice(self) -> bool:
        return self.took_ms is not None and self.falls_back


class Counters:
    """Deliveries by day and by quarter of an hour, as Redis holds them for all processes."""

    def __init__(self) -> None:
        self._bins: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)

    def count(self, took_ms: int, now_ms: int) -> None:
        bin_ = Delay(*PAIR, took_ms).bin
        for length_ms in (DAY_MS, QUARTER_MS):
            self._bins[length_ms, now_ms // length_ms][bin_] += 1

    def learned(self, now_ms: int) -> Learned:
        spans = ((DAY_MS, DAYS), (QUARTER_MS, QUARTERS))
        days, quarters = (
            [self._bins[ms, now_ms // ms - age] for age in range(kept)] for ms, kept in spans
        )
        wait_ms = learn(days, quarters)
        return {} if wait_ms is None else {PAIR: wait_ms}


def play(audience: Audience, messages_a_day: int, seed: int = 11) -> list[Sent]:
    """Sends to an audience for some days, each message with the wait that is learned by then."""
    chance = random.Random(f"{seed} {audience.name}")
    counters, learned, look_ms = Counters(), NOTHING_LEARNED, 0
    arriving: list[tuple[int, int]] = []  # when, and what it took
    sent = []
    gap_ms = DAY_MS // messages_a_day
    for at_ms in range(0, DAYS_PLAYED * DAY_MS, gap_ms):
        while arriving and arriving[0][0] <= at_ms:
            now_ms, took_ms = heapq.heappop(arriving)
            counters.count(took_ms, now_ms)
        if at_ms >= look_ms:
            learned, look_ms = counters.learned(at_ms), at_ms + LOOK_MS
        took = _took_ms(audience, at_ms, chance)
        if took is not None:
            heapq.heappush(arriving, (at_ms + took, took))
        sent.append(Sent(at_ms, wait_of(RULE, *PAIR, learned), took))
    return sent


def _took_ms(audience: Audience, at_ms: int, chance: random.Random) -> int | None:
    """What the delivery takes; None where it does not come while the provider tries."""
    took_s = chance.lognormvariate(0, audience.spread) * audience.median_s
    reached = chance.random() * 100 < audience.reached
    slow_hours = range(audience.slow_from, audience.slow_from + audience.slow_hours)
    if at_ms // HOUR_MS in slow_hours:
        took_s *= audience.slow_times
    took_ms = round(took_s * 1000)
    return took_ms if reached and took_ms <= FIXED_MS else None


def figures(audience: Audience, sent: Sequence[Sent]) -> list[str]:
    """One row of the table, of all but the first day, on which everything is learned."""
    late = [one for one in sent if one.at_ms >= DAY_MS]
    slow = range(audience.slow_from * HOUR_MS, (audience.slow_from + audience.slow_hours) * HOUR_MS)
    usual = [one.wait_ms for one in late if one.at_ms not in slow]
    longest = max(one.wait_ms for one in late)
    needed = [one for one in late if one.took_ms is None]
    fixed_ms = FIXED_MS + usual_grace_ms(FIXED_MS)
    sooner = [(fixed_ms - one.given_up_ms) / 60_000 for one in needed]
    twice = 1_000 * sum(one.arrives_twice for one in late) / len(late)
    return [
        audience.name,
        _seconds(statistics.median(usual)),
        _seconds(longest),
        f"{1_000 * len(needed) / len(late):.0f}",
        f"{statistics.mean(sooner):.1f} min",
        f"{twice:.1f}",
        f"{twice * SMS_COST:.2f}",
    ]


def page(messages_a_day: int) -> str:
    """The document, whole."""
    return "\n".join(_lines(messages_a_day)) + "\n"


def _lines(messages_a_day: int) -> Iterator[str]:
    yield "# Learned waits"
    yield ""
    yield (
        "This page is written by `python -m tests.simulation.learned_waits`; no figure in it was "
        "typed."
    )
    yield ""
    yield (
        'A step with `wait = "auto"` falls back when 99 % of its provider\'s deliveries to that '
        "country would have come, instead of after a fixed time. The provider may go on trying for "
        "`wait_max`, so that it is known what comes later; such a delivery reaches somebody who "
        "has the SMS already, and is what a learned wait costs."
    )
    yield ""
    yield (
        f"Against a fixed wait of {FIXED_MS // 60_000} minutes, `wait_min` "
        f"{RULE.min_ms // 1000} s and `wait_max` {RULE.max_ms // 60_000} min, "
        f"{messages_a_day:,} messages a day for {DAYS_PLAYED} days, the first of which is not "
        f"counted. A fixed wait has no double deliveries here, because the provider stops when it "
        f"is over. An SMS costs {SMS_COST} EUR."
    )
    yield ""
    yield (
        "| audience | usual wait | longest wait | of 1,000, not reached by Viber | ... whose SMS "
        "comes sooner by | of 1,000, delivered twice | EUR for 1,000 messages |"
    )
    yield "|---|---|---|---|---|---|---|"
    for audience in AUDIENCES:
        yield f"| {' | '.join(figures(audience, play(audience, messages_a_day)))} |"
    yield ""
    yield "The audiences:"
    yield ""
    for audience in AUDIENCES:
        yield f"- {audience.name}: {_habits(audience)}."


def _habits(audience: Audience) -> str:
    told = (
        f"{audience.reached} % can be reached, half of them within {audience.median_s:g} s, and "
        f"95 % within {audience.median_s * 2.718281828 ** (1.645 * audience.spread):.0f} s"
    )
    if audience.slow_hours:
        told += (
            f"; on the third day for {audience.slow_hours} hours everything takes "
            f"{audience.slow_times} times as long"
        )
    return told


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES_A_DAY, help="a day")
    asked = parser.parse_args()
    text = page(asked.messages)
    if asked.messages == MESSAGES_A_DAY:
        PAGE.write_text(text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
