"""How long a step waits for its delivery where that is learned: as long as nearly all deliveries of
its provider to that country took. Pure.

Delays are counted in bins, each a fifth wider than the one before, by the day and by the quarter of
an hour. The wait is what SHARE_PERCENT of the deliveries of the last days took at most, each day
counting half of the next one; where the last quarters of an hour say that it takes longer now, it
is what they say. A delivery that came after its step was given up counts as any other. A delay ends
when the receipt is here, because that is what a step waits for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.policy import LearnedWait

SHARE_PERCENT = 99
BINS_A_DOUBLING = 4
BIN_FIRST_MS = 1_000
BIN_LAST = 70  # its bound is beyond two days; longer delays are in it too
DELIVERIES_MIN = 500  # of the last days; with fewer nothing is learned
RECENT_MIN = 200  # ... of the last quarters of an hour
DAYS, QUARTERS = 4, 2  # that count, the present one with them
QUARTER_MS = 900_000

Bins = Mapping[int, int]  # how many deliveries took up to a bin's bound, and longer than the last's
Learned = Mapping[tuple[str, str], int]  # by provider and country: the wait, in milliseconds
NOTHING_LEARNED: Learned = {}


class Delay(msgspec.Struct, frozen=True, gc=False):
    """A delivery of a provider to a country, and how long it took."""

    provider: str
    country: str
    ms: int

    @property
    def bin(self) -> int:
        if self.ms <= BIN_FIRST_MS:
            return 0
        return min(math.ceil(BINS_A_DOUBLING * math.log2(self.ms / BIN_FIRST_MS)), BIN_LAST)


def bound_ms(bin_: int) -> int:
    """The longest delay of a bin, in whole seconds."""
    return math.ceil(BIN_FIRST_MS * math.pow(2, bin_ / BINS_A_DOUBLING) / 1000) * 1000


def learn(days: Sequence[Bins], quarters: Sequence[Bins]) -> int | None:
    """The wait that the deliveries to one country by one provider teach, the newest day and quarter
    first; None where they are too few."""
    if sum(sum(day.values()) for day in days) < DELIVERIES_MIN:
        return None
    wait_ms = _within(days, [0.5**age for age in range(len(days))])
    if sum(sum(quarter.values()) for quarter in quarters) >= RECENT_MIN:
        wait_ms = max(wait_ms, _within(quarters, [1.0] * len(quarters)))
    return wait_ms


def wait_of(rule: LearnedWait, provider: str, country: str, learned: Learned) -> int:
    """How long a step of this provider waits, in milliseconds."""
    known_ms = learned.get((provider, country), rule.max_ms)
    return max(rule.min_ms, min(known_ms, rule.max_ms))


def _within(several: Sequence[Bins], weights: Sequence[float]) -> int:
    """The bound below which nearly all lie."""
    merged: dict[int, float] = {}
    for bins, weight in zip(several, weights, strict=True):
        for bin_, count in bins.items():
            merged[bin_] = merged.get(bin_, 0.0) + weight * count
    later = sum(merged.values()) * (100 - SHARE_PERCENT) / 100
    longest = max(merged)
    while merged[longest] <= later:
        later -= merged.pop(longest)
        longest = max(merged)
    return bound_ms(longest)
